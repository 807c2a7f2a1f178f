"""What a number of seeds could have shown, and how many would settle what was seen."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from experiments.kit.statistics.interval import LEVEL

#: the chance of finding a difference that is there
POWER = 0.8
#: more seeds than anybody runs
MOST = 1000


def power(shift: float, freedom: float, alpha: float = 1 - LEVEL) -> float:
    """Return the chance that a two-sided t test finds a difference.

    With T of the noncentral t distribution it is P(|T| > t(1 - alpha / 2)).

    Args:
        shift: the noncentrality, which is the difference over its standard error; over n pairs
            the difference over the deviation of the paired differences, times √n.
        freedom: degrees of freedom, n - 1 for n pairs.
        alpha: the test's level.

    Source: Cohen, Statistical power analysis, 1988, chapter 2.

    >>> round(power(0.0, 4), 12)  # what is not there is found in 5 %
    0.05
    >>> round(power(0.5 * 34**0.5, 33), 2)  # half a deviation over 34 pairs
    0.81
    """
    from scipy import special, stats

    critical = float(stats.t.isf(alpha / 2, freedom))
    # T is (Z + shift) / √(C / m), C chi-squared: integrate over y = log(C / m), where the
    # trapezoid converges fast; scipy's noncentral t has NaN at large shifts
    m, width = freedom, 12 / math.sqrt(freedom)
    y = np.linspace(-66 / m - width, math.log1p(66 / m) + width, 4001)
    density = np.exp(m / 2 * (y - np.expm1(y)))
    limit = critical * np.exp(y / 2)
    found = special.ndtr(abs(shift) - limit) + special.ndtr(-abs(shift) - limit)
    return float((density * found).sum() / density.sum())


def detectable(error: float, freedom: float) -> float:
    """Return the smallest difference that so many seeds find with power .8 at level .05.

    It depends on the spread alone and not on the difference seen, so that a difference that was
    not found can be told from one that could not have been.

    Args:
        error: the difference's standard error.
        freedom: its degrees of freedom.

    Returns:
        The difference, above zero; NaN without a standard error.

    Source: Hoenig and Heisey, The abuse of power, 2001 (why not the power at what was seen).

    >>> round(detectable(1 / 5**0.5, 4), 2)  # in deviations of the difference, over five seeds
    1.68
    """
    return error * _shift(freedom) if error > 0 and freedom >= 1 else math.nan


def seeds_needed(
    difference: float, deviation: float, freedoms: float = 1.0, alpha: float = 1 - LEVEL
) -> int | None:
    """Return how many seeds find a difference of this size with power .8.

    A plan and no finding: difference and deviation are themselves estimates of few seeds.

    Args:
        difference: between the arms, as seen.
        deviation: √n times the difference's standard error: of pairs that of the paired
            differences, of two arms the root of the sum of their variances.
        freedoms: degrees of freedom that each seed after the first brings.
        alpha: level of the test.

    Returns:
        The number of seeds, of each arm; none where 1000 do not suffice, or without a spread.

    >>> seeds_needed(0.5, 1.0), seeds_needed(-1.0, 1.0), seeds_needed(0.0, 1.0)
    (34, 10, None)
    >>> seeds_needed(0.5, 1.0, alpha=0.01)
    51
    """

    def suffice(n: int) -> bool:
        shift = abs(difference) / deviation * math.sqrt(n)
        return power(shift, freedoms * (n - 1), alpha) >= POWER

    if not deviation > 0 or not suffice(MOST):
        return None
    low, high = 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffice(middle) else (middle, high)
    return high


@cache
def _shift(freedom: float) -> float:
    """Return the noncentrality that is found with power .8."""
    from scipy import optimize

    # the power grows from .05 at no shift to 1, of one degree of freedom at a shift of about 50
    return float(optimize.brentq(lambda shift: power(shift, freedom) - POWER, 0, 60, xtol=1e-9))
