"""Fisher information and mean |score| of small models, computed from their densities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from theory.features import Array

Exact = Fraction | int
WIDTH, NODES = 40.0, 80_001  # of the grid on which densities are integrated


@dataclass(frozen=True)
class Coin:
    """Pose y in {0, 1} with P(y = 1) = chance + slope (t - theta) at the parameter t.

    The whole model is rational, so its scores are: slope / chance for y = 1, -slope / (1 - chance)
    for y = 0, at t = theta.

    Args:
        theta: the value of the parameter.
        chance: P(y = 1) there, in (0, 1).
        slope: derivative of P(y = 1) in the parameter.
    """

    theta: Exact
    chance: Exact
    slope: Exact

    def scores(self) -> tuple[tuple[Fraction, Fraction], ...]:
        """Return (probability, d/dtheta log probability) of both outcomes."""
        q, a = Fraction(self.chance), Fraction(self.slope)
        return (q, a / q), (1 - q, -a / (1 - q))

    @property
    def information(self) -> Fraction:
        """Return the Fisher information E score^2 (the mean score is 0).

        >>> Coin(0, Fraction(1, 2), Fraction(1, 4)).information
        Fraction(1, 4)
        """
        return sum((p * s**2 for p, s in self.scores()), Fraction(0))

    @property
    def mean_score(self) -> Fraction:
        """Return E |score|."""
        return sum((p * abs(s) for p, s in self.scores()), Fraction(0))

    def heuristic(self, eps: Exact, exponent: int) -> Fraction:
        """Return E H = E |score| / (|theta| + eps)^exp, paper 2's importance."""
        return self.mean_score / (abs(Fraction(self.theta)) + Fraction(eps)) ** exponent


def diagonal_information(coins: Sequence[Coin]) -> list[Fraction]:
    """Return the diagonal of the Fisher information of independent coins, a parameter each.

    The other entries are E s_i s_j = E s_i E s_j = 0.
    """
    return [coin.information for coin in coins]


def location_moments(log_density: Callable[[Array], Array]) -> tuple[float, float]:
    """Return E |score| and the Fisher information of y = theta + noise, from the noise's density.

    The score is minus the derivative of the log density, here a central difference on a grid of
    80,001 points in [-40, 40]; the integrals are sums over it. Relative error below 1e-5.

    >>> mean, information = location_moments(lambda y: -y**2 / 2)
    >>> round(mean, 4), round(information, 4)  # sqrt(2/pi) and 1
    (0.7979, 1.0)
    """
    y = np.linspace(-WIDTH, WIDTH, NODES)
    gap = (y[1] - y[0]) / 2
    weight = np.exp(log_density(y) - log_density(y).max())
    weight /= weight.sum()
    score = -(log_density(y + gap) - log_density(y - gap)) / (2 * gap)
    return float(weight @ np.abs(score)), float(weight @ score**2)
