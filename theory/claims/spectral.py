"""Bounds that shrink with p (matrix Bernstein and Chernoff), and identities for the traces."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from theory import bounds
from theory.claim import (
    Claim,
    Finding,
    Verdict,
    clopper_pearson,
    judge_probability,
    ratio,
    sample_size,
)
from theory.claims.theorem51 import certain
from theory.features import Array
from theory.problems import MaskedRegression
from theory.spectra import ENUMERATED, Moments, descending, every_mask

CERTAINTY = 1e-6  # chance that a true identity is called violated by its Monte Carlo check


def _norms(problem: MaskedRegression, count: int, seed: int) -> Array:
    """Return ||Q|| = ||X M X^T - p X X^T|| for count masks."""
    values = np.linalg.eigvalsh(problem.grams(count, seed) - problem.p * problem.moments.gram)
    return np.asarray(np.abs(values).max(axis=1))


def _random_mask(problem: MaskedRegression) -> bool:
    return 0 < problem.p < 1 and problem.moments.top > 0


def _bernstein(
    predict: Callable[[Moments, float, float], float], problem: MaskedRegression, seed: int
) -> Finding:
    quantity = "||X M X^T - p X X^T||"
    if not _random_mask(problem):
        return Finding("vacuous", quantity, 0.0, 0.0, note="Q = 0: p is 0 or 1, or X = 0")
    count = sample_size(problem.delta)
    allowed = predict(problem.moments, problem.p, problem.delta)
    norms = _norms(problem, count, seed)
    broken = int((norms >= allowed).sum())
    verdict, note = judge_probability(broken, count, problem.delta)
    if verdict == "holds" and allowed >= certain(problem):
        verdict, note = "vacuous", "the bound exceeds what any mask can deviate"
    old = bounds.theorem_51_corrected(problem.n, problem.d, problem.bound, problem.delta)
    return Finding(
        verdict,
        quantity,
        allowed,
        float(norms.max()),
        ratio(allowed, float(norms.max())),
        "Monte Carlo",
        samples=count,
        violations=broken,
        interval=clopper_pearson(broken, count),
        note=note or f"{old / allowed:.3g} times tighter than theorem 5.1 corrected",
        details={"theorem 5.1 corrected": old, "p lambda_1": problem.p * problem.moments.top},
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


def _chernoff(
    predict: Callable[[Moments, float, float], Interval], problem: MaskedRegression, seed: int
) -> Finding:
    quantity = "largest stable step 2n/lambda_1"
    if not _random_mask(problem):
        return Finding("vacuous", quantity, 0.0, 0.0, note="p is 0 or 1, or X = 0")
    count, n = sample_size(problem.delta), problem.n
    interval = predict(problem.moments, problem.p, problem.delta)
    values = descending(problem.grams(count, seed))
    top, bottom = values[:, 0], values[:, -1]
    slack = 1e-12 * problem.moments.top
    events = {
        "lambda_1 above": (int((top > interval.top_high + slack).sum()), problem.delta / 2),
        "lambda_1 below": (int((top < interval.top_low - slack).sum()), problem.delta / 2),
        "lambda_n below": (int((bottom < interval.bottom_low - slack).sum()), problem.delta),
    }
    verdicts = [judge_probability(broken, count, level)[0] for broken, level in events.values()]
    verdict: Verdict = "violated" if "violated" in verdicts else "holds"
    says_nothing = interval.top_high >= problem.moments.top and interval.top_low <= 0
    if verdict == "holds" and says_nothing and interval.bottom_low <= 0:
        verdict = "vacuous"
    shortest = 2 * n / interval.top_high
    longest = 2 * n / interval.top_low if interval.top_low > 0 else math.inf
    centre = 2 * n / problem.p / problem.moments.top
    smallest = 2 * n / float(top.max()) if top.max() > 0 else math.inf
    broken = max(broken for broken, _ in events.values())
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
        note=f"step in [{shortest:.3g}, {longest:.3g}], centre {centre:.3g}",
        details={
            "step at least": shortest,
            "step at most": longest,
            "lambda_n at least": interval.bottom_low,
            "smallest lambda_n seen": float(bottom.min()),
        },
    )


def expected_traces(p: float, sum_norm2: float, sum_norm4: float) -> tuple[float, float]:
    """Return E sum_i lambda_i = p ||X||_F^2 and E ||Q||_F^2 = p (1-p) sum_j ||z_j||^4."""
    return p * sum_norm2, p * (1 - p) * sum_norm4


def enumerate_traces(columns: Array, p: float) -> tuple[float, float]:
    """Return both expectations by summing over all 2^k masks of a few columns (k, n)."""
    weights, grams = every_mask(columns, p)
    gaps = grams - p * columns.T @ columns
    trace = float(weights @ np.trace(grams, axis1=1, axis2=2))
    return trace, float(weights @ (gaps**2).sum(axis=(1, 2)))


def _traces(
    predict: Callable[[float, float, float], tuple[float, float]],
    problem: MaskedRegression,
    seed: int,
) -> Finding:
    """Check the identities exactly on a few columns, then by Monte Carlo on the whole instance.

    The trace's tolerance is scalar Bernstein at ``CERTAINTY``, with the exact variance
    p(1-p) sum_j ||z_j||^4. That of ||Q||_F^2 has the same form; its variance is at most
    p(1-p)(1-2p)^2 sum_j ||z_j||^8 + 2 p^2 (1-p)^2 ||sum_j ||z_j||^2 z_j z_j^T||_F^2.
    """
    few = problem.features.take(np.arange(min(ENUMERATED, problem.d)))
    norm2 = np.einsum("ji,ji->j", few, few)
    exact = enumerate_traces(few, problem.p)
    formula = predict(problem.p, float(norm2.sum()), float((norm2**2).sum()))
    scale = float(norm2.sum()), float((norm2**2).sum())
    exact_error = (
        max(abs(a - b) / s for a, b, s in zip(exact, formula, scale) if s > 0)
        if any(scale)
        else 0.0
    )

    m, p, count = problem.moments, problem.p, sample_size(problem.delta)
    trace, square = predict(p, float(np.trace(m.gram)), m.sum_norm4)
    grams = problem.grams(count, seed)
    traces = np.trace(grams, axis1=1, axis2=2)
    squares = ((grams - p * m.gram) ** 2).sum(axis=(1, 2))
    spread = p * (1 - p) * m.sum_norm4
    spread4 = p * (1 - p) * (1 - 2 * p) ** 2 * m.sum_norm8
    spread4 += 2 * (p * (1 - p)) ** 2 * float((m.weighted**2).sum())
    trace_gap = abs(float(traces.mean()) - trace)
    square_gap = abs(float(squares.mean()) - square)
    jump = max(p, 1 - p)
    rounding = 1e-12 * float(np.trace(m.gram))
    trace_room = bounds.scalar_bernstein(spread / count, jump * m.max_norm2 / count, CERTAINTY)
    jump4 = jump**2 * m.max_norm2**2 / count
    square_room = bounds.scalar_bernstein(spread4 / count, jump4, CERTAINTY)
    agrees = exact_error <= 1e-12 * 2**4
    agrees = agrees and trace_gap <= trace_room + rounding
    agrees = agrees and square_gap <= square_room + rounding * float(np.trace(m.gram))
    return Finding(
        "holds" if agrees else "violated",
        "E sum_i lambda_i",
        trace,
        float(traces.mean()),
        ratio(trace, float(traces.mean())),
        "Monte Carlo",
        samples=count,
        standard_error=math.sqrt(spread / count),
        note=f"exact over all {2 ** len(few)} masks of {len(few)} columns: error {exact_error:.1e}",
        details={
            "E ||Q||_F^2": square,
            "mean ||Q||_F^2": float(squares.mean()),
            "standard error of ||Q||_F^2 (bound)": math.sqrt(spread4 / count),
            "error over all masks of a few columns": exact_error,
        },
    )


CLAIMS = (
    Claim(
        "bernstein",
        "P(||X M X^T - p X X^T|| >= t) <= 2n exp(-(t^2/2) / (V + L t/3)), "
        "V = p(1-p) ||sum_j ||z_j||^2 z_j z_j^T||, L = max(p, 1-p) max_j ||z_j||^2",
        "Tropp 2015, theorem 6.1.1",
        bounds.bernstein,
        _bernstein,
    ),
    Claim(
        "chernoff",
        "lambda_1 and lambda_n are within multiplicative factors of p lambda_1(X X^T) and "
        "p lambda_n(X X^T), so the largest stable step lies in an interval around 2n/(p lambda_1)",
        "Tropp 2015, theorem 5.1.1; the lower end for lambda_1: this project",
        chernoff_interval,
        _chernoff,
    ),
    Claim(
        "trace-identity",
        "E sum_i lambda_i = p ||X||_F^2 and E ||X M X^T - p X X^T||_F^2 = p(1-p) sum_j ||z_j||^4",
        "paper 1, section 5.2; the second: this project",
        expected_traces,
        _traces,
    ),
)
