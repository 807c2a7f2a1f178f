"""Binomial tails, and the interval of a probability from a count, by incomplete beta functions.

They are what ``scipy.stats`` computes, without the second that its import takes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from theory.features import Array


def at_least(k: npt.ArrayLike, n: int, p: float) -> Array:
    """Return P(Binomial(n, p) >= k) = I_p(k, n - k + 1) for integers k, any shape.

    >>> float(at_least(1, 2, 0.5)), float(at_least(3, 2, 0.5)), float(at_least(-1, 2, 0.5))
    (0.75, 0.0, 1.0)
    """
    k = np.asarray(k, dtype=np.float64)
    inside = np.clip(k, 1, n)
    tail = special.betainc(inside, n - inside + 1, p)
    return np.asarray(np.where(k <= 0, 1.0, np.where(k > n, 0.0, tail)))


def at_most(k: npt.ArrayLike, n: int, p: float) -> Array:
    """Return P(Binomial(n, p) <= k) = I_{1-p}(n - k, k + 1) for integers k, any shape.

    >>> float(at_most(0, 2, 0.5)), float(at_most(2, 2, 0.5)), float(at_most(-1, 2, 0.5))
    (0.25, 1.0, 0.0)
    """
    k = np.asarray(k, dtype=np.float64)
    inside = np.clip(k, 0, n - 1)
    tail = special.betaincc(inside + 1, n - inside, p)  # 1 - p would round
    return np.asarray(np.where(k < 0, 0.0, np.where(k >= n, 1.0, tail)))


def exactly(k: npt.ArrayLike, n: int, p: float) -> Array:
    """Return P(Binomial(n, p) = k) = C(n, k) p^k (1-p)^(n-k) for integers 0 <= k <= n.

    >>> round(float(exactly(1, 2, 0.25)), 12)
    0.375
    """
    k = np.asarray(k, dtype=np.float64)
    ways = -special.betaln(n - k + 1, k + 1) - np.log(n + 1)
    return np.asarray(np.exp(ways + special.xlogy(k, p) + special.xlog1py(n - k, -p)))


def interval(violations: int, samples: int, confidence: float) -> tuple[float, float]:
    """Return the two-sided interval of a probability after so many violations.

    Both ends are quantiles of beta distributions (Clopper and Pearson, 1934).

    >>> low, high = interval(0, 100, 0.99)
    >>> low, round(high, 12) == round(1 - 0.005 ** 0.01, 12)
    (0.0, True)
    """
    miss, left = (1 - confidence) / 2, samples - violations
    low = special.betaincinv(violations, left + 1, miss) if violations else 0.0
    high = special.betaincinv(violations + 1, left, 1 - miss) if left else 1.0
    return float(low), float(high)
