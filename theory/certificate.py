"""The exact refutation of theorem 5.1 as printed: one sample, constant features, no sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from landscape import checks
from theory import given
from theory.binomial import at_least, at_most
from theory.features import Array


@dataclass(frozen=True)
class Certificate:
    """Hold an instance n = 1, X = (r, ..., r) and the exact probability of a large deviation.

    Here lambda_1 = r^2 K with K ~ Binomial(d, p), and p lambda_1(X^T X) = p d r^2.

    Args:
        d: number of features.
        p: probability to keep one.
        r: value of every entry.
        delta: failure probability that the theorem is read at.
        bound: the deviation that the theorem allows with probability at least 1 - delta.
        probability: P(|lambda_1 - p d r^2| > bound), exact up to the rounding of ``bound``.
    """

    d: int
    p: Fraction
    r: float
    delta: float
    bound: float
    probability: Fraction

    @property
    def refutes(self) -> bool:
        """Whether the bound fails with probability above delta."""
        return self.probability > Fraction(self.delta)


def exact_tail(d: int, p: Fraction, deviation: Fraction) -> Fraction:
    """Return P(|Binomial(d, p) - p d| > deviation) in rational arithmetic.

    >>> exact_tail(33, Fraction(1, 2), Fraction(16)) == Fraction(1, 2**32)
    True
    """
    mean = p * d
    return sum(
        (
            math.comb(d, k) * p**k * (1 - p) ** (d - k)
            for k in range(d + 1)
            if abs(k - mean) > deviation
        ),
        Fraction(0),
    )


def certify(
    bound: float, *, d: int = 33, p: Fraction = Fraction(1, 2), r: float = 2.0, delta: float = 1e-10
) -> Certificate:
    """Compute the exact probability that the deviation exceeds a bound at n = 1, X = (r, ..., r).

    The default instance can be checked by hand. With 33 features at p = 1/2, keeping all or none
    deviates by 16.5 r^2 = 66, which happens with probability 2 * 2^-33 = 2.33e-10 > delta = 1e-10,
    while the printed bound allows only 2 sqrt(2 * 33 * 16) + 0.295 = 65.29.

    Raises:
        UserError: a bound below 0 or NaN, d or r not positive, p outside [0, 1], delta outside
            (0, 1).
    """
    checks.number("bound", bound, least=0, infinite=True)
    d, r = checks.whole("d", d, least=1), checks.number("r", r, above=0)
    given.probabilities(p, delta)
    deviation = Fraction(bound) / Fraction(r) ** 2 if math.isfinite(bound) else Fraction(d)
    return Certificate(d, p, r, delta, bound, exact_tail(d, p, deviation))


def binomial_violation(d: int, p: float, deviations: Array) -> Array:
    """Return P(|Binomial(d, p) - p d| > c) for many c, in float64.

    Args:
        deviations: c >= 0 in units of r^2, any shape.
    """
    mean = p * d
    many = at_least(np.floor(mean + deviations) + 1, d, p)
    few = at_most(np.ceil(mean - deviations) - 1, d, p)
    return np.asarray(np.minimum(many + few, 1.0))
