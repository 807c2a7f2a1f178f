"""The health check: it must catch what makes a curvature number worthless, and nothing else."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from oracles.curvature import net, regression_data, small_model, squares, with_spectrum
from torch import Tensor, nn
from torch.func import grad, jacrev, jvp, vjp

import landscape as ls
from landscape.curvature import LinearOperator, MatrixOperator, UnhealthyOperatorError, health_check
from landscape.errors import UserError


class Product(LinearOperator):
    """An operator from a function, float64."""

    device, dtype, description = torch.device("cpu"), torch.float64, {}  # type: ignore

    def __init__(self, size: int, function) -> None:
        self._size, self._function = size, function

    @property
    def size(self) -> int:
        return self._size

    def _apply(self, v: Tensor) -> Tensor:
        return self._function(v)

    _apply_afresh = _apply

    def _apply_rows(self, rows: Tensor) -> Tensor:
        return torch.stack([self._apply(row) for row in rows])


def test_sound_operators_are_healthy_at_the_price_of_five_products(case) -> None:
    for dtype in (torch.float32, torch.float64):
        model = small_model(case.name, dtype)
        ls.attach(model, ls.random_mask(model, density=0.3, targets=case.targets, seed=3))
        H = ls.HessianOperator(model, [None], loss=lambda m, _: (case.loss(m), 1))
        # Llama's RMSNorm is in float32 also where the weights are float64
        health = health_check(H, tol=1e-4 if case.name == "llama" else None)
        assert health.healthy
        assert health.num_matvecs == H.num_matvecs == 5


def test_random_losses_are_caught() -> None:
    """Functional dropout listens to no evaluation mode."""
    x, y, _ = regression_data()
    H = ls.HessianOperator(
        net(),
        [(x, y)],
        loss=lambda m, b: squares(lambda t: F.dropout(m(t), 0.5, training=True), b),
    )
    health = health_check(H, raise_on_failure=False)
    assert not health.healthy
    with pytest.raises(UnhealthyOperatorError, match="dropout"):
        health_check(H)


def test_dropout_is_caught_also_where_no_graph_is_kept() -> None:
    x, y, _ = regression_data()
    H = ls.HessianOperator(
        net(),
        [(x, y)],
        loss=lambda m, b: squares(lambda t: F.dropout(m(t), 0.5, training=True), b),
        keep_graph=False,
    )
    with pytest.raises(UnhealthyOperatorError, match="same product twice"):
        health_check(H)


@pytest.mark.parametrize("size", [2, 30, 3000])
def test_an_operator_that_is_not_symmetric_is_caught(size) -> None:
    scale = torch.linspace(0.5, 2, size, dtype=torch.float64)
    a, b = torch.randn(
        2, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )  # P^-1 H with H = aa' + bb': similar to a symmetric matrix and not one
    with pytest.raises(UnhealthyOperatorError, match="P\\^-1/2 H P\\^-1/2"):
        health_check(Product(size, lambda v: scale * (a * (a @ v) + b * (b @ v))))


def test_a_one_sided_preconditioner_is_caught_among_a_million_numbers_in_float32() -> None:
    """D h h': two random vectors, or one and its product, would see 1 / sqrt(1e6) of it."""
    h, d = torch.randn(2, 1_000_000, generator=torch.Generator().manual_seed(0))
    scale = d.exp()
    operator = Product(1_000_000, lambda v: scale * h * (h @ v))
    operator.dtype = torch.float32
    assert ls.health_check(operator, raise_on_failure=False).symmetry_error > 0.01
    with pytest.raises(UnhealthyOperatorError, match="symmetric"):
        health_check(operator)
    healthy = Product(1_000_000, lambda v: h * (h @ v))
    healthy.dtype = torch.float32
    assert health_check(healthy).symmetry_error < 1e-5


