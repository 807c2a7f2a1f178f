"""The step that SGD tolerates on random masks, one example at a time: 1/p as long as norms are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

from theory import bounds, tiled
from theory.claim import Claim, Finding, clopper_pearson, ratio, settle
from theory.features import Array
from theory.problems import MaskedRegression
from theory.statements.theorem51 import random_mask

Lengths = Callable[[Array, Array, float, float], tuple[float, float]]


def longest_example(lengths: Array, largest: Array, p: float, delta: float) -> tuple[float, float]:
    """Return an interval that holds max_i ||x_{i,S}||^2 with probability >= 1 - delta over masks.

    Scalar Chernoff bounds on ||x_{i,S}||^2 = sum_j m_j x_ij^2: above for all n examples at once,
    below for the best one alone.

    Args:
        lengths: ||x_i||^2, (n,).
        largest: max_j x_ij^2, (n,).
        p: probability to keep a feature.
        delta: failure probability, half of it at either end.
    """
    n, low, high = len(lengths), 0.0, 0.0
    for length, top in zip(lengths.tolist(), largest.tolist()):
        if length == 0:
            continue
        high = max(high, p * length * bounds.chernoff_upper(p * length, top, delta / 2, n))
        low = max(low, p * length * bounds.chernoff_lower(p * length, top, delta / 2, 1))
    return low, high


@cache
def rate_excess(predict: Lengths) -> tiled.Excess:
    """Compare exact failure probabilities of both ends with delta/2 on tiled identities."""
    return tiled.worst(_rate_cases(predict))


def _rate_cases(predict: Lengths) -> Iterator[tuple[float, float, str]]:
    for x, delta in tiled.instances():
        low, high = predict(np.full(x.n, float(x.copies)), np.ones(x.n), x.p, delta)
        yield x.top_reaches(high), delta / 2, f"{x.name}, longest example above"
        if low > 0:
            yield x.top_at_most(low), delta / 2, f"{x.name}, longest example below"


def _rate(predict: Lengths, problem: MaskedRegression, seed: int) -> Finding:
    quantity, excess = "2 / max_i ||x_{i,S}||^2, SGD's safe step at b = 1", rate_excess(predict)
    if excess.refutes:
        return excess.finding(quantity)
    if not random_mask(problem):
        return Finding("vacuous", quantity, 0.0, 0.0, note="p is 0 or 1, or X = 0")
    lengths = np.diagonal(problem.moments.gram)
    tops = [np.square(block).max(0) for _, block in problem.features.blocks()]
    low, high = predict(lengths, np.max(tops, axis=0), problem.p, problem.delta)

    def longest(count: int) -> Array:
        diagonals = [np.diagonal(g, axis1=1, axis2=2) for g in problem.grams(count, seed)]
        return np.asarray(np.concatenate(diagonals).max(axis=1))

    slack = 1e-12 * float(lengths.max())
    seen, broken, verdict, note = settle(
        problem.delta, longest, lambda seen: (seen > high + slack) | (seen < low - slack)
    )
    if broken == 0 and low <= 0 and high >= lengths.max():
        verdict, note = "vacuous", "neither end excludes any mask"
    middle = float(np.median(seen))
    law, step = problem.p * float(lengths.max()), 2 / middle if middle > 0 else math.inf
    longest_step = 2 / low if low > 0 else math.inf
    return Finding(
        verdict,
        quantity,
        2 / law,
        step,
        ratio(2 / law, step),
        "Monte Carlo",
        samples=len(seen),
        violations=broken,
        interval=clopper_pearson(broken, len(seen)),
        note=note
        or f"between {2 / high:.3g} and {longest_step:.3g}; median of masks against "
        "2 / (p max_i ||x_i||^2)",
        details={
            "step at least": 2 / high,
            "step at most": longest_step,
            "worst probability / delta, exact": excess.factor,
        },
    )


CLAIMS = (
    Claim(
        "sgd-rate",
        "sgd's safe step at b = 1, 2/max|x_iS|^2, is within known factors of 2/(p max|x_i|^2)",
        "with probability >= 1 - delta over masks max_i ||x_{i,S}||^2, 2 over which is the step "
        "that sgd promises at b = 1, is within scalar Chernoff factors of p max_i ||x_i||^2",
        "this project, from sgd",
        longest_example,
        _rate,
        chapter="Dynamics on one mask",
        assumptions=("0 < p < 1", "b = 1"),
        proof=(
            "Each norm(x_{i,S})^2 is a sum of independent scalars: scalar Chernoff for the "
            "longest example below, for all n of them above."
        ),
        measured=(
            "Exact failure probabilities on tiled identities, then masks of the instance: "
            "violated if the 99 % interval of the failure probability is above delta."
        ),
        rejects=("half the largest entry", "without the factor n", "p for 1-p", "p^2"),
    ),
)
