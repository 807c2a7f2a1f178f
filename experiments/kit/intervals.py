"""Means, differences and exponents with Student's intervals, and what they decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from experiments.kit.judge import Finding, Verdict, above, settle

LEVEL = 0.95


def mean_std(values: Sequence[float], form: str = ".3g") -> str:
    """Format a mean and standard deviation over n runs; a single run has no deviation.

    >>> mean_std([1.0, 2.0, 3.0])
    '2 ± 1'
    >>> mean_std([2.0])
    '2'
    """
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{fmean(values):{form}} ± {stdev(values):{form}}"


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean and Student's 95 % interval; without an interval for fewer than two.

    >>> interval([1.0])
    (1.0, nan, nan)
    """
    mean = fmean(values)
    if len(values) < 2:
        return mean, math.nan, math.nan
    return mean, *_student(mean, stdev(values) / math.sqrt(len(values)), len(values) - 1)


def _student(value: float, error: float, freedom: int) -> tuple[float, float]:
    """Return Student's 95 % interval of an estimate with a standard error."""
    from scipy import stats

    if not error > 0:  # an interval without a width, which scipy has as nan
        return value, value
    low, high = stats.t.interval(LEVEL, freedom, loc=value, scale=error)
    return float(low), float(high)


def gains(differences: Sequence[float]) -> Verdict:
    """Judge whether a mean difference is above zero, by its interval.

    >>> gains([0.1, 0.2, 0.15]), gains([0.1, -0.2, 0.15]), gains([0.1])
    ('holds', 'undecided', 'undecided')
    """
    _, low, high = interval(differences) if differences else (math.nan,) * 3
    return above(low, high)


def describe_margin(values: Sequence[float]) -> str:
    """Write a mean difference with its interval and what it decides."""
    mean, low, high = interval(values)
    if math.isnan(low):
        return f"{mean:+.3f}, n=1, no interval"
    verdict = "" if low > 0 or high < 0 else ", which contains 0: undecided"
    return f"{mean:+.3f}, 95 % interval [{low:+.3f}, {high:+.3f}]{verdict}, n={len(values)}"


@dataclass(frozen=True)
class Exponent:
    """Hold the exponent s of a fit y ~ x^s, NaN where the points are too few.

    Args:
        value: s; needs two points.
        error: its standard error; needs three.
        low, high: its 95 % interval; need three.
    """

    value: float = math.nan
    error: float = math.nan
    low: float = math.nan
    high: float = math.nan


def exponent(x: Sequence[float], y: Sequence[float]) -> Exponent:
    """Fit log y = a + s log x by least squares, over the points where both are positive.

    >>> exponent([1.0, 10.0, 100.0], [2.0, 20.0, 200.0]).value
    1.0
    """
    from scipy import stats

    points = [(a, b) for a, b in zip(x, y, strict=True) if a > 0 and b > 0]
    if len({a for a, _ in points}) < 2:
        return Exponent()
    fit = stats.linregress([math.log(a) for a, _ in points], [math.log(b) for _, b in points])
    exact = len({b for _, b in points}) == 1  # where scipy's error is nan
    s, error = round(float(fit.slope), 12), 0.0 if exact else float(fit.stderr)
    if len(points) < 3:
        return Exponent(s)
    return Exponent(s, error, *_student(s, error, len(points) - 2))


def margins(
    rows: Sequence[Mapping[str, Any]], axis: str, better: str, worse: str, value: str
) -> dict[tuple[float | None, int], float]:
    """Return by how much one arm's value is above another's, by ratio and seed.

    Args:
        rows: at most one for every arm, ratio and seed.
        axis: the coordinate that names the arm.
        better, worse: the two arms.
        value: the entry that is compared.
    """
    arms: dict[str, dict[tuple[float | None, int], float]] = {better: {}, worse: {}}
    for row in rows:
        if row[axis] in arms:
            arms[row[axis]][row.get("ratio"), row["seed"]] = row[value]
    return {at: x - arms[worse][at] for at, x in arms[better].items() if at in arms[worse]}


def all_met(statement: str, met: Sequence[bool], of: str = " pairs") -> Finding:
    """State that a condition is met everywhere."""
    return Finding(statement, settle(all(met)), f"{sum(met)} of {len(met)}{of}")
