"""Sign descent on random masks: against all masks, the engine's AdamW, and forms by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy import optimize

import landscape as ls
from theory import DISTRIBUTIONS, make_problem
from theory.features import Features, from_array
from theory.network import TARGET, LinearNetwork, batches, restrict, squared_loss
from theory.signs import masked_steps, sign_step
from theory.statements.adam import adam_ceiling, adam_step, adam_threshold
from theory.statements.sign import gradient_at_zero, interval_excess
from theory.statements.sign import sign_interval as interval


def every_loss(x: np.ndarray, y: np.ndarray, p: float, eta: float) -> tuple[float, float, float]:
    """Return E_M L(-eta M s), and mean and deviation of s'M H M s, mask by mask, dense."""
    n, d = x.shape
    s, hessian = np.sign(-x.T @ y), x.T @ x / n
    rows = []
    for kept in product((0, 1), repeat=d):
        m = np.array(kept)
        chance = p ** m.sum() * (1 - p) ** (d - m.sum())
        w = -eta * m * s
        rows.append((chance, ((y - x @ w) ** 2).sum() / (2 * n), (m * s) @ hessian @ (m * s)))
    chances, losses, bends = np.array(rows).T
    mean = chances @ bends
    return chances @ losses, mean, (chances @ (bends - mean) ** 2) ** 0.5


@pytest.mark.parametrize("features", DISTRIBUTIONS)
@pytest.mark.parametrize("p", [0.03, 0.5, 0.9])
def test_the_mean_loss_and_the_spread_of_the_curvature_are_those_over_all_masks(
    features: str, p: float
) -> None:
    problem = make_problem(features, n=3, d=8, p=p, seed=1)
    x, y = problem.features.columns().T, problem.y
    step, eta = sign_step(problem.features, gradient_at_zero(problem)), 0.37
    loss, mean, deviation = every_loss(x, y, p, eta)
    assert y @ y / 6 + step.change(p, eta) == pytest.approx(loss, rel=1e-12)
    assert step.curvature(p) == pytest.approx(mean, rel=1e-12)
    spread = step.spread(p, problem.moments)[1]
    still = not (x.T @ y).all()  # a weight without a gradient: the spread is a bound
    assert spread >= deviation * (1 - 1e-9) if still else spread == pytest.approx(deviation)
    around = [every_loss(x, y, p, by * step.rate(p))[0] for by in (0.99, 1.0, 1.01)]
    assert around[1] == min(around)


def test_one_sample_by_hand() -> None:
    """X = (1, 2), y = -3: g = (3, 6), s'Hs = 9, tr H = 5, eta* = 9 / (9p + 5(1-p)), p_x = 5/9."""
    problem = make_problem([[1.0, 2.0]], p=0.5)
    step = sign_step(problem.features, np.array([3.0, 6.0]))
    assert (step.size, step.along, step.trace, step.crossover) == (9, 9, 5, 5 / 9)
    assert [step.rate(p) for p in (0.0, 0.5, 1.0)] == [9 / 5, 9 / 7, 1.0]
    # a = s z (z's) = (3, 6), b = (1, 4)
    assert step.products == (45, 27, 17)
    assert (step.size2, step.largest) == (45, 6)


def test_a_rate_is_like_one_over_p_above_the_crossover_and_flat_below() -> None:
    """Gaussian features: p_x is about pi n / (2 d)."""
    problem = make_problem("gaussian", n=16, d=4000, p=0.1, sigma=10.0)
    step = sign_step(problem.features, gradient_at_zero(problem))
    assert step.crossover == pytest.approx(np.pi * 16 / (2 * 4000), rel=0.1)
    above, below = 10 * step.crossover, step.crossover / 10
    assert step.rate(2 * above) / step.rate(above) == pytest.approx(0.5, abs=0.03)
    assert step.rate(below / 2) / step.rate(below) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("features", ["gaussian", "uniform", "sparse"])
def test_masked_steps_are_those_of_dense_submatrices_stored_or_not(features: str) -> None:
    problem = make_problem(features, n=4, d=50, p=0.3, seed=3)
    g, x = gradient_at_zero(problem), problem.features.columns().T
    masks = [mask for some in problem.masks(5) for mask in some]
    stored = masked_steps(problem.features, g, masks)
    for (size, bend), mask in zip(stored, masks, strict=True):
        moved = x[:, mask] @ np.sign(g[mask])
        assert size == pytest.approx(np.abs(g[mask]).sum(), rel=1e-12)
        assert bend == pytest.approx(moved @ moved / 4, rel=1e-12)

    class Read(Features):
        stored = False

    again = Read("read", 4, 50, problem.features.read)
    assert masked_steps(again, g, masks) == pytest.approx(stored, rel=1e-12)


