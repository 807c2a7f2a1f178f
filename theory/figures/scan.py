"""What the figures share: colours, the values of p that they scan, masks at each of them."""

from __future__ import annotations

import numpy as np

from landscape import seeds
from landscape.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY
from theory import purposes
from theory.factors import masked_factors
from theory.features import Array, Features
from theory.problems import MaskedRegression, make_problem
from theory.spectra import draw_mask, masked_grams

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "PURPLE", "RED", "SKY"]

MASKS = 60
FEWEST = 20  # kept features below which a mask is no longer a sample of the columns


HEAVY = 200  # heavy columns whose fate is known in the figures' certified bars, at most a tenth
COMPANION = 20_000  # features of the companion panels, at most


def companions(problem: MaskedRegression) -> tuple[MaskedRegression, MaskedRegression]:
    """Return an isotropic and a heavy-tailed problem of the same sizes, to draw beside it."""
    d, sigma = min(problem.d, COMPANION), problem.sigma
    isotropic, heavy = (
        make_problem(name, n=problem.n, d=d, p=problem.p, delta=problem.delta, sigma=sigma)
        for name in ("gaussian", "student")
    )
    return isotropic, heavy


def scan_ratios(problem: MaskedRegression, count: int = 9) -> Array:
    """Return values of p from ``FEWEST`` kept features (at least n) to one half, log-spaced."""
    return np.geomspace(min(0.25, max(FEWEST, problem.n) / problem.d), 0.5, count)


def grams_at(features: Features, p: float, count: int, seed: int) -> Array:
    """Return X M X^T (count, n, n) of random masks at one p."""
    rng = seeds.numbered(seed, purposes.FIGURE_MASKS)
    return masked_grams(features, [draw_mask(rng, features.d, p) for _ in range(count)])


def factors_at(features: Features, p: float, count: int, seed: int) -> Array:
    """Return factors R (count, n, n), R^T R = X M X^T, of the masks of ``grams_at``."""
    rng = seeds.numbered(seed, purposes.FIGURE_MASKS)
    return masked_factors(features, [draw_mask(rng, features.d, p) for _ in range(count)])
