"""What has no Hessian is refused in a sentence; what the loss does not use has none."""

from __future__ import annotations

import pytest
import torch
from oracles.curvature import dense, net, regression_data, squares
from torch import nn

import landscape as ls
from landscape.errors import UserError


def test_a_parameter_that_the_loss_does_not_use_has_a_zero_row() -> None:
    """Another tool crashes on it."""
    x, y, _ = regression_data()
    model = nn.ModuleDict({"used": net(), "unused": nn.Linear(2, 2).double()})
    H = ls.HessianOperator(model, [(x, y)], loss=lambda m, b: squares(m["used"], b))
    matrix = dense(H)
    assert torch.count_nonzero(matrix[-6:]) == 0
    assert torch.count_nonzero(matrix[:, -6:]) == 0
    expected = dense(ls.HessianOperator(model["used"], [(x, y)], loss=squares))
    assert torch.equal(matrix[:-6, :-6], expected)


def test_frozen_parameters_are_no_part_of_the_operator() -> None:
    """Another tool fails with them."""
    x, y, _ = regression_data()
    model = net()
    full = dense(ls.HessianOperator(model, [(x, y)], loss=squares))
    model[0].requires_grad_(False)
    torch.testing.assert_close(
        dense(ls.HessianOperator(model, [(x, y)], loss=squares)), full[-7:, -7:]
    )


def test_a_loss_that_is_linear_in_the_trainable_numbers_has_no_curvature() -> None:
    model = nn.Linear(3, 1, bias=False)
    H = ls.HessianOperator(model, [torch.ones(2, 3)], loss=lambda m, x: (m(x).sum(), 2))
    assert torch.count_nonzero(dense(H)) == 0


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda m, b: (torch.zeros(()), 1), "depends on the trainable parameters"),
        (lambda m, b: (m(b[0]).detach().sum(), 1), "depends on the trainable parameters"),
        (lambda m, b: (m(b[0]).sum() * float("nan"), 1), "finite loss, got nan"),
        (lambda m, b: (m(b[0]).sum() / 0, 1), "finite loss, got"),
        (lambda m, b: (m(b[0]), 1), r"one number, got \(11, 1\)"),
        (lambda m, b: (1.5, 1), "one number, got float"),
        (lambda m, b: (m(b[0]).sum(), 0), "at least one loss term"),
    ],
)
def test_a_loss_that_has_no_hessian_is_refused_with_a_sentence(loss, words) -> None:
    x, y, _ = regression_data()
    with pytest.raises(UserError, match=words):
        ls.HessianOperator(net(), [(x, y)], loss=loss)


def test_a_model_without_trainable_numbers_or_batches_is_refused() -> None:
    x, y, _ = regression_data()
    with pytest.raises(UserError, match="at least one batch"):
        ls.HessianOperator(net(), [], loss=squares)
    with pytest.raises(UserError, match="attach a mask"):
        ls.HessianOperator(net().requires_grad_(False), [(x, y)], loss=squares)


def test_batch_statistics_are_refused_and_running_ones_accepted() -> None:
    x, y, _ = regression_data()
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1)).double()
    with pytest.raises(UserError, match="BatchNorm in train mode"):
        ls.HessianOperator(model, [(x, y)], loss=squares)
    H = ls.HessianOperator(model.eval(), [(x, y)], loss=squares)
    assert torch.isfinite(H @ torch.ones(H.size)).all()
    model[1] = nn.BatchNorm1d(6, track_running_stats=False).double()
    with pytest.raises(UserError, match="track_running_stats"):
        ls.HessianOperator(model.eval(), [(x, y)], loss=squares)


def test_a_function_with_one_derivative_only_is_refused_not_taken_for_a_constant() -> None:
    """Asked for the derivative of its gradient, torch answers None: a Hessian without its part."""

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return grad * 2

    x, y, _ = regression_data()
    with pytest.raises(UserError, match="differentiated twice"):
        ls.HessianOperator(
            net(), [(x, y)], loss=lambda m, b: (Once.apply(m(b[0])).square().sum(), 1)
        )


@pytest.mark.parametrize(
    ("v", "words"),
    [
        (torch.ones(3), r"expected a vector of shape \(37,\), got \(3,\)"),
        (torch.ones(37, dtype=torch.complex64), "expected real numbers"),
        (torch.ones(3, 2), r"expected a block of shape \(37, b\)"),
    ],
)
def test_vectors_of_another_space_are_refused(v, words) -> None:
    x, y, _ = regression_data()
    H = ls.HessianOperator(net(), [(x, y)], loss=squares)
    with pytest.raises(UserError, match=words):
        H @ v