def test_the_engines_first_step_of_adamw_is_a_sign_step_lowest_at_the_masks_best_rate() -> None:
    problem = make_problem("gaussian", n=6, d=400, p=0.1, seed=2)
    losses, (whole,) = {}, batches(problem)
    for by in (0.9, 1.0, 1.1, 2.0):
        model = LinearNetwork(400)
        mask = ls.random_mask(model, targets=TARGET, seed=5, density=0.1)
        ls.attach(model, mask)
        kept = restrict(problem, mask)
        step = sign_step(from_array(kept.columns.T), kept.gradient(np.zeros(kept.k)))
        lr = by * step.rate(1.0)
        optimizer = ls.AdamW(ls.trainable(model).values(), lr=lr, eps=1e-14, weight_decay=0)
        start, count = squared_loss(model, whole)
        (start / count).backward()
        optimizer.step()
        losses[by] = float(squared_loss(model, whole)[0].detach()) / count
        said = float(start.detach()) / count + step.change(1.0, lr)
        assert losses[by] == pytest.approx(said, rel=1e-9)
    assert losses[1.0] == min(losses.values())
    assert losses[2.0] == pytest.approx(float(start.detach()) / count, rel=1e-9)


def test_adams_threshold_is_below_38_best_steps_for_every_mask_and_equal_for_one_sample() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 5):
        for _ in range(20):
            columns, y = rng.standard_normal((7, n)), rng.standard_normal(n)
            g = -columns @ y / n
            half = np.abs(g) ** -0.5
            dense = half[:, None] * (columns @ columns.T / n) * half
            exact = adam_threshold(float(np.linalg.eigvalsh(dense)[-1]), 0.9)
            assert adam_step(columns, g, 0.9) == pytest.approx(exact, rel=1e-9)
            ceiling = adam_ceiling(sign_step(from_array(columns.T), g), 0.9)
            assert exact <= ceiling * (1 + 1e-9)
            if n == 1:
                assert exact == pytest.approx(ceiling, rel=1e-9)


def test_the_interval_of_a_masks_rate_closes_as_features_are_added() -> None:
    assert interval_excess(interval) <= 1
    widths = []
    for d in (2000, 20_000):
        problem = make_problem("uniform", n=8, d=d, p=0.2)
        step = sign_step(problem.features, gradient_at_zero(problem))
        low, high = step.interval(0.2, 0.05, problem.moments)
        assert low < step.rate(0.2) < high
        widths.append(np.log(high / low))
    assert widths[1] < 0.75 * widths[0]


def bernstein(variance: float, largest: float, level: float) -> float:
    """Return where scalar Bernstein's tail is the level, by bisection of the inequality itself."""

    def tail(t: float) -> float:
        return np.exp(-(t**2) / 2 / (variance + largest * t / 3)) - level

    return float(optimize.brentq(tail, 1e-12, 1e6, xtol=1e-14, rtol=1e-13))


@pytest.mark.parametrize(
    ("n", "d", "p"), [(2, 60, 0.9), (2, 60, 0.99), (4, 3000, 0.02), (3, 9, 0.5)]
)
def test_an_interval_is_what_its_three_inequalities_give_of_dense_arrays(
    n: int, d: int, p: float
) -> None:
    problem = make_problem("uniform", n=n, d=d, p=p, seed=2)
    x, g, delta = problem.features.columns().T, gradient_at_zero(problem), 0.1
    s, q, larger = np.sign(g), p * (1 - p), max(p, 1 - p)
    step = sign_step(problem.features, g)
    room = bernstein(q * (g**2).sum(), larger * np.abs(g).max(), delta / 4)
    wide = (4 / delta - 1) ** 0.5 * step.spread(p, problem.moments)[1]  # by all masks, above
    bend = p**2 * ((x @ s) ** 2).sum() / n + q * ((x**2) @ s**2).sum() / n
    along = x.T @ (x @ s) / np.linalg.norm(x @ s) / n**0.5
    longest = larger * np.linalg.norm(x, axis=0).max() / n**0.5
    short = p * (along @ s) - bernstein(q * (along**2).sum(), longest, delta / 4)
    ends = [bend - wide, max(short, 0.0) ** 2]
    least = max(ends)
    assert (ends[0] > ends[1]) == (p == 0.99)  # each of the two says more somewhere
    low, high = step.interval(p, delta, problem.moments)
    assert low == pytest.approx(max(0.0, p * np.abs(g).sum() - room) / (bend + wide), rel=1e-9)
    wanted = (p * np.abs(g).sum() + room) / least if least > 0 else np.inf
    assert high == pytest.approx(wanted, rel=1e-9)


def test_the_first_rate_of_adamw_matches_the_median_of_masks_until_few_are_kept() -> None:
    problem = make_problem("gaussian", n=16, d=8000, p=0.1, seed=1)
    g = gradient_at_zero(problem)
    step = sign_step(problem.features, g)
    for p, off in ((0.1, 0.02), (0.01, 0.05), (0.002, 0.1)):
        some = make_problem(problem.features, p=p).masks(96)
        sizes, bends = np.concatenate([masked_steps(problem.features, g, m) for m in some]).T
        assert np.median(sizes / bends) == pytest.approx(step.rate(p), rel=off)


def test_a_step_in_torch_along_the_signs_is_what_the_sums_say() -> None:
    problem = make_problem("rademacher", n=4, d=30, p=1.0)
    (whole,) = batches(problem)
    model = LinearNetwork(30)
    start, count = squared_loss(model, whole)
    (start / count).backward()
    g = model.linear.weight.grad[0]
    step = sign_step(problem.features, g.numpy())
    with torch.no_grad():
        model.linear.weight -= 0.01 * g.sign()
        after = float(squared_loss(model, whole)[0]) / count
    said = float(start.detach()) / count + step.change(1.0, 0.01)
    assert after == pytest.approx(said, rel=1e-12)
