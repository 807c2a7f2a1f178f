"""Modes of differentiation: each against another, and refused where it would be wrong."""

from __future__ import annotations

import pytest
import torch
from conftest import CASES
from oracles.curvature import difference_product, net, regression_data, small_model, squares
from torch import Tensor

import landscape as ls
from landscape.curvature import UnhealthyOperatorError
from landscape.errors import UserError

#: Llama's RMSNorm works in float32 whatever the weights' dtype
TOLERANCE = {"llama": 1e-5}
MODES = ("reverse-over-reverse", "forward-over-reverse")


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def hessian(case, mode: str, dtype=torch.float64) -> ls.HessianOperator:
    model = small_model(case.name, dtype)
    ls.attach(model, ls.random_mask(model, density=0.3, targets=case.targets, seed=3))
    return ls.HessianOperator(model, [None], loss=lambda m, _: (case.loss(m), 1), mode=mode)


def ones(operator) -> Tensor:
    return torch.randn(
        operator.size, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )


def test_forward_over_reverse_makes_the_same_products_on_masked_models(case) -> None:
    reverse, forward = (hessian(case, m) for m in ("reverse-over-reverse", "forward-over-reverse"))
    v = ones(reverse)
    assert relative(forward @ v, reverse @ v) < TOLERANCE.get(case.name, 1e-10)
    assert forward.description["mode"] == "forward-over-reverse"
    assert forward.description["graphs_kept"] == 0
    health = ls.health_check(forward, tol=TOLERANCE.get(case.name))
    assert health.second_mode == "reverse-over-reverse"


@pytest.mark.parametrize("kernel", ["gather", "sampled", "dense"])
@pytest.mark.parametrize("operator", [ls.HessianOperator, ls.GGNOperator, ls.FisherOperator])
def test_the_second_mode_is_a_forward_one_and_agrees_for_every_kernel(
    operator, kernel, monkeypatch
) -> None:
    monkeypatch.setattr("landscape.kernels.choice.choose_kernel", lambda *_: kernel)
    model, tokenizer = small_model("gpt2"), ls.tiny_tokenizer()
    ls.attach(model, ls.random_mask(model, density=0.3, targets="*.c_attn", seed=2))
    examples = [
        ls.Example(prompt=t, candidates=(" terrible", " great"), label=i % 2)
        for i, t in enumerate(["a", "a film about war", "no"])
    ]
    A = operator(model, ls.make_batches(examples, tokenizer, 2))
    health = ls.health_check(A)
    assert health.second_mode == "forward-over-reverse"
    assert health.fresh_error < 1e-12


@pytest.mark.parametrize("targets", ["*embed*", "*bias", "*layer_norm*"])
def test_tensors_that_a_gathered_gradient_serves_have_a_forward_mode_too(targets) -> None:
    model, tokenizer = small_model("opt"), ls.tiny_tokenizer()
    ls.attach(model, ls.random_mask(model, density=0.05, targets=targets, seed=2))
    examples = [ls.Example(prompt="so it goes", candidates=(" terrible", " great"), label=1)]
    A = ls.GGNOperator(model, ls.make_batches(examples, tokenizer, 2))
    health = ls.health_check(A)
    assert health.second_mode == "forward-over-reverse"
    assert health.fresh_error < 1e-10


def test_a_wrong_second_derivative_that_is_symmetric_and_repeats_is_caught() -> None:
    """Recomputing in the same mode would agree with itself: only another mode sees it."""

    class Slope(torch.autograd.Function):
        """3 x^2, with half its derivative."""

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            ctx.save_for_forward(x)
            return 3 * x**2

        @staticmethod
        def backward(ctx, grad):
            return grad * 3 * ctx.saved_tensors[0]

        @staticmethod
        def jvp(ctx, x):
            return 6 * ctx.saved_tensors[0] * x

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            ctx.save_for_forward(x)
            return x**3

        @staticmethod
        def backward(ctx, grad):
            return grad * Slope.apply(ctx.saved_tensors[0])

        @staticmethod
        def jvp(ctx, x):
            return 3 * ctx.saved_tensors[0] ** 2 * x

    x, y, _ = regression_data()
    H = ls.HessianOperator(
        net(), [(x, y)], loss=lambda m, b: (Cube.apply(m(b[0])).sum(), len(b[0]))
    )
    health = ls.health_check(H, raise_on_failure=False)
    assert health.repeat_error == 0.0
    assert health.symmetry_error < 1e-12
    with pytest.raises(UnhealthyOperatorError, match="a derivative is wrong"):
        ls.health_check(H)


def test_where_there_is_no_forward_mode_the_check_makes_a_new_graph_and_says_so() -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad * ctx.saved_tensors[0]

    x, y, _ = regression_data()

    def loss(model, batch):
        return Square.apply(model(batch[0])[:, 0] - batch[1]).sum(), len(batch[1])

    health = ls.health_check(ls.HessianOperator(net(), [(x, y)], loss=loss))
    assert health.second_mode == "reverse-over-reverse"
    assert health.fresh_error == 0
    for operator in (ls.GGNOperator, ls.FisherOperator):
        A = operator(
            net(), [(x, y)],
            split=lambda m, b: (m(b[0])[:, 0], lambda z: (Square.apply(z - b[1]), len(b[1]))),
        )  # fmt: skip
        assert ls.health_check(A).healthy
    H = ls.HessianOperator(net(), [(x, y)], loss=loss, mode="forward-over-reverse")
    with pytest.raises(UserError, match="cannot: You must implement the jvp"):
        H @ torch.ones(H.size)
    theta = torch.ones(3, dtype=torch.float64, requires_grad=True)
    outside = ls.HessianOperator(
        net(), [None], loss=lambda m, _: (theta.pow(3).sum(), 1), parameters=[theta],
        mode="forward-over-reverse",
    )  # fmt: skip
    with pytest.raises(UserError, match="parameters that the model holds"):
        outside @ torch.ones(3)


@pytest.mark.parametrize("mode", MODES)
def test_products_of_a_smooth_masked_model_are_differences_of_its_gradients(mode) -> None:
    case = next(c for c in CASES if c.name == "bert")
    H = hessian(case, mode)
    v = ones(H)
    expected = difference_product(H.parameters, lambda: case.loss(H._model), v / v.norm())
    assert relative(H @ (v / v.norm()), expected) < 1e-7


def test_forward_products_over_batches_weigh_terms_as_reverse_ones_do() -> None:
    x, y, _ = regression_data()
    model = net()
    batches = [(x[:2], y[:2]), (x[2:], y[2:])]
    exact = ls.HessianOperator(model, [(x, y)], loss=squares)
    forward = ls.HessianOperator(model, batches, loss=squares, mode="forward-over-reverse")
    v = ones(exact)
    assert relative(forward @ v, exact @ v) < 1e-12
    V = torch.stack([v, 2 * v, v + 1], dim=1)
    assert relative(forward @ V, exact @ V) < 1e-12
    assert forward.description["several_vectors"] == "one by one"


@pytest.mark.parametrize("mode", ["reverse-over-forward", "finite-difference", "forward", ""])
def test_reverse_over_forward_and_unknown_modes_are_refused(mode) -> None:
    x, y, _ = regression_data()
    with pytest.raises(UserError, match="expected a mode among"):
        ls.HessianOperator(net(), [(x, y)], loss=squares, mode=mode)
