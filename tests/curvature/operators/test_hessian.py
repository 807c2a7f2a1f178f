"""The Hessian operator against closed forms and dense float64 Hessians of plain models."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from oracles.curvature import (
    dense,
    functional_hessian,
    net,
    principal_rows,
    regression_data,
    small_model,
    softmax_hessian,
    squares,
    with_spectrum,
)
from torch import Tensor, nn

import landscape as ls
from landscape.errors import UserError
from landscape.tasks.batches import make_batches

#: float64 sums in another order; Llama's RMSNorm works in float32 whatever the weights' dtype
TOLERANCE = {"llama": 2e-5}


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def one(loss):
    """The loss of a test case as (sum, count), whatever the batch."""
    return lambda model, _: (loss(model), 1)


@pytest.mark.parametrize("density", [0.02, 0.3])
def test_masked_hessian_is_the_principal_submatrix_of_the_dense_hessian(case, density) -> None:
    model = small_model(case.name)
    mask = ls.random_mask(model, density=density, targets=case.targets, seed=3)
    full = functional_hessian(model, list(mask.shapes), case.loss)
    rows = principal_rows(mask)
    ls.attach(model, mask)
    H = ls.HessianOperator(model, [None], loss=one(case.loss))
    assert H.size == mask.count
    expected = full[rows][:, rows]
    assert float(expected.norm()) > 1e-6  # a curvature of zero would agree with anything
    assert relative(dense(H), expected) < TOLERANCE.get(case.name, 1e-9)


def test_the_hessian_of_a_fully_trainable_model_is_the_whole_dense_hessian() -> None:
    model = small_model("bert")
    model.requires_grad_(False)
    names = [n for n, _ in model.named_parameters() if "layer.0" in n or "classifier" in n]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    tokens = torch.randint(3, 60, (2, 5), generator=torch.Generator().manual_seed(1))

    def loss(model) -> Tensor:
        return F.cross_entropy(model(input_ids=tokens).logits, torch.tensor([0, 1]))

    H = ls.HessianOperator(model, [None], loss=one(loss))
    v = torch.randn(H.size, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert relative(H @ v, functional_hessian(model, names, loss) @ v) < 1e-9


@pytest.mark.parametrize("length", ["short", "long"])
def test_products_equal_central_differences_of_the_gradient_of_a_smooth_model(length) -> None:
    """BERT has GELU and tanh only, so that its gradient has a derivative everywhere."""
    model = small_model("bert")
    mask = ls.random_mask(model, density=0.3, targets="*.attention.self.*", seed=1)
    ls.attach(model, mask)
    shape = (2, {"short": 3, "long": 17}[length])
    tokens = torch.randint(3, 60, shape, generator=torch.Generator().manual_seed(0))
    H = ls.HessianOperator(
        model,
        [tokens],
        loss=lambda m, t: (F.cross_entropy(m(input_ids=t).logits, torch.tensor([0, 1])), 1),
    )
    v = torch.randn(H.size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    product, step = H @ v, 1e-5 / v.norm()
    gradients = []
    for sign in (1, -1):
        move(model, sign * step * v)
        gradients.append(H.gradient())
        move(model, -sign * step * v)
    # truncation of order step^2 and rounding of order eps / step, both about 1e-10 of the product
    assert relative((gradients[0] - gradients[1]) / (2 * step), product) < 1e-6


@torch.no_grad()
def move(model: nn.Module, v: Tensor) -> None:
    parameters = list(ls.trainable(model).values())
    for p, piece in zip(parameters, v.split([p.numel() for p in parameters]), strict=True):
        p += piece.view_as(p)


def test_the_hessian_of_a_quadratic_is_its_matrix() -> None:
    matrix = with_spectrum([3.0, 1.0, -2.0, 0.0, 0.5])
    model = nn.Linear(5, 1, bias=False, dtype=torch.float64)
    H = ls.HessianOperator(
        model, [matrix], loss=lambda m, a: (0.5 * m.weight[0] @ a @ m.weight[0], 1)
    )
    torch.testing.assert_close(dense(H), matrix, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("mode", ["reverse-over-reverse", "forward-over-reverse"])
def test_a_hessian_is_measured_in_the_mode_asked_for_and_says_so(mode) -> None:
    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    H = ls.HessianOperator(model, [1], loss=lambda m, _: (m.weight.square().sum(), 1), mode=mode)
    assert H.description["mode"] == mode
    torch.testing.assert_close(dense(H), 2 * torch.eye(2).double(), rtol=1e-14, atol=1e-14)


def test_the_hessian_of_linear_regression_is_the_second_moment_of_the_features() -> None:
    x, y, _ = regression_data()
    model = nn.Linear(4, 1, bias=False, dtype=torch.float64)
    H = ls.HessianOperator(
        model, [x], loss=lambda m, x: (0.5 * (m(x)[:, 0] - y).square().sum(), len(x))
    )
    torch.testing.assert_close(dense(H), x.t() @ x / len(x), rtol=1e-12, atol=1e-13)


def test_the_hessian_of_logistic_regression_is_x_diag_p_q_x() -> None:
    x, y, _ = regression_data()
    target = (y > 0).double()
    model = nn.Linear(4, 1, bias=False, dtype=torch.float64)
    H = ls.HessianOperator(
        model,
        [x],
        loss=lambda m, x: (
            F.binary_cross_entropy_with_logits(m(x)[:, 0], target, reduction="sum"),
            len(x),
        ),
    )
    p = torch.sigmoid(x @ model.weight.detach()[0])
    expected = x.t() @ torch.diag(p * (1 - p)) @ x / len(x)
    torch.testing.assert_close(dense(H), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("density", [None, 0.5])
def test_the_hessian_of_softmax_regression_is_the_closed_form_masked_or_not(density) -> None:
    x, _, labels = regression_data()
    model = nn.Sequential(nn.Linear(4, 3, bias=False, dtype=torch.float64))
    expected = softmax_hessian(x, model[0].weight.detach())
    if density:
        mask = ls.random_mask(model, density=density, targets="0", sampling="exact")
        rows = principal_rows(mask)
        expected = expected[rows][:, rows]
        ls.attach(model, mask)
    H = ls.HessianOperator(
        model, [x], loss=lambda m, x: (F.cross_entropy(m(x), labels, reduction="sum"), len(x))
    )
    torch.testing.assert_close(dense(H), expected, rtol=1e-12, atol=1e-13)


def language_task(loss: str) -> list[ls.Example]:
    """Prompts and candidates of unequal length, so that batches differ in tokens."""
    texts = ["a", "a film about war", "so it goes on and on and on", "no", "good fun", "well"]
    candidates = (
        (" yes", " not at all") if loss == "language modelling" else (" terrible", " great")
    )
    return [ls.Example(prompt=t, candidates=candidates, label=i % 2) for i, t in enumerate(texts)]


@pytest.mark.parametrize("loss", ["classification", "language modelling"])
@pytest.mark.parametrize("size", [1, 4])
def test_hessian_over_unequal_batches_equals_the_hessian_over_their_concatenation(
    loss, size
) -> None:
    model, tokenizer = small_model("llama", scale=4.0), ls.tiny_tokenizer()
    ls.attach(model, ls.random_mask(model, density=0.3, seed=2))
    examples = language_task(loss)
    whole = ls.HessianOperator(model, make_batches(examples, tokenizer, 6, loss=loss))
    parts = ls.HessianOperator(model, make_batches(examples, tokenizer, size, loss=loss))
    assert whole.description["loss_terms"] == parts.description["loss_terms"]
    v = torch.randn(whole.size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    # RMSNorm in float32: 1e-7 a layer; equal weights a batch would be wrong by a tenth
    assert relative(parts @ v, whole @ v) < 1e-5
    assert parts.loss() == pytest.approx(whole.loss(), rel=1e-6)
    assert relative(parts.gradient(), whole.gradient()) < 1e-5


@pytest.mark.parametrize("keep", [True, False, "auto"])
def test_keeping_graphs_changes_no_product(keep) -> None:
    x, y, _ = regression_data()
    model = net()
    batches = [(x[:2], y[:2]), (x[2:9], y[2:9]), (x[9:], y[9:])]
    budget = 1 if keep == "auto" else None  # a byte: room for the first graph only
    H = ls.HessianOperator(model, batches, loss=squares, keep_graph=keep, memory_budget=budget)
    reference = ls.HessianOperator(model, [(x, y)], loss=squares)
    kept = H.description["graphs_kept"]
    assert {True: kept == 3, False: kept == 0, "auto": kept == 1}[keep]
    torch.testing.assert_close(dense(H), dense(reference), rtol=1e-11, atol=1e-13)


def test_products_follow_the_weights_when_they_change_between_two_products() -> None:
    x, y, _ = regression_data()
    model = net()
    H = ls.HessianOperator(model, [(x, y)], loss=squares)
    H @ torch.ones(H.size)
    with torch.no_grad():
        model[0].weight.mul_(1.5)
    fresh = ls.HessianOperator(copy.deepcopy(model), [(x, y)], loss=squares)
    torch.testing.assert_close(dense(H), dense(fresh), rtol=0, atol=0)
    assert H.loss() == fresh.loss()
    H.release()
    torch.testing.assert_close(dense(H), dense(fresh), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["opt", "llama"])
def test_repeated_products_are_bit_identical(name) -> None:
    model, tokenizer = small_model(name, torch.float32), ls.tiny_tokenizer()
    ls.attach(model, ls.random_mask(model, density=0.3, seed=2))
    batches = make_batches(language_task("classification"), tokenizer, 2)
    H = ls.HessianOperator(model, batches)
    v = torch.randn(H.size, generator=torch.Generator().manual_seed(2))
    first = H @ v
    assert torch.equal(first, H @ v)
    assert torch.equal(first, ls.HessianOperator(model, batches) @ v)


def snapshot(model: nn.Module) -> tuple:
    return (
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        {name: module.training for name, module in model.named_modules()},
        {name: p.requires_grad for name, p in model.named_parameters()},
        {name: p.grad for name, p in model.named_parameters()},
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        torch.backends.cuda.flash_sdp_enabled(),
    )


def unchanged(model: nn.Module, before: tuple) -> bool:
    after = snapshot(model)
    same = all(torch.equal(t, after[0][name]) for name, t in before[0].items())
    return same and before[1:] == after[1:]


def test_mode_weights_gradients_and_random_state_are_restored_also_after_an_exception() -> None:
    model, tokenizer = small_model("opt", torch.float32), ls.tiny_tokenizer()
    ls.attach(model, ls.random_mask(model, density=0.3, seed=2))
    batches = make_batches(language_task("classification"), tokenizer, 2)
    model.train()
    model.get_submodule("model.decoder.layers.1").eval()
    before = snapshot(model)
    with torch.no_grad():
        H = ls.HessianOperator(model, batches)
        first = H @ torch.ones(H.size)
    assert unchanged(model, before)
    broken = {"now": False}

    def loss(model, batch):
        if broken["now"]:
            raise KeyboardInterrupt
        return ls.task_loss(model, batch)

    H = ls.HessianOperator(model, batches, loss=loss, keep_graph=False)
    assert torch.equal(H @ torch.ones(H.size), first)
    broken["now"] = True
    with pytest.raises(KeyboardInterrupt):
        H @ torch.ones(H.size)
    assert unchanged(model, before)


def test_dropout_is_switched_off_inside_products_only() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 1)).double()
    x, y, _ = regression_data()
    H = ls.HessianOperator(model.train(), [(x, y)], loss=squares)
    v = torch.ones(H.size)
    trained = H @ v
    assert model[2].training
    assert torch.equal(trained, ls.HessianOperator(model.eval(), [(x, y)], loss=squares) @ v)


def test_fused_attention_is_replaced_by_math_inside_and_by_nothing_outside() -> None:
    """The fused kernel has no second derivative: without the switch this raises."""
    model = small_model("opt", torch.float32)
    assert model.config._attn_implementation == "sdpa"
    ls.attach(model, ls.random_mask(model, density=0.3, seed=2))
    tokens = torch.randint(3, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    H = ls.HessianOperator(model, [tokens], loss=lambda m, t: (m(input_ids=t).logits.sum(), 1))
    H @ torch.ones(H.size)
    assert H.description["attention"] == "math"
    logits = model(input_ids=tokens).logits.sum()
    gradient = torch.autograd.grad(logits, list(ls.trainable(model).values()), create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.autograd.grad(sum(g.sum() for g in gradient), list(ls.trainable(model).values()))


def test_a_batch_without_scored_tokens_is_refused_unless_others_have_some() -> None:
    model, tokenizer = small_model("llama"), ls.tiny_tokenizer()
    ls.attach(model, ls.random_mask(model, density=0.3, seed=2))
    batches = make_batches(
        language_task("language modelling"), tokenizer, 3, loss="language modelling"
    )
    nothing = {**batches[0], "target_mask": torch.zeros_like(batches[0]["target_mask"])}
    with pytest.raises(UserError, match="labels"):
        ls.HessianOperator(model, [nothing])
    v = torch.ones(ls.HessianOperator(model, batches).size, dtype=torch.float64)
    both = ls.HessianOperator(model, [*batches, nothing]) @ v
    assert relative(both, ls.HessianOperator(model, batches) @ v) < 1e-12


def test_products_are_symmetric_and_linear(case) -> None:
    model = small_model(case.name)
    ls.attach(model, ls.random_mask(model, density=0.3, targets=case.targets, seed=3))
    H = ls.HessianOperator(model, [None], loss=one(case.loss))
    u, v = torch.randn(2, H.size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    tolerance = TOLERANCE.get(case.name, 1e-10)
    assert abs(u @ (H @ v) - v @ (H @ u)) < tolerance * (H @ v).norm() * u.norm()
    assert relative(H @ (2 * u - 3 * v), 2 * (H @ u) - 3 * (H @ v)) < tolerance
