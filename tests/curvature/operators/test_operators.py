"""Gauss-Newton, Fisher, restricted and exact operators against closed forms."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles.curvature import (
    dense,
    jacobian_of_net,
    net,
    plain_jacobian,
    principal_rows,
    regression_data,
    small_model,
    softmax_hessian,
    squares,
    with_spectrum,
)
from torch import Tensor, nn

import landscape as ls
from landscape.curvature import LinearOperator, MatrixOperator, RestrictedOperator
from landscape.curvature.spectrum.result import random_unit
from landscape.curvature.spectrum.trace import _signs
from landscape.errors import UserError
from landscape.tasks.batches import make_batches

CLOSE = {"rtol": 1e-10, "atol": 1e-13}


def split_squares(model, batch):
    """The loss of `squares` in two halves."""
    x, y = batch
    return model(x)[:, 0], lambda z: (0.5 * (z - y).square(), len(y))


def softmax_split(labels):
    return lambda m, x: (m(x), lambda z: (F.cross_entropy(z, labels, reduction="none"), len(z)))


def test_gauss_newton_of_softmax_regression_is_its_hessian_in_closed_form() -> None:
    x, _, labels = regression_data()
    model = nn.Linear(4, 3, bias=False).double()
    G = ls.GGNOperator(model, [x], split=softmax_split(labels))
    torch.testing.assert_close(dense(G), softmax_hessian(x, model.weight.detach()), **CLOSE)


def test_gauss_newton_of_a_network_is_the_hand_derived_jacobian_squared_and_not_its_hessian() -> (
    None
):
    x, y, _ = regression_data()
    model = net()
    J = jacobian_of_net(model, x)
    G = dense(ls.GGNOperator(model, [(x, y)], split=split_squares))
    torch.testing.assert_close(G, J.t() @ J / len(x), **CLOSE)
    H = dense(ls.HessianOperator(model, [(x, y)], loss=squares))
    assert float((G - H).norm() / H.norm()) > 0.01
    assert float(torch.linalg.eigvalsh(H)[0]) < -1e-3  # H is indefinite where G is not
    assert float(torch.linalg.eigvalsh(G)[0]) > -1e-12


def test_gauss_newton_is_the_hessian_where_the_residuals_vanish() -> None:
    x, _, _ = regression_data()
    model = net()
    y = model(x)[:, 0].detach()
    G = ls.GGNOperator(model, [(x, y)], split=split_squares)
    H = ls.HessianOperator(model, [(x, y)], loss=squares)
    torch.testing.assert_close(dense(G), dense(H), **CLOSE)


class Echo(LinearOperator):
    """The identity, of a stated type on a stated device."""

    size, description = 3, {}  # type: ignore

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        self._told = dtype, torch.device(device)

    dtype = property(lambda self: self._told[0])  # type: ignore
    device = property(lambda self: self._told[1])  # type: ignore

    def _apply(self, v: Tensor) -> Tensor:
        return v

    _apply_rows = _apply_afresh = _apply


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vectors_of_any_type_reach_an_operator_in_its_own_type_on_its_own_device(
    dtype, device
) -> None:
    operator = Echo(dtype, device)
    drawn = torch.Generator().manual_seed(0)
    vectors = (np.arange(3), np.ones(3, np.float32), torch.ones(3), torch.ones(3).double())
    for number, v in enumerate(vectors, start=1):
        block = torch.as_tensor(v)[:, None].repeat(1, 2)
        for found in (operator @ v, operator.matvec_afresh(v), operator @ block):
            assert (found.dtype, found.device.type) == (dtype, device)
        assert operator.num_matvecs == 4 * number  # the block counts as two
    for v in (random_unit(operator, drawn), _signs(operator, drawn)):
        assert (v.dtype, v.device.type) == (dtype, device)


def test_the_empirical_fisher_of_a_network_is_the_second_moment_of_hand_derived_gradients() -> None:
    x, y, _ = regression_data()
    model = net()
    gradients = (model(x)[:, 0] - y).detach()[:, None] * jacobian_of_net(model, x)
    F_hat = ls.FisherOperator(model, [(x, y)], split=split_squares)
    torch.testing.assert_close(dense(F_hat), gradients.t() @ gradients / len(x), **CLOSE)
    torch.testing.assert_close(F_hat.gradient(), gradients.mean(0), **CLOSE)
    assert F_hat.loss() == pytest.approx(
        float(0.5 * (model(x)[:, 0] - y).square().mean()), rel=1e-12
    )


@pytest.mark.parametrize("operator", [ls.GGNOperator, ls.FisherOperator])
def test_unequal_batches_and_dropped_graphs_change_nothing(operator) -> None:
    x, y, _ = regression_data()
    model = net()
    whole = dense(operator(model, [(x, y)], split=split_squares))
    batches = [(x[:2], y[:2]), (x[2:9], y[2:9]), (x[9:], y[9:])]
    for keep in (True, False):
        parts = operator(model, batches, split=split_squares, keep_graph=keep)
        torch.testing.assert_close(dense(parts), whole, **CLOSE)


EXAMPLES = [
    ls.Example(prompt=t, candidates=(" terrible", " great"), label=i % 2)
    for i, t in enumerate(["a", "a film about war", "so it goes", "no"])
]


@pytest.mark.parametrize("name", ["opt", "llama"])
@pytest.mark.parametrize("loss", ["classification", "language modelling"])
def test_on_a_masked_language_model_both_equal_the_dense_definition(name, loss) -> None:
    """Per-position closed forms around a Jacobian of the plain model: diag p - p p'; p - e_y."""
    model, tokenizer = small_model(name, scale=4.0), ls.tiny_tokenizer()
    (batch,) = make_batches(EXAMPLES, tokenizer, 4, loss=loss)
    mask = ls.random_mask(model, density=0.3, seed=2)
    rows, kept = principal_rows(mask), batch["attention_mask"]
    places = (kept.cumsum(1) - 1).clamp(min=0)

    def logits(call) -> Tensor:
        options = {"position_ids": places, "use_cache": False}
        out = call(input_ids=batch["input_ids"], attention_mask=kept, **options).logits
        if loss == "classification":
            return out[:, -1].gather(1, batch["candidate_ids"])
        return out[:, -batch["targets"].shape[1] :][batch["target_mask"]]

    z = logits(model).detach()
    wanted = batch["labels"] if loss == "classification" else batch["targets"][batch["target_mask"]]
    J = plain_jacobian(model, list(mask.shapes), logits)[..., rows]
    p = z.softmax(-1)
    G = sum(j.t() @ (torch.diag(q) - torch.outer(q, q)) @ j for j, q in zip(J, p)) / len(p)
    slopes = p - F.one_hot(wanted, p.shape[-1])
    g = torch.einsum("ic,ick->ik", slopes, J)
    ls.attach(model, mask)
    tolerance = 2e-5 if name == "llama" else 1e-9  # RMSNorm works in float32
    for operator, expected in (
        (ls.GGNOperator(model, [batch]), G),
        (ls.FisherOperator(model, [batch]), g.t() @ g / len(g)),
    ):
        assert float((dense(operator) - expected).norm() / expected.norm()) < tolerance
        torch.testing.assert_close(operator.gradient(), g.mean(0), rtol=1e-4, atol=tolerance)
        hessian = ls.HessianOperator(model, [batch])
        assert operator.loss() == pytest.approx(hessian.loss(), rel=1e-6)
        assert operator.description["loss_terms"] == hessian.description["loss_terms"]


