"""What masks do to isotropic features: exact laws of Gaussian X, and their limits.

Given a mask that keeps k of d features, a Gaussian X keeps k Gaussian columns, so that X M X^T is
a Wishart matrix with k degrees of freedom.
"""

from __future__ import annotations

import math

TRACY_WIDOM_MEDIAN = -1.26857  # of the distribution with beta = 1


def kept_share(n: int, d: int, p: float) -> float:
    """Return q = (p - n/d) / (1 - n/d), the share of the d - n spare features that masks keep.

    At p d = n nothing is spare, q = 0; below it q is negative and no law in 1/q applies.

    >>> kept_share(10, 110, 0.5)
    0.45
    """
    return (p * d - n) / (d - n)


def distance_factor(rank: int, d: int, k: int) -> float:
    """Return (d - r - 1) / (k - r - 1), by which masks that keep k features raise E ||w_hat||^2.

    Exact where the right singular vectors of X are a uniformly random subspace (Gaussian rows of
    any covariance, any fixed singular values), independent of the mask. About 1/q.

    Args:
        rank: r of X, n where d >= n and X has full rank.
        d: features.
        k: kept features; at k <= r + 1 the mean is infinite.

    >>> distance_factor(10, 111, 31)
    5.0
    """
    return (d - rank - 1) / (k - rank - 1) if k > rank + 1 else math.inf


def inverse_wishart_trace(n: int, k: int) -> float:
    """Return E tr W^-1 = n / (k - n - 1) of W = G G^T, G (n, k) standard Gaussian.

    >>> inverse_wishart_trace(4, 9)
    1.0
    """
    return n / (k - n - 1) if k > n + 1 else math.inf


def edge(n: int, k: float) -> float:
    """Return (sqrt(k) + sqrt(n))^2, the upper end of the Marchenko-Pastur law times k.

    It is what lambda_1(X M X^T) / s^2 tends to over k for isotropic features of variance s^2.
    """
    return (math.sqrt(k) + math.sqrt(n)) ** 2


def typical_top(n: int, k: float) -> float:
    """Return the median of lambda_1 / s^2 to second order: the edge less its fluctuation.

    (a + b)^2 - 1.27 (a + b) (1/a + 1/b)^(1/3), a = sqrt(k - 1/2), b = sqrt(n - 1/2): Johnstone
    2001, Ma 2012, with the median of the Tracy-Widom law.
    """
    a, b = math.sqrt(k - 0.5), math.sqrt(n - 0.5)
    return (a + b) ** 2 + TRACY_WIDOM_MEDIAN * (a + b) * (1 / a + 1 / b) ** (1 / 3)


def step_law(n: int, d: int, p: float, s2: float) -> float:
    """Return (2n / s^2) / (sqrt(p d) + sqrt(n))^2, the largest stable step of isotropic features.

    1/p times (1 + sqrt(n / (p d)))^-2: the 1/p law for p d >> n, flat for p d << n.
    """
    return 2 * n / (s2 * edge(n, p * d))
