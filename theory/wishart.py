"""What masks do to Gaussian features: exact laws given the number of kept ones, and their limits.

Given a mask that keeps k of d features, a Gaussian X keeps k Gaussian columns, so that X M X^T is
a Wishart matrix with k degrees of freedom.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from theory.binomial import exactly
from theory.features import Array

TRACY_WIDOM_MEDIAN = -1.26857  # of the distribution with beta = 1


def distance_factor(rank: int, d: int, k: int) -> float:
    """Return (d - r - 1) / (k - r - 1), by which a mask that keeps k features raises E ||w_hat||^2.

    Exact where the right singular vectors of X are a uniformly random subspace (Gaussian rows of
    any covariance, any singular values), independent of the mask and of y.

    Args:
        rank: r of X; n where X has full rank.
        d: features.
        k: kept features; at k <= r + 1 the mean is infinite.

    >>> distance_factor(10, 111, 31)
    5.0
    """
    return (d - rank - 1) / (k - rank - 1) if k > rank + 1 else math.inf


def mixed_distance_factor(rank: int, d: int, p: float) -> tuple[float, float]:
    """Return E[(d - r - 1) / (k - r - 1); k >= r + 2] over k ~ Binomial(d, p), and P(k >= r + 2).

    The first number over the second is the mean over the masks whose mean is finite. Over all
    masks it is infinite wherever k = r + 1 has positive probability.
    """
    k = np.arange(rank + 2, d + 1)
    weights = exactly(k, d, p)
    return float(weights @ ((d - rank - 1) / (k - rank - 1))), float(weights.sum())


def triangular_wishart(rng: Generator, count: int, n: int, k: int) -> Array:
    """Draw T (count, n, n), lower triangular, T T^T distributed as G G^T, G (n, k) Gaussian.

    Bartlett's decomposition: chi_k, chi_{k-1}, .. on the diagonal, normals below; k >= n.
    """
    drawn = np.tril(rng.standard_normal((count, n, n)), -1)
    drawn[:, range(n), range(n)] = np.sqrt(rng.chisquare(k - np.arange(n), (count, n)))
    return drawn


def edge(n: int, k: float) -> float:
    """Return (sqrt(k) + sqrt(n))^2, where the Marchenko-Pastur law of k isotropic columns ends."""
    return (math.sqrt(k) + math.sqrt(n)) ** 2


def typical_top(n: int, k: float) -> float:
    """Return the median of lambda_1 of isotropic columns of variance 1, to second order.

    (a + b)^2 - 1.27 (a + b) (1/a + 1/b)^(1/3), a = sqrt(k - 1/2), b = sqrt(n - 1/2): the edge less
    its fluctuation, by the median of the Tracy-Widom law. Source: Johnstone 2001, Ma 2012.
    """
    a, b = math.sqrt(k - 0.5), math.sqrt(n - 0.5)
    return (a + b) ** 2 + TRACY_WIDOM_MEDIAN * (a + b) * (1 / a + 1 / b) ** (1 / 3)


def step_law(n: int, d: int, p: float, s2: float) -> float:
    """Return (2n / s^2) / (sqrt(p d) + sqrt(n))^2, the largest stable step of isotropic features.

    1/p times (1 + sqrt(n / (p d)))^-2, up to a factor: the 1/p law at p d >> n, flat at p d << n.

    >>> step_law(4, 100, 0.04, 1.0)
    0.5
    """
    return 2 * n / (s2 * edge(n, p * d))


def mean_chi(k: int) -> float:
    """Return E chi_k = sqrt(2) Gamma((k+1)/2) / Gamma(k/2); 0 at k = 0."""
    return math.sqrt(2) * math.exp(math.lgamma((k + 1) / 2) - math.lgamma(k / 2)) if k else 0.0


def gaussian_top(n: int, k: int, delta: float) -> tuple[float, float]:
    """Return an interval that holds lambda_1(G G^T), G (n, k) standard Gaussian, surely to 1-delta.

    Above, s_1 <= sqrt(k) + sqrt(n) + t with t^2 = 2 log(2/delta) (Davidson and Szarek 2001).
    Below, G is bidiagonal up to rotations, with independent chi_k, chi_{k-1}, .. on its diagonal
    and chi_{n-1}, chi_{n-2}, .. beside it, so that for every m <= min(n, k)

        s_1 >= (1/m) (sum_{i<m} chi_{k-i} + sum_{0<i<m} chi_{n-i}),

    a function with Lipschitz constant sqrt(2m-1)/m of independent Gaussians: it is at least its
    mean less t sqrt(2m-1)/m. The m with the highest end is chosen.

    >>> low, high = gaussian_top(1, 10_000, 0.05)
    >>> round(low**0.5 - 100, 1), round(high**0.5 - 101, 1)
    (-2.7, 2.7)
    """
    t = math.sqrt(2 * math.log(2 / delta))
    above = math.sqrt(k) + math.sqrt(n) + t
    best = total = 0.0
    for m in range(1, min(n, k, 64) + 1):
        total += mean_chi(k - m + 1) + (mean_chi(n - m + 1) if m > 1 else 0.0)
        best = max(best, (total - t * math.sqrt(2 * m - 1)) / m)
    return best**2, above**2