def layer_normalised() -> tuple:
    """A loss through two affine layer normalisations, as a function of their flat weights."""
    generator = torch.Generator().manual_seed(0)
    x, mixing = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64)

    def value(flat: Tensor) -> Tensor:
        w1, b1, w2, b2 = flat.split(4)
        h = torch.tanh(F.layer_norm(x, (4,), w1, b1) @ mixing)
        return F.layer_norm(h, (4,), w2, b2).pow(3).mean()

    return value, 1 + torch.rand(16, generator=generator, dtype=torch.float64)


def test_wrong_derivatives_of_layer_normalisation_are_caught() -> None:
    """Two compositions of torch.func that are silently wrong in torch 2.13, and two that are not.

    Should the wrong ones become right in a later torch, this test says so.
    """
    value, start = layer_normalised()

    def nested(v: Tensor) -> Tensor:  # reverse over a vmapped reverse
        return vjp(jacrev(value), start)[1](v)[0]

    def reverse_over_forward(v: Tensor) -> Tensor:
        return grad(lambda w: jvp(value, (w,), (v,))[1])(start)

    def forward_over_reverse(v: Tensor) -> Tensor:
        return jvp(grad(value), (start,), (v,))[1]

    def reverse_over_reverse(v: Tensor) -> Tensor:
        return vjp(grad(value), start)[1](v)[0]

    for wrong in (nested, reverse_over_forward):
        with pytest.raises(UnhealthyOperatorError, match="symmetric"):
            health_check(Product(16, wrong))
    for right in (forward_over_reverse, reverse_over_reverse):
        assert health_check(Product(16, right)).healthy


def test_products_that_are_not_finite_are_caught() -> None:
    for poison in (float("nan"), float("inf")):
        matrix = with_spectrum([1.0, 2.0, 3.0])
        matrix[1, 1] = poison
        with pytest.raises(UnhealthyOperatorError, match="finite"):
            health_check(MatrixOperator(matrix))


def test_weights_changed_behind_the_operator_are_caught() -> None:
    """A frozen tensor written through .data changes no version counter."""
    x, y, _ = regression_data()
    model = net()
    model[0].requires_grad_(False)
    H = ls.HessianOperator(model, [(x, y)], loss=squares)
    assert health_check(H).healthy
    model[0].weight.data.mul_(1.5)
    with pytest.raises(UnhealthyOperatorError, match="behind the operator"):
        health_check(H)


@pytest.mark.parametrize("change", ["in place", "data of a trainable", "state dict", "buffer"])
def test_other_changes_of_the_weights_are_followed_not_missed(change) -> None:
    x, y, _ = regression_data()
    model = nn.Sequential(net(), nn.BatchNorm1d(1).double()).eval()
    H = ls.HessianOperator(model, [(x, y)], loss=squares)
    v = torch.ones(H.size)
    before = H @ v
    if change == "in place":
        with torch.no_grad():
            model[0][0].weight *= 1.5
    elif change == "data of a trainable":
        model[0][0].weight.data *= 1.5
    elif change == "state dict":
        model.load_state_dict({k: 1.5 * t for k, t in model.state_dict().items()})
    else:
        model[1].running_var.mul_(2)
    after = H @ v
    assert not torch.allclose(after, before)
    assert torch.equal(after, ls.HessianOperator(model, [(x, y)], loss=squares) @ v)
    assert health_check(H).healthy


def test_batches_changed_behind_the_operator_are_caught() -> None:
    x, y, _ = regression_data()
    H = ls.HessianOperator(net(), [(x, y)], loss=squares)
    x *= 2
    with pytest.raises(UserError, match="written in place"):
        H @ torch.ones(H.size)
    x, y, _ = regression_data()
    H = ls.HessianOperator(net(), [(x, y)], loss=squares)
    x.data.mul_(2)  # past the version counters
    with pytest.raises(UnhealthyOperatorError, match="recomputed"):
        health_check(H)


def test_the_zero_operator_is_healthy() -> None:
    assert health_check(MatrixOperator(torch.zeros(4, 4))).healthy
