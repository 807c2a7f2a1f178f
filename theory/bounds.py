"""Bounds on the eigenvalues of a randomly masked Gram matrix, each a pure function of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from theory.spectra import Moments


def theorem_51_printed(n: int, d: int, r: float, delta: float) -> float:
    """Return the deviation bound of theorem 5.1 as printed (false: its last term has unit 1/r^2).

    2 sqrt(2 d n^3 r^4) + sqrt(2 log(1/delta) / (d n^2 r^4)).

    >>> round(theorem_51_printed(1, 33, 2.0, 1e-10), 3)  # less than 66 = d r^2 / 2
    65.288
    """
    if r == 0:
        return math.inf
    head = 2 * math.sqrt(2 * d * n**3 * r**4)
    return head + math.sqrt(2 * math.log(1 / delta) / (d * n**2 * r**4))


def theorem_51_corrected(n: int, d: int, r: float, delta: float) -> float:
    """Return the deviation bound that the proof of theorem 5.1 gives when its tail is inverted.

    2 sqrt(2 d n^3 r^4) + sqrt(2 d n^2 r^4 log(1/delta)), for entries with |x| <= r.

    >>> theorem_51_corrected(32, 100_000, 1.0, 0.05) // 1000
    186.0
    """
    head = 2 * math.sqrt(2 * d * n**3 * r**4)
    return head + math.sqrt(2 * d * n**2 * r**4 * math.log(1 / delta))


def bernstein(moments: Moments, p: float, delta: float) -> float:
    """Return t with P(||Q|| >= t) <= delta for Q = X M X^T - p X X^T, by matrix Bernstein.

    2n exp(-(t^2/2) / (V + L t/3)) = delta, V = p (1-p) ||sum_j ||z_j||^2 z_j z_j^T||,
    L = max(p, 1-p) max_j ||z_j||^2. Source: Tropp 2015, theorem 6.1.1, both tails.
    """
    n = len(moments.gram)
    variance = p * (1 - p) * weighted_norm(moments)
    return scalar_bernstein(variance, max(p, 1 - p) * moments.max_norm2, delta / (2 * n))


def weighted_norm(moments: Moments) -> float:
    """Return the norm of sum_j ||z_j||^2 z_j z_j^T."""
    return float(np.linalg.eigvalsh(moments.weighted)[-1])


def scalar_bernstein(variance: float, largest: float, delta: float) -> float:
    """Return t with exp(-(t^2/2) / (variance + largest t/3)) = delta."""
    half = math.log(1 / delta) * largest / 3
    return half + math.sqrt(half**2 + 2 * math.log(1 / delta) * variance)


def chernoff_upper(mean: float, largest: float, delta: float, dimension: int) -> float:
    """Return s >= 1 with P(lambda_1 >= s mean) <= delta, by matrix Chernoff.

    dimension (e^e / (1+e)^(1+e))^(mean/largest) = delta, s = 1 + e.
    Source: Tropp 2015, theorem 5.1.1.
    """
    level = math.log(dimension / delta) * largest / mean
    if level <= 0:
        return 1.0

    def rate(e: float) -> float:
        return (1 + e) * math.log1p(e) - e

    high = 1.0
    while rate(high) < level:
        high *= 2
    return 1 + _invert(rate, level, high)


def chernoff_lower(mean: float, largest: float, delta: float, dimension: int) -> float:
    """Return s in [0, 1] with P(lambda_n <= s mean) <= delta; 0 when the bound says nothing.

    dimension (e^-e / (1-e)^(1-e))^(mean/largest) = delta, s = 1 - e.
    Source: Tropp 2015, theorem 5.1.1.
    """
    if mean <= 0:
        return 0.0
    level = math.log(dimension / delta) * largest / mean
    if level > 1 - 1e-12:  # the rate e + (1-e) log(1-e) is at most 1
        return 0.0
    if level <= 0:
        return 1.0

    def rate(e: float) -> float:
        return e + (1 - e) * math.log1p(-e)

    return 1 - _invert(rate, level, 1 - 1e-15)


def _invert(rate: Callable[[float], float], level: float, high: float) -> float:
    """Bisect rate(e) = level for a rate that grows from 0 on [0, high]."""
    low = 0.0
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if rate(middle) < level else (low, middle)
    return high
