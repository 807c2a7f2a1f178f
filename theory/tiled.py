"""The tiled identity X = [I I .. I], where every dimension factor can be refuted without sampling.

X X^T = m I, and the eigenvalues of X M X^T are n independent Binomial(m, p). So the probability
that a bound fails is a product of binomial tails, and one without its factor n is caught.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from theory import binomial
from theory.claim import Finding
from theory.features import Array
from theory.spectra import Moments

#: n, copies m of the identity, p, delta
GRID = tuple(
    (n, m, p, delta)
    for n in (1, 8, 64)
    for m, p in ((200, 0.5), (400, 0.05), (1000, 0.003), (1000, 0.01), (4000, 0.5))
    for delta in (0.05, 1e-3, 1e-7, 1e-14)
)
SLACK = 1e-9  # relative, of binomial tails in float64


def above(k: float, m: int, p: float) -> float:
    """Return P(Binomial(m, p) >= k)."""
    return float(binomial.at_least(math.ceil(k), m, p))


def below(k: float, m: int, p: float) -> float:
    """Return P(Binomial(m, p) <= k)."""
    return float(binomial.at_most(math.floor(k), m, p))


def any_of(probability: float, n: int) -> float:
    """Return the probability that one of n independent events happens."""
    if probability >= 1:
        return 1.0
    return -math.expm1(n * math.log1p(-probability))


@dataclass(frozen=True)
class Tiled:
    """Hold X = [I .. I] with m copies of the n x n identity, kept with probability p.

    Args:
        n: samples.
        copies: m; d = n m.
        p: probability to keep a feature.
    """

    n: int
    copies: int
    p: float

    @property
    def name(self) -> str:
        """Return one phrase that identifies the instance."""
        return f"X=[I .. I], n={self.n}, d={self.n * self.copies}, p={self.p:g}"

    @property
    def moments(self) -> Moments:
        """Return what the bounds need of X."""
        total, gram = float(self.n * self.copies), self.copies * np.eye(self.n)
        return Moments(gram, gram, 1.0, total, total, 0.0, 1.0)

    def norm_reaches(self, t: float) -> float:
        """Return P(||X M X^T - p X X^T|| >= t)."""
        mean, m, p = self.copies * self.p, self.copies, self.p
        return any_of(above(mean + t, m, p) + below(mean - t, m, p), self.n)

    def top_reaches(self, value: float) -> float:
        """Return P(lambda_1 >= value)."""
        return any_of(above(value, self.copies, self.p), self.n)

    def top_at_most(self, value: float) -> float:
        """Return P(lambda_1 <= value)."""
        return below(value, self.copies, self.p) ** self.n

    def bottom_at_most(self, value: float) -> float:
        """Return P(lambda_n <= value)."""
        return any_of(below(value, self.copies, self.p), self.n)

    def weights(self) -> tuple[Array, Array]:
        """Return the values 0 .. m of an eigenvalue and their probabilities."""
        k = np.arange(self.copies + 1.0)
        return k, binomial.exactly(k, self.copies, self.p)


def instances() -> Iterator[tuple[Tiled, float]]:
    """Yield the tiled identities, each with a delta."""
    for n, m, p, delta in GRID:
        yield Tiled(n, m, p), delta


@dataclass(frozen=True)
class Excess:
    """Hold by how much a bound fails more often than it may, in the worst case.

    Args:
        factor: probability of failure over what is allowed; above 1 the bound is false.
        where: the case in words.
    """

    factor: float
    where: str

    @property
    def refutes(self) -> bool:
        """Whether the bound fails more often than allowed."""
        return self.factor > 1 + SLACK

    def finding(self, quantity: str) -> Finding:
        """Return that the claim is violated, whatever the instance."""
        return Finding("violated", quantity, 1.0, self.factor, 1 / self.factor, note=self.where)


def worst(cases: Iterator[tuple[float, float, str]]) -> Excess:
    """Return the worst of cases (probability of failure, allowed, where)."""
    found = Excess(0.0, "")
    for probability, allowed, where in cases:
        if probability > found.factor * allowed:
            text = f"{where}: fails with probability {probability:.3g} > {allowed:.3g}, exactly"
            found = Excess(probability / allowed, text)
    return found
