"""What the figures share: colours, the values of p that they scan, masks at each of them."""

from __future__ import annotations

import numpy as np

from landscape import seeds
from landscape.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY
from theory import purposes
from theory.factors import masked_factors
from theory.features import Array, Features
from theory.problems import MaskedRegression
from theory.spectra import draw_mask, masked_grams

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "PURPLE", "RED", "SKY"]

MASKS = 60
FEWEST = 20  # kept features below which a mask is no longer a sample of the columns


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
