"""ID3 (paper 2): its heuristic against the Fisher information, and its number of updates."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from landscape import seeds
from theory import purposes
from theory.claim import Claim, Finding, ratio
from theory.features import Array
from theory.problems import MaskedRegression

EXPONENTS_ANY = (-1.0, 0.0, 0.5, 1.0, 2.0)
EXPONENTS_TRUE = (0.0, 0.5, 1.0, 2.0)
EPSILONS = (1.0, 1.5, 3.0)
BATCHES = (1, 2, 3, 8)


def heuristic_factor(theta: Array, eps: float, exponent: float) -> Array:
    """Return 1 / (|theta| + eps)^exp, the factor of |g| in paper 2's H."""
    return np.asarray((np.abs(theta) + eps) ** -exponent)


def _compare(
    factor: Callable[[Array, float, float], Array],
    problem: MaskedRegression,
    exponents: tuple[float, ...],
) -> Finding:
    """Compare E H with sqrt(I) for scores whose moments are known, at the weights of the instance.

    Gaussian noise: the score of w_j is z_j^T eps / sigma^2, so E|score| = sqrt(2/pi) sqrt(I).
    Laplace noise of scale b, one sample, unit feature: |score| = 1/b always, so E|score| = sqrt(I):
    the case of equality in Jensen's inequality, where only the factor decides.
    """
    theta = problem.truth[: min(problem.d, 4096)]
    worst, at = 0.0, (math.nan, math.nan, math.nan, "")
    for exponent in exponents:
        for eps in EPSILONS:
            values = factor(theta, eps, exponent)
            index = int(values.argmax())
            for family, share in (("Laplace", 1.0), ("Gaussian", math.sqrt(2 / math.pi))):
                if share * values[index] > worst:
                    worst = share * float(values[index])
                    at = (exponent, eps, float(theta[index]), family)
    exponent, eps, value, family = at
    broken = worst > 1 + 1e-12
    return Finding(
        "violated" if broken else "holds",
        "E H / sqrt(I), worst case",
        1.0,
        worst,
        ratio(1.0, worst),
        note=f"{family} score, exp = {exponent:g}, eps = {eps:g}, theta = {value:.3g}",
        details={"exp": exponent, "eps": eps, "theta": value},
    )


def _printed(predict: Callable[..., Array], problem: MaskedRegression, seed: int) -> Finding:
    return _compare(predict, problem, EXPONENTS_ANY)


def _restricted(predict: Callable[..., Array], problem: MaskedRegression, seed: int) -> Finding:
    return _compare(predict, problem, EXPONENTS_TRUE)


def update_counts(budget: int, steps: int) -> tuple[int, int]:
    """Return scalar updates of static selection, T B, and of uniform increments, B (T+1)/2.

    Needs T to divide B.

    >>> update_counts(3, 3)
    (9, 6)
    """
    return steps * budget, budget * (steps + 1) // 2


def count_updates(problem: MaskedRegression, budget: int, steps: int, seed: int) -> tuple[int, int]:
    """Train with both selections, H with eps = 1 and exp = 0, and count the entries that move.

    A step updates each selected weight once; increments add the budget/steps weights of largest
    |gradient| outside the selection before each step.
    """
    order = seeds.numbered(seed, purposes.FEATURES).permutation(problem.d)
    features = np.sort(order[: 4 * budget])
    mask = problem.restrict(features.astype(np.int64))
    eta = problem.n / max(mask.top, 1e-300)
    counts = []
    for increments in (False, True):
        w, selected, updates = np.zeros(mask.k), np.zeros(mask.k, dtype=bool), 0
        for step in range(steps):
            gradient = mask.gradient(w)
            new = budget // steps if increments else budget * (step == 0)
            score = np.where(selected, -1.0, np.abs(gradient))
            selected[np.argsort(-score, kind="stable")[:new]] = True
            w = np.where(selected, w - eta * gradient, w)
            updates += int(selected.sum())
        counts.append(updates)
    return counts[0], counts[1]


def _updates(
    predict: Callable[[int, int], tuple[int, int]], problem: MaskedRegression, seed: int
) -> Finding:
    cases = [(per * steps, steps) for per in BATCHES for steps in (1, 2, 5, 16)]
    cases = [(budget, steps) for budget, steps in cases if 4 * budget <= problem.d]
    if not cases:
        return Finding("vacuous", "scalar updates", 0.0, 0.0, note="fewer than four features")
    pairs = [(predict(b, t), count_updates(problem, b, t, seed)) for b, t in cases]
    same = all(said == seen for said, seen in pairs)
    said, seen = pairs[-1]
    budget, steps = cases[-1]
    return Finding(
        "holds" if same else "violated",
        "scalar updates, increments",
        said[1],
        seen[1],
        ratio(said[1], seen[1]),
        note=f"counted in training: B={budget}, T={steps}, static {seen[0]}, increments {seen[1]}",
        details={"cases": len(cases), "static": seen[0], "static predicted": said[0]},
    )


CLAIMS = (
    Claim(
        "id3-thm-1",
        "sqrt(I(theta)) >= E H(theta), H = |g| / (|theta| + eps)^exp, for eps >= 1 and every exp",
        "sqrt(I(theta)) >= E H(theta), H = |g| / (|theta| + eps)^exp, for all eps >= 1 and all exp",
        "paper 2, theorem 1 as printed",
        heuristic_factor,
        _printed,
        expected="violated",
    ),
    Claim(
        "id3-thm-1-corrected",
        "sqrt(I(theta)) >= E H(theta) for eps >= 1 and exp >= 0",
        "sqrt(I(theta)) >= E H(theta) for eps >= 1 and exp >= 0",
        "paper 2, theorem 1 with the condition that its last step needs",
        heuristic_factor,
        _restricted,
    ),
    Claim(
        "id3-updates",
        "scalar updates over T steps: static T B, uniform increments B (T+1)/2",
        "scalar updates over T steps with budget B: static T B, uniform increments B (T+1)/2",
        "paper 2, section 3.2",
        update_counts,
        _updates,
    ),
)
