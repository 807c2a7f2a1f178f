"""Theory and engine check each other: the regression as a masked network, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import landscape as ls
from theory import DISTRIBUTIONS, MaskedRegression, make_problem
from theory.network import TARGET, LinearNetwork, batches, restrict, squared_loss
from theory.restricted import Restricted

N, D = 6, 400
EPS = np.finfo(np.float64).eps


def attached(problem: MaskedRegression, **budget: float) -> tuple[LinearNetwork, Restricted]:
    """Attach a random mask to the problem's network; return it with the theory's restriction."""
    model = LinearNetwork(problem.d)
    mask = ls.random_mask(model, targets=TARGET, seed=3, **budget)
    ls.attach(model, mask)
    return model, restrict(problem, mask)


@pytest.mark.parametrize("density", [0.02, 0.3, 1.0])
@pytest.mark.parametrize("features", DISTRIBUTIONS)
def test_the_engines_sharpness_on_a_mask_is_lambda_1_over_n(features: str, density: float) -> None:
    problem = make_problem(features, n=N, d=D, p=density, seed=1)
    model, mask = attached(problem, density=density)
    hessian = ls.HessianOperator(model, batches(problem, 4), loss=squared_loss)  # 4 + 2 samples
    top = ls.lanczos(hessian, k=1, tol=1e-8, seed=0)
    assert hessian.size == mask.k
    # the error of a Rayleigh quotient is at most its residual
    assert float(top.eigenvalues[0]) == pytest.approx(mask.top / N, rel=1e-8)


@pytest.mark.parametrize("size", [1, 4, 6, None])
def test_the_engines_hessian_is_the_principal_submatrix_whatever_the_batches(
    size: int | None,
) -> None:
    problem = make_problem("student", n=N, d=40, p=0.5, seed=2)
    model, mask = attached(problem, density=0.5)
    hessian = ls.HessianOperator(model, batches(problem, size), loss=squared_loss)
    dense = (hessian @ torch.eye(mask.k, dtype=torch.float64)).numpy()
    x = problem.features.columns()[mask.indices].T
    assert np.allclose(dense, x.T @ x / N, rtol=0, atol=100 * EPS * np.abs(dense).max())
    assert hessian.loss() == pytest.approx(problem.y @ problem.y / (2 * N), rel=1e-12)
    assert np.allclose(hessian.gradient().numpy(), mask.gradient(np.zeros(mask.k)), rtol=1e-10)


def test_the_rank_of_the_engines_hessian_is_the_number_of_samples() -> None:
    problem = make_problem("gaussian", n=N, d=D, p=0.1, seed=4)
    model, mask = attached(problem, density=0.1)
    hessian = ls.HessianOperator(model, batches(problem), loss=squared_loss)
    values = ls.lanczos(hessian, k=N + 1, tol=1e-8, seed=0).eigenvalues.numpy()
    assert values[:N] == pytest.approx(mask.eigenvalues / N, rel=1e-8)
    assert abs(values[N]) <= 1e-10 * values[0]


@pytest.mark.parametrize("features", DISTRIBUTIONS)
@pytest.mark.parametrize("fraction", [0.3, 1.0, 1.9])
def test_gradient_descent_by_the_engine_is_equation_3(features: str, fraction: float) -> None:
    problem = make_problem(features, n=N, d=D, p=0.1, seed=5)
    model, mask = attached(problem, density=0.1)
    eta, steps = fraction * N / mask.top, 50
    (whole,) = batches(problem)
    (theta,) = ls.trainable(model).values()
    optimizer = torch.optim.SGD([theta], lr=eta)
    for _ in range(steps):
        optimizer.zero_grad()
        total, count = squared_loss(model, whole)
        (total / count).backward()
        optimizer.step()
    closed = mask.closed_form(np.zeros(mask.k), eta, steps)
    tolerance = 100 * EPS * (steps + N) * np.linalg.norm(mask.minimum_norm())
    assert np.linalg.norm(theta.detach().numpy() - closed) <= tolerance
    loss, distance = mask.filtered(eta, steps)
    with torch.no_grad():
        assert float(squared_loss(model, whole)[0]) / N == pytest.approx(loss, rel=1e-9, abs=1e-12)
    assert ls.distance(model).l2 == pytest.approx(distance, rel=1e-9)


def test_the_engine_diverges_just_above_the_predicted_rate_and_not_just_below() -> None:
    problem = make_problem("uniform", n=N, d=D, p=0.1, seed=6)
    (whole,) = batches(problem)
    losses = {}
    for factor in (0.99, 1.01):
        model, mask = attached(problem, density=0.1)
        optimizer = torch.optim.SGD(ls.trainable(model).values(), lr=factor * 2 * N / mask.top)
        for _ in range(600):
            optimizer.zero_grad()
            total, count = squared_loss(model, whole)
            (total / count).backward()
            optimizer.step()
        losses[factor] = float(total.detach())
    start = float(squared_loss(LinearNetwork(D), whole)[0].detach())
    assert losses[0.99] < start
    assert losses[1.01] > 100 * start  # the top component grew by 1.02^600 = 145,000


def test_the_fine_tuning_optimizer_takes_the_steps_of_adam_written_out() -> None:
    problem = make_problem("gaussian", n=N, d=60, p=0.5, seed=7)
    model, mask = attached(problem, density=0.5)
    (whole,) = batches(problem)
    parameters = ls.trainable(model).values()
    optimizer = torch.optim.AdamW(parameters, lr=0.05, betas=(0.9, 0.999), eps=1e-8, weight_decay=0)
    w, m, v = (np.zeros(mask.k) for _ in range(3))
    for step in range(1, 31):
        optimizer.zero_grad()
        total, count = squared_loss(model, whole)
        (total / count).backward()
        optimizer.step()
        gradient = mask.gradient(w)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        w -= 0.05 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    (theta,) = parameters
    assert theta.detach().numpy() == pytest.approx(w, abs=1e-10)
    assert np.abs(w).max() > 0.1


def test_detaching_gives_the_untrained_network_back() -> None:
    problem = make_problem("gaussian", n=N, d=60, p=0.5)
    model, _ = attached(problem, density=0.5)
    with torch.no_grad():
        next(iter(ls.trainable(model).values())).fill_(1.0)
    assert ls.distance(model).l2 > 0
    assert not ls.detach(model).linear.weight.any()
