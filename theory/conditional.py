"""Condition on a mask's few heavy columns and bound only the many light ones.

A mask is drawn; which of a fixed set H of columns it keeps is known. The rest of X M X^T deviates
from its mean by what the light columns can do, which is little where a few columns carry most of
the weight. H must be chosen from X alone, never from the mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from landscape import checks
from theory import bounds, given
from theory.features import Array, Indices
from theory.heavy_light import HeavyLight
from theory.spectra import Moments


@dataclass(frozen=True)
class Certified:
    """Hold an interval that contains a number of a drawn mask with probability >= 1 - delta.

    Args:
        low: lower end, each end with probability >= 1 - delta/2.
        middle: the number at the conditional mean of X M X^T.
        high: upper end; infinite where the bound says nothing.
    """

    low: float
    middle: float
    high: float

    @property
    def relative_width(self) -> float:
        """Return (high - low) / (2 middle)."""
        return (self.high - self.low) / (2 * self.middle) if self.middle > 0 else math.inf

    def holds(self, value: float, slack: float = 0.0) -> bool:
        """Whether a value lies inside, up to a relative slack."""
        return self.low * (1 - slack) <= value <= self.high * (1 + slack)


def deviation(light: Moments, p: float, delta: float) -> float:
    """Return t with P(||X M X^T - C|| >= t given the mask on H) <= delta, C the ``centre``.

    Matrix Bernstein on the light columns alone; by Weyl's inequality every eigenvalue of X M X^T
    is then within t of that of C.
    """
    return bounds.bernstein(light, p, delta)


def top_shortfall(projections2: tuple[float, float], p: float, delta: float) -> float:
    """Return t with P(u^T (X M X^T - C) u <= -t given the mask on H) <= delta, for a fixed u.

    Scalar Bernstein for the sum of (m_j - p) a_j over light columns, a_j = (z_j^T u)^2: variance
    p (1-p) sum a_j^2, and no term falls below its mean by more than p max a_j.

    Args:
        projections2: sum_j a_j^2 and max_j a_j over the light columns.
    """
    total, largest = projections2
    return bounds.scalar_bernstein(p * (1 - p) * total, p * largest, delta)


def top_surplus(light: Moments, p: float, delta: float) -> float:
    """Return t with P(lambda_max(X M X^T - C) >= t given the mask on H) <= delta.

    The upper tail of matrix Bernstein alone: n dimensions, and no term exceeds its mean by more
    than (1-p) max_j ||z_j||^2.
    """
    n, variance = len(light.gram), p * (1 - p) * bounds.weighted_norm(light)
    return bounds.scalar_bernstein(variance, (1 - p) * light.max_norm2, delta / n)


def projections(blocks: Iterable[Array], direction: Array) -> tuple[float, float]:
    """Return sum_j a_j^2 and max_j a_j, a_j = (z_j^T u)^2, over columns in blocks; cost d n."""
    total = largest = 0.0
    for block in blocks:
        a = np.square(block @ direction)
        total += float(a @ a)
        largest = max(largest, float(a.max(initial=0.0)))
    return total, largest


def sharpness_interval(
    parts: HeavyLight, mask: Indices, p: float, *, delta: float = 0.05
) -> Certified:
    """Certify the sharpness lambda_1(X M X^T) / n of a drawn mask from the part of it in H.

    With C the conditional mean (``HeavyLight.centre``) and u its top eigenvector, each end holds
    with probability >= 1 - delta/2 over the mask outside H, whatever it is on H:

        lambda_1 <= lambda_1(C) + t, matrix Bernstein on the light columns (``top_surplus``);
        lambda_1 >= u^T X M X^T u >= lambda_1(C) - t_u, scalar Bernstein (``top_shortfall``),

    and lambda_1 is at least that of the kept heavy columns alone. With H empty the interval is for
    any mask, before it is drawn.

    Args:
        parts: X divided by ``divide``, before the mask is known.
        mask: the kept features, sorted; entries outside H are not looked at.
        p: probability with which each feature was kept, independently.
        delta: failure probability.

    Raises:
        UserError: a mask that is not sorted indices below d, p outside [0, 1], delta outside
            (0, 1).

    Returns:
        The interval, its middle lambda_1(C) / n. The interval for the largest stable step
        2 / sharpness is (2 / high, 2 / low).

    Cost: |H and mask| n^2 + n^3 + d n; the whole mask would cost p d n^2 + n^3.
    """
    _require(parts, p, delta)
    n = parts.features.n
    kept = parts.kept_gram(mask)
    values, vectors = np.linalg.eigh(kept + p * parts.light.gram)
    top, heavy = float(values[-1]), float(np.linalg.eigvalsh(kept)[-1])
    lower = top - top_shortfall(projections(parts.light_blocks(), vectors[:, -1]), p, delta / 2)
    upper = top + top_surplus(parts.light, p, delta / 2)
    return Certified(max(lower, heavy, 0.0) / n, top / n, upper / n)


def squared_distance_interval(
    parts: HeavyLight,
    mask: Indices,
    p: float,
    *,
    signal: Array,
    sigma: float,
    delta: float = 0.05,
) -> Certified:
    """Certify E[||w_hat||^2 | M] of a drawn mask from the part of it in H.

    With C the conditional mean and tau = max over light columns of z_j^T C^-1 z_j, matrix Chernoff
    on C^-1/2 X M X^T C^-1/2 (mean I) gives (1-b) C <= X M X^T <= (1+a) C with probability
    >= 1 - delta, n exp(-h(1+a)/tau) = n exp(-h(1-b)/tau) = delta/2, h(s) = s log s - s + 1, so
    that sigma^2 tr (X M X^T)^-1 + s^T (X M X^T)^-1 s is within 1/(1+a) and 1/(1-b) of the same
    with C.

    Args:
        parts: X divided by ``divide``; columns of large leverage belong into H.
        mask: the kept features, sorted; entries outside H are not looked at.
        p: probability with which each feature was kept, independently.
        signal: s (n,): X w*, or with sigma = 0 the targets y of which w_hat is the solution.
        sigma: standard deviation of the noise in y.
        delta: failure probability.

    Raises:
        UserError: as ``sharpness_interval``; a signal that is no n finite numbers, sigma below 0.

    Returns:
        The interval of the *squared* distance; its high end is infinite where the bound does not
        exclude a mask of lower rank, and its low end is then for masks of rank n only.

    Cost: |H and mask| n^2 + n^3 + d n^2.
    """
    _require(parts, p, delta)
    signal = given.vector("signal", signal, parts.features.n)
    sigma = checks.number("sigma", sigma, least=0)
    centre = parts.centre(mask, p)
    values, vectors = np.linalg.eigh(centre)
    if not values[0] > 1e-14 * values[-1]:
        return Certified(0.0, math.inf, math.inf)
    whiten = vectors / np.sqrt(values)
    middle = sigma**2 * float((whiten**2).sum()) + float(np.square(signal @ whiten).sum())
    sizes = [np.square(block @ whiten).sum(1).max(initial=0.0) for block in parts.light_blocks()]
    leverage = float(max(sizes, default=0.0))
    if leverage == 0:
        return Certified(middle, middle, middle)
    above = bounds.chernoff_upper(1.0, leverage, delta / 2, len(centre))
    below = bounds.chernoff_lower(1.0, leverage, delta / 2, len(centre))
    return Certified(middle / above, middle, middle / below if below > 0 else math.inf)


def _require(parts: HeavyLight, p: float, delta: float) -> None:
    checks.instance("parts", parts, HeavyLight, "divide makes it of features")
    given.probabilities(p, delta)
