"""Preconditioned operators: what a step of Adam divides by, and where it turns unstable."""

from __future__ import annotations

import pytest
import torch
from oracles.curvature import dense, net, regression_data, squares
from torch import nn

import landscape as ls
from landscape.curvature import MatrixOperator, UnhealthyOperatorError
from landscape.errors import UserError

CLOSE = {"rtol": 1e-10, "atol": 1e-13}


def trained(steps: int, **settings) -> tuple[nn.Module, torch.optim.Optimizer, tuple]:
    x, y, _ = regression_data()
    model = net()
    groups = [
        {"params": list(model[0].parameters()), "lr": 0.02},
        {"params": list(model[2].parameters()), "lr": 0.005, "eps": 1e-3, "betas": (0.8, 0.95)},
    ]
    optimizer = torch.optim.AdamW(groups, **{"weight_decay": 0.0, **settings})
    for _ in range(steps):
        optimizer.zero_grad()
        (squares(model, (x, y))[0] / len(x)).backward()
        optimizer.step()
    return model, optimizer, (x, y)


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("steps", [1, 7])
def test_the_scale_is_what_torch_divides_a_step_by(steps, amsgrad) -> None:
    """A step of torch's own AdamW is -rate P^-1 m: bias corrections, eps, rates per group."""
    model, optimizer, batch = trained(steps, amsgrad=amsgrad)
    H = ls.HessianOperator(model, [batch], loss=squares)
    optimizer.zero_grad()
    (squares(model, batch)[0] / len(batch[0])).backward()
    before = [p.detach().clone() for p in H.parameters]
    optimizer.step()
    moved = torch.cat([(p - b).reshape(-1) for p, b in zip(H.parameters, before)]).detach()
    m = torch.cat([optimizer.state[p]["exp_avg"].reshape(-1) for p in H.parameters])
    S = ls.preconditioned(H, optimizer).scale()
    torch.testing.assert_close(-0.02 * S.square() * m, moved, rtol=1e-9, atol=1e-15)


def test_preconditioned_products_are_symmetric_with_the_eigenvalues_of_p_inverse_h() -> None:
    model, optimizer, batch = trained(5)
    H = ls.HessianOperator(model, [batch], loss=squares)
    A = ls.preconditioned(H, optimizer)
    S, matrix = A.scale(), dense(H)
    torch.testing.assert_close(dense(A), S[:, None] * matrix * S, **CLOSE)
    similar = torch.linalg.eigvals(S[:, None].square() * matrix)  # P^-1 H, not symmetric
    assert float(similar.imag.abs().max()) < 1e-9
    torch.testing.assert_close(
        torch.linalg.eigvalsh(dense(A)), similar.real.sort().values, rtol=1e-7, atol=1e-9
    )
    assert ls.health_check(A).healthy
    with pytest.raises(UnhealthyOperatorError, match="symmetric"):
        ls.health_check(MatrixOperator(S[:, None].square() * matrix))


def test_the_preconditioner_is_read_live() -> None:
    model, optimizer, batch = trained(2)
    A = ls.preconditioned(ls.HessianOperator(model, [batch], loss=squares), optimizer)
    before = dense(A)
    (squares(model, batch)[0]).backward()
    optimizer.step()
    fresh = ls.preconditioned(ls.HessianOperator(model, [batch], loss=squares), optimizer)
    assert not torch.allclose(dense(A), before)
    assert torch.equal(dense(A), dense(fresh))


@pytest.mark.parametrize(("factor", "stable"), [(0.98, True), (1.02, False)])
@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_the_threshold_is_where_momentum_on_a_quadratic_turns_unstable(
    factor, stable, beta1
) -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=0.01, betas=(beta1, 0.999))
    curvature = factor * ls.stability_threshold(optimizer)
    x, m = 1.0, 0.0
    for _ in range(3000):
        m = beta1 * m + (1 - beta1) * curvature * x
        x -= 0.01 * m
        if abs(x) > 1e6:
            break
    assert (abs(x) < 1e-3) == stable
    assert (abs(x) > 1e6) != stable


def test_an_optimizer_without_adam_state_or_of_other_parameters_is_refused() -> None:
    model, _, batch = trained(1)
    H = ls.HessianOperator(model, [batch], loss=squares)
    with pytest.raises(UserError, match="take a step first"):
        ls.preconditioned(H, torch.optim.AdamW(model.parameters()))
    with pytest.raises(UserError, match="another optimizer"):
        ls.preconditioned(H, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(UserError, match=r"one without 0\.weight"):
        ls.preconditioned(H, torch.optim.AdamW(net().parameters()))


def test_a_scale_of_its_own_age_for_every_number_is_accepted() -> None:
    """A moving mask gives newly trained numbers a younger state."""
    model, optimizer, batch = trained(4)
    H = ls.HessianOperator(model, [batch], loss=squares)
    shared = ls.preconditioned(H, optimizer).scale()
    for p in H.parameters:
        ages = torch.full_like(p, 4.0)
        ages.view(-1)[0] = 1.0
        optimizer.state[p]["step"] = ages
    own = ls.preconditioned(H, optimizer).scale()
    first = optimizer.state[H.parameters[0]]["exp_avg_sq"].view(-1)[0]
    P = (1 - 0.9) * ((first / (1 - 0.999)).sqrt() + 1e-8)
    assert float(own[0]) == pytest.approx(float(P) ** -0.5, rel=1e-9)
    assert torch.equal(own[1:24], shared[1:24])