def test_candidates_of_several_tokens_and_of_unequal_number_have_the_loss_of_task_loss() -> None:
    model, tokenizer = small_model("llama", scale=4.0), ls.tiny_tokenizer()
    ls.attach(model, ls.random_mask(model, density=0.3, seed=2))
    examples = [
        ls.Example(prompt="who", candidates=(" me", " you there", " it"), label=1),
        ls.Example(prompt="which one", candidates=(" this", " that"), label=0),
    ]
    (batch,) = make_batches(examples, tokenizer, 2)
    assert "rows" in batch
    for operator in (ls.GGNOperator, ls.FisherOperator):
        A, H = operator(model, [batch]), ls.HessianOperator(model, [batch])
        assert A.loss() == pytest.approx(H.loss(), rel=1e-6)
        torch.testing.assert_close(A.gradient(), H.gradient(), rtol=1e-4, atol=1e-6)
        assert float(torch.linalg.eigvalsh(dense(A))[0]) > -1e-6
        assert ls.health_check(A, tol=1e-4).healthy


@pytest.mark.parametrize("operator", [ls.GGNOperator, ls.FisherOperator])
def test_gauss_newton_and_fisher_refuse_what_the_hessian_refuses(operator) -> None:
    x, y, _ = regression_data()
    with pytest.raises(UserError, match="finite loss"):
        operator(net(), [(x, y * float("nan"))], split=split_squares)
    with pytest.raises(UserError, match="depends on the trainable parameters"):
        operator(net(), [(x, y)], split=lambda m, b: (y.clone(), lambda z: (z, 1)))
    with pytest.raises(UserError, match="at least one batch"):
        operator(net(), [], split=split_squares)


# --- restricted -------------------------------------------------------------------------------


