"""Bounds that shrink with p: matrix Bernstein, and Chernoff for the largest stable step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from theory import bounds, tiled
from theory.claim import (
    Claim,
    Finding,
    Verdict,
    clopper_pearson,
    judge_probability,
    looks,
    ratio,
    settle,
)
from theory.features import Array
from theory.problems import MaskedRegression
from theory.spectra import Moments, descending
from theory.statements.theorem51 import certain, random_mask

ORDER: tuple[Verdict, ...] = ("violated", "unsettled", "vacuous", "holds")  # of three events
Deviation = Callable[[Moments, float, float], float]


def _norms(problem: MaskedRegression, count: int, seed: int) -> Array:
    """Return ||Q|| = ||X M X^T - p X X^T|| for count masks."""
    mean = problem.p * problem.moments.gram
    values = [descending(grams - mean) for grams in problem.grams(count, seed)]
    return np.asarray(np.abs(np.concatenate(values)).max(axis=1))


@cache
def bernstein_excess(predict: Deviation) -> tiled.Excess:
    """Compare the exact failure probability of a bound on ||Q|| with delta on tiled identities."""
    return tiled.worst(
        (x.norm_reaches(predict(x.moments, x.p, delta)), delta, x.name)
        for x, delta in tiled.instances()
    )


def _bernstein(predict: Deviation, problem: MaskedRegression, seed: int) -> Finding:
    quantity, excess = "||X M X^T - p X X^T||", bernstein_excess(predict)
    if excess.refutes:
        return excess.finding(quantity)
    if not random_mask(problem):
        return Finding("vacuous", quantity, 0.0, 0.0, note="Q = 0: p is 0 or 1, or X = 0")
    allowed = predict(problem.moments, problem.p, problem.delta)
    norms, broken, verdict, note = settle(
        problem.delta, lambda count: _norms(problem, count, seed), lambda norms: norms >= allowed
    )
    if broken == 0 and allowed >= certain(problem):
        verdict, note = "vacuous", "the bound exceeds what any mask can deviate"
    old = bounds.theorem_51_corrected(problem.n, problem.d, problem.bound, problem.delta)
    return Finding(
        verdict,
        quantity,
        allowed,
        float(norms.max()),
        ratio(allowed, float(norms.max())),
        "Monte Carlo",
        samples=len(norms),
        violations=broken,
        interval=clopper_pearson(broken, len(norms)),
        note=note or f"{old / allowed:.3g} times tighter than theorem 5.1 corrected",
        details={
            "theorem 5.1 corrected": old,
            "p lambda_1": problem.p * problem.moments.top,
            "worst probability / delta, exact": excess.factor,
        },
    )


@dataclass(frozen=True)
class Interval:
    """Hold bounds at level delta; a side that says nothing is 0 or infinite.

    Args:
        top_high: lambda_1 is at most this with probability >= 1 - delta/2.
        top_low: lambda_1 is at least this with probability >= 1 - delta/2.
        bottom_low: lambda_n is at least this with probability >= 1 - delta.
    """

    top_high: float
    top_low: float
    bottom_low: float


def chernoff_interval(moments: Moments, p: float, delta: float) -> Interval:
    """Return multiplicative bounds on lambda_1 and lambda_n of X M X^T.

    Above: matrix Chernoff with mean p lambda_1, terms at most L = max_j ||z_j||^2, n dimensions.
    Below, for lambda_1: lambda_1 >= u^T X M X^T u = sum_j m_j (z_j^T u)^2 for the top eigenvector
    u of X X^T, a sum of scalars, so one dimension. Below, for lambda_n: matrix Chernoff.
    """
    values = moments.eigenvalues
    n, largest, mean = len(values), moments.max_norm2, p * float(values[0])
    high = mean * bounds.chernoff_upper(mean, largest, delta / 2, n)
    low = mean * bounds.chernoff_lower(mean, largest, delta / 2, 1)
    bottom = max(0.0, p * float(values[-1]))
    return Interval(high, low, bottom * bounds.chernoff_lower(bottom, largest, delta, n))


@cache
def chernoff_excess(predict: Callable[[Moments, float, float], Interval]) -> tiled.Excess:
    """Compare the exact failure probabilities of all three ends on tiled identities."""
    return tiled.worst(_chernoff_cases(predict))


def _chernoff_cases(
    predict: Callable[[Moments, float, float], Interval],
) -> Iterator[tuple[float, float, str]]:
    for x, delta in tiled.instances():
        ends = predict(x.moments, x.p, delta)
        yield x.top_reaches(ends.top_high), delta / 2, f"{x.name}, lambda_1 above"
        if ends.top_low > 0:
            yield x.top_at_most(ends.top_low), delta / 2, f"{x.name}, lambda_1 below"
        if ends.bottom_low > 0:
            yield x.bottom_at_most(ends.bottom_low), delta, f"{x.name}, lambda_n below"


def _judge(
    values: Array, interval: Interval, problem: MaskedRegression
) -> tuple[Verdict, str, int]:
    """Judge the three ends on eigenvalues (N, n); return the weightiest verdict, most failures."""
    top, bottom, slack = values[:, 0], values[:, -1], 1e-12 * problem.moments.top
    events = (
        (int((top > interval.top_high + slack).sum()), problem.delta / 2),
        (int((top < interval.top_low - slack).sum()), problem.delta / 2),
        (int((bottom < interval.bottom_low - slack).sum()), problem.delta),
    )
    judged = [judge_probability(broken, len(values), level) for broken, level in events]
    verdict, note = min(judged, key=lambda pair: ORDER.index(pair[0]))
    return verdict, note, max(broken for broken, _ in events)


def _chernoff(
    predict: Callable[[Moments, float, float], Interval], problem: MaskedRegression, seed: int
) -> Finding:
    quantity, excess = "largest stable step 2n/lambda_1", chernoff_excess(predict)
    if excess.refutes:
        return excess.finding(quantity)
    if not random_mask(problem):
        return Finding("vacuous", quantity, 0.0, 0.0, note="p is 0 or 1, or X = 0")
    n, mean = problem.n, problem.p * problem.moments.top
    interval = predict(problem.moments, problem.p, problem.delta)
    for count in looks(problem.delta / 2):
        values = np.concatenate([descending(grams) for grams in problem.grams(count, seed)])
        verdict, note, broken = _judge(values, interval, problem)
        if verdict != "unsettled":
            break
    top, bottom = values[:, 0], values[:, -1]
    says_nothing = interval.top_high >= problem.moments.top and interval.top_low <= 0
    if broken == 0 and says_nothing and interval.bottom_low <= 0:
        verdict = "vacuous"
    shortest = 2 * n / interval.top_high
    longest = 2 * n / interval.top_low if interval.top_low > 0 else math.inf
    smallest = 2 * n / float(top.max()) if top.max() > 0 else math.inf
    middle = 2 * n / float(np.median(top)) if np.median(top) > 0 else math.inf
    jensen = float(top.mean()) / mean
    return Finding(
        verdict,
        quantity,
        shortest,
        smallest,
        ratio(shortest, smallest),
        "Monte Carlo",
        samples=count,
        violations=broken,
        interval=clopper_pearson(broken, count),
        note=f"{note}{'; ' if note else ''}step in [{shortest:.3g}, {longest:.3g}]; median seen "
        f"{middle:.3g}; 2n/(p lambda_1(X X^T)) = {2 * n / mean:.3g} is no centre: "
        f"mean lambda_1 is {jensen:.2f} times p lambda_1(X X^T)",
        details={
            "step at least": shortest,
            "step at most": longest,
            "median step seen": middle,
            "2n / (p lambda_1(X X^T))": 2 * n / mean,
            "mean lambda_1 / (p lambda_1(X X^T))": jensen,
            "lambda_n at least": interval.bottom_low,
            "smallest lambda_n seen": float(bottom.min()),
            "worst probability / delta, exact": excess.factor,
        },
    )


CLAIMS = (
    Claim(
        "bernstein",
        "P(||Q|| >= t) <= 2n exp(-(t^2/2) / (V + L t/3)), Q = X M X' - p X X'",
        "P(||X M X^T - p X X^T|| >= t) <= 2n exp(-(t^2/2) / (V + L t/3)), "
        "V = p(1-p) ||sum_j ||z_j||^2 z_j z_j^T||, L = max(p, 1-p) max_j ||z_j||^2",
        "Tropp 2015, theorem 6.1.1",
        bounds.bernstein,
        _bernstein,
        chapter="How far masked eigenvalues are from p times the full ones",
        assumptions=("0 < p < 1",),
        proof=(
            "Q is a sum of independent centred matrices (m_j - p) z_j z_j^T of norm at most L "
            "with variance V; Tropp's matrix Bernstein inequality for Q and -Q."
        ),
        measured=(
            "Exact failure probabilities on tiled identities, then ||Q|| of masks of the "
            "instance: violated if the 99 % interval of the failure probability is above delta."
        ),
        rejects=(
            "without the factor 2n",
            "without L",
            "L/2",
            "0.6 times the bound",
            "one standard deviation, no confidence term",
            "units: the square root of the deviation",
        ),
    ),
    Claim(
        "chernoff",
        "lambda_1 and lambda_n are within known factors of p lambda_1(XX') and p lambda_n(XX')",
        "lambda_1 and lambda_n are within multiplicative factors of p lambda_1(X X^T) and "
        "p lambda_n(X X^T), so the largest stable step 2n/lambda_1 lies in an interval; "
        "2n/(p lambda_1(X X^T)) is at least 2n/E lambda_1 (Jensen), not its centre: for isotropic "
        "X it is too large by about (1 + sqrt(n/(pd)))^2, see step-isotropic and heavy-light",
        "Tropp 2015, theorem 5.1.1; the lower end for lambda_1: this project",
        chernoff_interval,
        _chernoff,
        chapter="How far masked eigenvalues are from p times the full ones",
        assumptions=("0 < p < 1",),
        proof=(
            "Matrix Chernoff for the positive summands m_j z_j z_j^T; for the lower end of "
            "lambda_1 the scalar Chernoff bound along the top eigenvector of X X^T."
        ),
        measured=(
            "Exact failure probabilities of the three ends on tiled identities, then lambda_1 "
            "and lambda_n of masks of the instance, each end against its share of delta."
        ),
        rejects=(
            "L/2",
            "upper end without the factor n",
            "lower end of lambda_n without the factor n",
            "upper end at the mean",
            "lower end of lambda_1 above its mean",
            "lambda_n as large as its mean",
        ),
    ),
)
