"""Sign descent on random masks: how AdamW's first rate depends on p, and where that stops."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from theory import bounds
from theory.binomial import exactly
from theory.claim import Claim, Finding, Verdict, clopper_pearson, ratio, sample_size, settle
from theory.features import Array, Features, from_array, of_columns, plain
from theory.problems import MaskedRegression
from theory.signs import SignStep, masked_steps, sign_step
from theory.spectra import ENUMERATED, Moments, every_mask
from theory.statements.theorem51 import random_mask
from theory.statements.traces import CERTAINTY, groups_of, median_of_means

EXACT = 1e-10  # relative rounding of a sum over 2^10 masks
RATES = (0.3, 1.0, 2.5)  # times eta*(p), at which the mean loss is compared
Law = Callable[[SignStep, float, float], tuple[float, float]]
Ends = Callable[[SignStep, float, float, Moments], tuple[float, float]]
QUANTITY = "best rate of the mean loss, eta*(p)"


def sign_law(step: SignStep, p: float, eta: float) -> tuple[float, float]:
    """Return E_M L(-eta M s) - L(0) and the rate eta*(p) at which it is lowest."""
    return step.change(p, eta), step.rate(p)


def sign_interval(step: SignStep, p: float, delta: float, moments: Moments) -> tuple[float, float]:
    """Return the interval of one mask's best rate, ``SignStep.interval``."""
    return step.interval(p, delta, moments)


def gradient_at_zero(problem: MaskedRegression) -> Array:
    """Return -X^T y / n (d,), the gradient of L at w_0 = 0."""
    return _gradient(problem.features, problem.y)


def _gradient(features: Features, y: Array) -> Array:
    parts = [np.einsum("ji,i->j", block, y) for _, block in features.blocks()]
    return -np.concatenate(parts) / features.n


def mean_changes(columns: Array, y: Array, p: float, rates: Array) -> tuple[Array, float]:
    """Return E_M L(-eta M s) - L(0) for several eta, and where it is lowest, over all 2^k masks.

    Every mask's loss is evaluated by itself, the lowest point from three of the means.

    Args:
        columns: a few columns as rows, (k, n).
        y: targets (n,).
        rates: eta, (q,); q >= 3.
    """
    n = len(y)
    weights, kept = every_mask(columns, p)
    moves = np.einsum("tkn,k->tn", kept, np.sign(columns @ y))  # -X M s
    losses = np.square(y - rates[:, None, None] * moves).sum(-1) / (2 * n)
    means = np.asarray(losses @ weights - y @ y / (2 * n))
    bend, slope, _ = np.polyfit(rates / rates[-1], means, 2)
    return means, float(-slope / (2 * bend) * rates[-1])


def _enumerated(predict: Law, problem: MaskedRegression) -> tuple[float, int]:
    """Return the worst relative error over all masks of a few columns, and how many columns."""
    few = plain(problem.features.take(np.arange(min(ENUMERATED, problem.d))))
    y = problem.y / (np.abs(problem.y).max() or 1.0)
    gradient = -few @ y / len(y)
    step, p = sign_step(of_columns(few), gradient), problem.p
    if step.size == 0:
        return 0.0, len(few)
    rates = np.array(RATES) * step.rate(p)
    means, lowest = mean_changes(few, y, p, rates)
    said = np.array([predict(step, p, float(eta))[0] for eta in rates])
    scale = float(y @ y) / (2 * len(y)) + np.abs(means)
    # the parabola through three means is as sharp as they are, over how far they fall
    blur = float(scale[1]) / abs(step.change(p, step.rate(p)))
    off = abs(predict(step, p, float(rates[0]))[1] / lowest - 1)
    return max(float((np.abs(means - said) / scale).max()), off / max(blur, 1.0)), len(few)


def _descent(predict: Law, problem: MaskedRegression, seed: int) -> Finding:
    """Sum over all masks of a few columns, then compare two means over random masks of all."""
    p, gradient = problem.p, gradient_at_zero(problem)
    if p == 0 or not gradient.any():
        return Finding("vacuous", QUANTITY, 0.0, 0.0, note="p = 0 or g = 0: nothing moves")
    off, few = _enumerated(predict, problem)
    step, count = sign_step(problem.features, gradient), sample_size(problem.delta)
    parts = [masked_steps(problem.features, gradient, m) for m in problem.masks(count, seed)]
    sizes, curvatures = np.concatenate(parts).T
    best = predict(step, p, 1.0)[1]
    change, slope = predict(step, p, best)[0], -p * step.size
    mean_curvature = 2 * (change - best * slope) / best**2
    groups, wide = groups_of(count)
    deviation = step.spread(p, problem.moments)[1]
    lowest = -slope / mean_curvature if mean_curvature > 0 else math.inf
    off = max(off, abs(best / lowest - 1) if lowest > 0 else math.inf)
    room = wide * deviation + 1e-9 * step.curvature(p)
    near = abs(median_of_means(curvatures, groups) - mean_curvature) <= room
    largest = max(p, 1 - p) * step.largest / count
    spare = bounds.scalar_bernstein(p * (1 - p) * step.size2 / count, largest, CERTAINTY / 2)
    near = near and abs(float(sizes.mean()) + slope) <= spare + 1e-9 * p * step.size
    moved = curvatures > 0
    middle = float(np.median(sizes[moved] / curvatures[moved])) if moved.any() else math.inf
    verdict: Verdict = "holds" if off <= EXACT and near else "violated"
    plateau = step.size / step.trace
    return Finding(
        verdict,
        QUANTITY,
        best,
        middle,
        ratio(best, middle),
        "Monte Carlo",
        samples=count,
        note=f"exact over all {2**few} masks of {few} columns; measured: median of masks; 1/p "
        f"above p = {step.crossover:.2g}, flat at {plateau:.3g} below",
        details={
            "error over all masks of a few columns": off,
            "crossover p_x": step.crossover,
            "rate as p goes to 0": plateau,
            "rate at p = 1": step.rate(1.0),
            "standard deviation of s_S^T H s_S over its mean": deviation / step.curvature(p),
        },
    )


