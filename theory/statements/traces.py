"""The two trace identities: exact over all masks of a few columns, then on the whole instance."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import special

from theory import bounds
from theory.claim import Claim, Finding, ratio, sample_size
from theory.features import Array
from theory.problems import MaskedRegression
from theory.spectra import ENUMERATED, every_mask

CERTAINTY = 1e-6  # chance that each true identity is called violated by its Monte Carlo check
EXACT = 1e-12  # relative rounding of a sum over 2^10 masks


def expected_traces(p: float, sum_norm2: float, sum_norm4: float) -> tuple[float, float]:
    """Return E sum_i lambda_i = p ||X||_F^2 and E ||Q||_F^2 = p (1-p) sum_j ||z_j||^4."""
    return p * sum_norm2, p * (1 - p) * sum_norm4


def enumerate_traces(columns: Array, p: float) -> tuple[float, float]:
    """Return both expectations by summing over all 2^k masks of a few columns (k, n)."""
    if columns.shape[1] > len(columns):  # same inner products, shorter columns
        columns = np.asarray(np.linalg.qr(columns.T, mode="r")).T
    weights, kept = every_mask(columns, p)
    whole = p * columns.T @ columns
    squares = [float(((some.T @ some - whole) ** 2).sum()) for some in kept]
    return float(weights @ (kept**2).sum(axis=(1, 2))), float(weights @ squares)


def groups_of(count: int, certainty: float = CERTAINTY) -> tuple[int, float]:
    """Return how many groups to split a sample into, and the room for the median of their means.

    By Chebyshev the mean of m = count // groups draws is off by more than c standard deviations of
    one draw with probability q <= 1/(m c^2), and the median of the means only if half of them are:
    P(Binomial(groups, q) >= groups/2) <= certainty. Needs the variance, and no bound on a draw.

    Returns:
        Odd number of groups, and c.
    """
    options = []
    for groups in range(1, count + 1, 2):
        half = (groups + 1) // 2
        q = float(special.betaincinv(half, groups - half + 1, certainty))
        options.append((1 / math.sqrt(count // groups * q), groups))
    room, groups = min(options)
    return groups, room


def median_of_means(values: Array, groups: int) -> float:
    """Return the median over groups of equal size of their means; leftover draws are not used."""
    size = len(values) // groups
    return float(np.median(values[: groups * size].reshape(groups, size).mean(axis=1)))


def _same(found: float, formula: float, floor: float) -> bool:
    return abs(found - formula) <= EXACT * max(abs(found), abs(formula)) + floor


def _traces(
    predict: Callable[[float, float, float], tuple[float, float]],
    problem: MaskedRegression,
    seed: int,
) -> Finding:
    """Check the identities exactly on a few columns, then by Monte Carlo on the whole instance.

    The mean of sum_i lambda_i is judged by scalar Bernstein: N d independent terms, each at most
    max(p, 1-p) max_j ||z_j||^2 / N almost surely. ||Q||_F^2 has no such bound below ||X||_F^4, so
    its median of means is judged, with its variance (NOTES, trace-identity).
    """
    m, p, count = problem.moments, problem.p, sample_size(problem.delta)
    if p == 0 or m.top == 0:
        return Finding("vacuous", "E sum_i lambda_i", 0.0, 0.0, note="p = 0 or X = 0: 0 = 0")
    few = problem.features.take(np.arange(min(ENUMERATED, problem.d)))
    norm2 = np.einsum("ji,ji->j", few, few)
    sizes = float(norm2.sum()), float((norm2**2).sum())
    exact, formula = enumerate_traces(few, p), predict(p, *sizes)
    floors = 0.0, 1e-28 * sizes[0] ** 2  # at p = 1, Q = 0 to rounding
    same = all(map(_same, exact, formula, floors))

    trace, square = predict(p, float(np.trace(m.gram)), m.sum_norm4)
    traces, squares = [], []
    for grams in problem.grams(count, seed):
        traces.extend(np.trace(grams, axis1=1, axis2=2).tolist())
        squares.extend(((grams - p * m.gram) ** 2).sum(axis=(1, 2)).tolist())
    spread = p * (1 - p) * m.sum_norm4
    spread4 = p * (1 - p) * (1 - 2 * p) ** 2 * m.sum_norm8
    spread4 += 2 * (p * (1 - p)) ** 2 * float((m.weighted**2).sum())
    largest = max(p, 1 - p) * m.max_norm2
    room = bounds.scalar_bernstein(spread / count, largest / count, CERTAINTY / 2)
    groups, wide = groups_of(count)
    mean, middle = float(np.mean(traces)), median_of_means(np.array(squares), groups)
    rounding = 1e-12 * float(np.trace(m.gram))
    near = abs(mean - trace) <= room + rounding
    near = near and abs(middle - square) <= wide * math.sqrt(spread4) + rounding * float(
        np.trace(m.gram)
    )
    return Finding(
        "holds" if same and near else "violated",
        "E sum_i lambda_i",
        trace,
        mean,
        ratio(trace, mean),
        "Monte Carlo",
        samples=count,
        standard_error=math.sqrt(spread / count),
        note=f"exact over all {2 ** len(few)} masks of {len(few)} columns: "
        + ("both to rounding" if same else f"{exact[0]:.6g}, {exact[1]:.6g}"),
        details={
            "E ||Q||_F^2": square,
            "median of means of ||Q||_F^2": middle,
            "its room": wide * math.sqrt(spread4),
            "trace over all masks of a few columns": exact[0],
            "||Q||_F^2 over all masks of a few columns": exact[1],
        },
    )


CLAIMS = (
    Claim(
        "trace-identity",
        "E sum_i lambda_i = p ||X||_F^2 and E ||Q||_F^2 = p(1-p) sum_j ||z_j||^4",
        "E sum_i lambda_i = p ||X||_F^2 and E ||X M X^T - p X X^T||_F^2 = p(1-p) sum_j ||z_j||^4",
        "paper 1, section 5.2; the second: this project",
        expected_traces,
        _traces,
        chapter="How far masked eigenvalues are from p times the full ones",
        proof=(
            "The trace is sum_j m_j ||z_j||^2; in ||Q||_F^2 only the squares of the independent "
            "m_j - p survive the expectation."
        ),
        measured=(
            "Exactly over all masks of ten columns, then by the mean (trace) and the median of "
            "means (norm) over masks of the instance, wrong with probability 1e-6."
        ),
        rejects=("p^2 in the trace", "variance p^2", "trace off by 1e-9"),
    ),
)