def test_module_blocks_are_the_diagonal_blocks_of_the_dense_hessian_and_interlace() -> None:
    x, y, _ = regression_data()
    H = ls.HessianOperator(net(), [(x, y)], loss=squares)
    matrix = dense(H)
    blocks = ls.module_blocks(H)
    assert {name: b.size for name, b in blocks.items()} == {"0": 30, "2": 7}
    torch.testing.assert_close(dense(blocks["0"]), matrix[:30, :30], **CLOSE)
    torch.testing.assert_close(dense(blocks["2"]), matrix[30:, 30:], **CLOSE)
    top = float(torch.linalg.eigvalsh(matrix)[-1])
    for block in blocks.values():
        found = ls.lanczos(block, tol=1e-8).eigenvalues[0]
        assert float(found) <= top
        assert ls.health_check(block).healthy


def test_blocks_of_whole_layers_gather_the_masked_tensors_inside() -> None:
    model, tokenizer = small_model("opt"), ls.tiny_tokenizer()
    ls.attach(model, ls.random_mask(model, density=0.3, seed=2))
    H = ls.HessianOperator(model, make_batches(EXAMPLES, tokenizer, 4))
    sizes = {n: p.numel() for n, p in ls.trainable(model).items()}
    layers = ls.module_blocks(H, "*.layers.[0-9]")
    assert list(layers) == ["model.decoder.layers.0", "model.decoder.layers.1"]
    for name, block in layers.items():
        assert block.size == sum(s for n, s in sizes.items() if n.startswith(name + "."))
    queries = ls.module_blocks(H, "*.q_proj")
    assert [b.size for b in queries.values()] == [s for n, s in sizes.items() if "q_proj" in n]
    with pytest.raises(UserError, match=r"matches none; they are: .*k_proj|.*q_proj"):
        ls.module_blocks(H, "*.lm_head")


@pytest.mark.parametrize("indices", [[], [0, 0], [-1], [37], [[0, 1]], [0.5, 1.7], [True, False]])
def test_coordinates_that_are_no_subset_are_refused(indices) -> None:
    x, y, _ = regression_data()
    H = ls.HessianOperator(net(), [(x, y)], loss=squares)
    with pytest.raises(UserError, match=r"distinct coordinates in 0\.\.36"):
        RestrictedOperator(H, torch.tensor(indices))


# --- exact ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["gather", "sampled", "dense"])
@pytest.mark.parametrize("operator", [ls.HessianOperator, ls.GGNOperator, ls.FisherOperator])
def test_products_of_several_vectors_equal_products_of_one(operator, kernel, monkeypatch) -> None:
    monkeypatch.setattr("landscape.kernels.choice.choose_kernel", lambda *_: kernel)
    model, tokenizer = small_model("opt"), ls.tiny_tokenizer()
    ls.attach(model, ls.random_mask(model, density=0.3, seed=2))
    A = operator(model, make_batches(EXAMPLES, tokenizer, 3))
    V = torch.randn(A.size, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together, before = A @ V, A.num_matvecs
    assert before == 5
    alone = torch.stack([A @ v for v in V.unbind(1)], dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("block", [1, 5, 100])
def test_the_exact_spectrum_is_that_of_the_dense_hessian(block) -> None:
    x, y, _ = regression_data()
    H = ls.HessianOperator(net(), [(x, y)], loss=squares)
    matrix = dense(H)
    result = ls.exact_spectrum(H, block=block)
    torch.testing.assert_close(ls.exact_matrix(H, block=block), matrix, **CLOSE)
    torch.testing.assert_close(
        result.eigenvalues, torch.linalg.eigvalsh(matrix).flip(0), rtol=1e-10, atol=1e-12
    )
    assert result.converged
    assert result.num_matvecs == 38
    top = ls.lanczos(H, k=4, tol=1e-9)
    torch.testing.assert_close(result.eigenvalues[:4], top.eigenvalues, rtol=1e-9, atol=0)


def test_the_exact_spectrum_of_an_asymmetric_operator_is_not_converged() -> None:
    matrix = with_spectrum([3.0, 2.0, 1.0])
    matrix[0, 1] += 0.5
    assert not ls.exact_spectrum(MatrixOperator(matrix)).converged


def test_block_products_that_are_wrong_are_refused_and_too_large_a_matrix_too() -> None:
    operator = MatrixOperator(with_spectrum([3.0, 2.0, 1.0]))
    wrong = copy.copy(operator)
    wrong._apply_rows = lambda rows: 1.01 * rows @ operator._matrix  # type: ignore
    with pytest.raises(UserError, match="block=1"):
        ls.exact_matrix(wrong, block=3)
    ls.exact_matrix(wrong)  # one at a time is right
    with pytest.raises(UserError, match="block to be a whole number of at least 1"):
        ls.exact_matrix(operator, block=0)
    meta = MatrixOperator(torch.zeros(20_001, 20_001, device="meta"))
    with pytest.raises(UserError, match="at most 20,000 rows, got 20,001"):
        ls.exact_matrix(meta)