@cache
def interval_excess(predict: Ends) -> float:
    """Return P(a mask's best rate is outside) / delta, exactly, at most, for n = 1 and X = (1..1).

    Then g = -y (1, .., 1), s_S^T H s_S = K^2 and the best rate is |y| / K, K ~ Binomial(d, p).
    """
    worst = 0.0
    for d, p in ((30, 0.5), (400, 0.1), (400, 0.5)):
        features = from_array(np.ones((1, d)))
        step = sign_step(features, -np.ones(d))
        square = np.full((1, 1), float(d))
        moments = Moments(square, square, 1.0, float(d), float(d), 1.0, 1.0)
        k = np.arange(1, d + 1)
        weights = exactly(k, d, p)
        for delta in (0.5, 0.05, 1e-3):
            low, high = predict(step, p, delta, moments)
            outside = weights[(1 / k < low * (1 - EXACT)) | (1 / k > high * (1 + EXACT))].sum()
            empty = float(exactly(0, d, p)) if low > 0 else 0.0
            worst = max(worst, (float(outside) + empty) / delta)
    return worst


def _rate(predict: Ends, problem: MaskedRegression, seed: int) -> Finding:
    quantity, excess = "best rate of one mask, |g_S|_1 / s_S^T H s_S", interval_excess(predict)
    if excess > 1 + 1e-9:
        note = "whatever the instance: n=1, X=(1, .., 1), exact binomials"
        return Finding("violated", quantity, 1.0, excess, 1 / excess, note=note)
    gradient = gradient_at_zero(problem)
    if not random_mask(problem) or not gradient.any():
        return Finding("vacuous", quantity, 0.0, 0.0, note="p is 0 or 1, or g = 0")
    step = sign_step(problem.features, gradient)
    low, high = predict(step, problem.p, problem.delta, problem.moments)

    def rates(count: int) -> Array:
        parts = [masked_steps(problem.features, gradient, m) for m in problem.masks(count, seed)]
        sizes, curvatures = np.concatenate(parts).T
        return np.where(curvatures > 0, sizes / np.where(curvatures > 0, curvatures, 1.0), np.inf)

    seen, broken, verdict, note = settle(
        problem.delta, rates, lambda seen: (seen < low * (1 - EXACT)) | (seen > high * (1 + EXACT))
    )
    if broken == 0 and low == 0 and math.isinf(high):
        verdict, note = "vacuous", "neither end excludes any mask"
    middle, best = float(np.median(seen)), step.rate(problem.p)
    return Finding(
        verdict,
        quantity,
        best,
        middle,
        ratio(best, middle) if math.isfinite(middle) else None,
        "Monte Carlo",
        samples=len(seen),
        violations=broken,
        interval=clopper_pearson(broken, len(seen)),
        note=note or f"between {low:.3g} and {high:.3g}; median of masks against eta*(p)",
        details={"lower end": low, "upper end": high, "exact failure / delta": excess},
    )


CLAIMS = (
    Claim(
        "sign-descent",
        "mean loss of a masked sign step is lowest at eta*(p) = |g|_1 / (p s'Hs + (1-p) tr H)",
        "with s = sign g, E_M L(-eta M s) = L(0) - eta p |g|_1 + eta^2/2 (p^2 s^T H s + p(1-p) "
        "tr H), lowest at eta*(p) = |g|_1 / (p s^T H s + (1-p) tr H): like 1/p above p_x = "
        "tr H / s^T H s, flat below",
        "this project; AdamW's first step",
        sign_law,
        _descent,
        chapter="Dynamics on one mask",
        assumptions=("one step from w = 0", "the gradient at the start"),
        proof="The loss is quadratic: E M = p and E m_i m_j = p^2 for i != j, p for i = j.",
        measured=(
            "All masks of a few columns are added up, then two means over masks of the instance;"
            " violated where a mean or the best rate is off."
        ),
        rejects=(
            "half the trace",
            "no trace: 1/p for every p",
            "2 s'Hs",
            "half of |g|_1",
            "p for 1-p",
            "p for 1-p in the rate alone",
            "the rate at which the mean loss is L(0) again",
            "variance p for p(1-p)",
            "eta^2 for eta^2/2",
        ),
    ),
    Claim(
        "sign-rate",
        "one mask's best sign step |g_S|_1 / s_S'H s_S is within a known interval around eta*(p)",
        "with probability >= 1 - delta over masks, |g_S|_1 / s_S^T H s_S lies between "
        "(p |g|_1 - t) / (c + k v) and (p |g|_1 + t) / max(c - k v, (p |X s|/sqrt(n) - u)^2): t "
        "and u by scalar Bernstein, c and v the exact mean and deviation of s_S^T H s_S, "
        "k = sqrt(4/delta - 1)",
        "this project, Bernstein's and Cantelli's inequalities",
        sign_interval,
        _rate,
        chapter="Dynamics on one mask",
        assumptions=("0 < p < 1",),
        proof=(
            "The numerator is a sum of independent terms (Bernstein); the denominator has a "
            "known mean and variance (Cantelli), and a lower bound by a sum of independent "
            "terms."
        ),
        measured=(
            "The best step of each mask of the instance: violated if the 99 % interval of the "
            "failure probability is above delta."
        ),
        rejects=("no room above", "no room below", "p for 1-p", "no spread"),
    ),
)
