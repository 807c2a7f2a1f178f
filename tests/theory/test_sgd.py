"""SGD's mean-square stability: against all batches by the engine, a dense operator, and by hand."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

import landscape as ls
from theory import DISTRIBUTIONS, make_problem
from theory.network import TARGET, LinearNetwork, batches, restrict, squared_loss
from theory.statements.sgd import exact_step, sgd_step, step_interval
from theory.statements.sgd_rate import longest_example


def operator(x: np.ndarray, batch: float, eta: float) -> np.ndarray:
    """Return the map of E e e' a step, dense on d^2 coordinates, from its definition."""
    n, d = x.shape
    one = np.eye(d)
    h = [np.outer(row, row) for row in x]
    mean = sum(h) / n
    second = sum(np.kron(a, a) for a in h) / n
    square = second / batch + (1 - 1 / batch) * np.kron(mean, mean)
    return np.eye(d * d) - eta * (np.kron(mean, one) + np.kron(one, mean)) + eta**2 * square


def rows_of(x: np.ndarray) -> np.ndarray:
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    return u * s


@pytest.mark.parametrize("batch", [1, 2, 5, math.inf])
@pytest.mark.parametrize("features", ["gaussian", "uniform", "student"])
def test_the_exact_threshold_is_where_the_dense_operators_radius_passes_one(
    features: str, batch: float
) -> None:
    x = make_problem(features, n=5, d=3, p=1.0, seed=2).features.columns().T
    step = exact_step(rows_of(x), batch)
    for factor, stable in ((0.999, True), (1.001, False)):
        radius = np.abs(np.linalg.eigvals(operator(x, batch, factor * step))).max()
        assert (radius < 1) == stable
    s = np.linalg.svd(x, compute_uv=False)
    low, high = step_interval(s**2 / 5, np.square(x).sum(1), batch)
    assert low <= step * (1 + 1e-9) <= high * (1 + 2e-9)
    if batch == math.inf:
        assert low == pytest.approx(2 * 5 / s[0] ** 2)


@pytest.mark.parametrize("batch", [1, 2])
def test_the_mean_square_over_all_batches_of_the_engine_is_the_operators(batch: int) -> None:
    """Every sequence of batches is trained by itself: 3^2 or 9^2 runs of two steps."""
    problem = make_problem("gaussian", n=3, d=8, p=1.0, sigma=0.0, seed=3)
    (whole,) = batches(problem)
    mask = ls.random_mask(LinearNetwork(8), targets=TARGET, seed=1, density=0.5)
    kept = restrict(problem, mask)
    target = torch.from_numpy(kept.columns.T @ np.ones(kept.k))  # the mask interpolates it
    eta, squares, steps = 0.4 * 3 / kept.top, [], 2
    for drawn in product(product(range(3), repeat=batch), repeat=steps):
        model = LinearNetwork(8)
        ls.attach(model, mask)
        (theta,) = ls.trainable(model).values()
        optimizer = torch.optim.SGD([theta], lr=eta)
        for some in drawn:
            optimizer.zero_grad()
            total, count = squared_loss(model, (whole[0][list(some)], target[list(some)]))
            (total / count).backward()
            optimizer.step()
        error = theta.detach().numpy() - 1
        squares.append(error @ error)
    start = np.ones((kept.k, kept.k)).reshape(-1)  # e_0 = -1
    power = np.linalg.matrix_power(operator(kept.columns.T, batch, eta), steps)
    assert np.mean(squares) == pytest.approx(np.trace((power @ start).reshape(kept.k, -1)))


def test_an_engine_run_of_sgd_decays_below_the_bound_and_grows_above_the_threshold() -> None:
    """One example a step. The mean is what grows: equal lengths keep single runs near it."""
    problem = make_problem("rademacher", n=4, d=60, p=1.0, seed=1)
    (whole,) = batches(problem)
    mask = restrict(problem, ls.random_mask(LinearNetwork(60), targets=TARGET, density=0.5, seed=0))
    rows = mask.svd[2] * mask.svd[1]
    lengths = np.square(rows).sum(1)
    low, high = step_interval(np.square(rows).sum(0) / 4, lengths, 1)
    exact = exact_step(rows, 1)
    assert low == pytest.approx(exact, rel=1e-9) == pytest.approx(high, rel=1e-9)
    ends = {}
    for factor in (0.9, 1.5):
        model = LinearNetwork(60)
        ls.attach(model, ls.random_mask(model, targets=TARGET, density=0.5, seed=0))
        optimizer = torch.optim.SGD(ls.trainable(model).values(), lr=factor * exact)
        for i in np.random.default_rng(0).integers(0, 4, 150).tolist():
            optimizer.zero_grad()
            squared_loss(model, (whole[0][[i]], whole[1][[i]]))[0].backward()
            optimizer.step()
        ends[factor] = float(squared_loss(model, whole)[0].detach())
    start = float(squared_loss(LinearNetwork(60), whole)[0].detach())
    assert ends[0.9] < 1e-4 * start
    assert ends[1.5] > 1e4 * start


@pytest.mark.parametrize("features", DISTRIBUTIONS)
def test_the_bound_is_at_least_half_of_the_exact_threshold(features: str) -> None:
    problem = make_problem(features, n=6, d=400, p=0.2, seed=5)
    mask = problem.draw(5)
    rows = mask.svd[2] * mask.svd[1]
    for batch in (1, 3, 6):
        low = step_interval(np.square(rows).sum(0) / 6, np.square(rows).sum(1), batch)[0]
        assert 0.5 <= low / exact_step(rows, batch) <= 1 + 1e-9


def test_orthogonal_examples_attain_the_bound_by_hand() -> None:
    """Lengths 4 and 1, b = 2, n = 2: 2 / (1/2 * 4/2 + 4/2) = 2/3."""
    assert exact_step(np.diag([2.0, 1.0]), 2) == pytest.approx(2 / 3, rel=1e-12)
    assert sgd_step(2.0, 4.0, 2) == pytest.approx(2 / 3, rel=1e-12)
    assert sgd_step(2.0, 4.0, math.inf) == 1.0


def test_the_longest_example_of_constant_features_is_a_binomial() -> None:
    d, p, delta = 3000, 0.05, 0.02
    low, high = longest_example(np.full(1, float(d)), np.ones(1), p, delta)
    assert stats.binom.sf(math.ceil(high) - 1, d, p) <= delta / 2
    assert stats.binom.cdf(math.floor(low), d, p) <= delta / 2
    assert 0.6 < low / (p * d) < 1 < high / (p * d) < 1.4


def test_one_example_a_step_keeps_the_law_one_over_p_further_down_than_gradient_descent() -> None:
    problem = make_problem("gaussian", n=16, d=4000, p=0.5, seed=1)
    lengths = np.square(problem.features.columns()).sum(0)
    for p, most in ((0.1, 1.2), (0.01, 1.7)):
        steps = []
        for seed in range(9):
            mask = problem.draw(seed, p=p)
            longest = np.square(mask.columns).sum(0).max()
            steps.append((longest / (p * lengths.max()), mask.top / (p * problem.moments.top)))
        one, whole = np.median(steps, axis=0)
        assert one < most < whole
