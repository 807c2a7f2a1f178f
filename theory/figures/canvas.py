"""What the figures share: colours, axes, the values of p that they scan, masks."""

from __future__ import annotations

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape import seeds
from theory.factors import masked_factors
from theory.features import Array, Features
from theory.problems import MaskedRegression
from theory.spectra import draw_mask, masked_grams

BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY, YELLOW, SKY = sns.color_palette("colorblind")
MASKS = 60
FEWEST = 20  # kept features below which a mask is no longer a sample of the columns


def canvas(columns: int, width: float = 9.6) -> tuple[Figure, list[Axes]]:
    """Return a figure, ``width`` inches wide, with axes side by side."""
    figure = Figure(figsize=(width, 4.0), layout="constrained")
    return figure, [figure.add_subplot(1, columns, i + 1) for i in range(columns)]


def scan_ratios(problem: MaskedRegression, count: int = 9) -> Array:
    """Return values of p from ``FEWEST`` kept features (at least n) to one half, log-spaced."""
    return np.geomspace(min(0.25, max(FEWEST, problem.n) / problem.d), 0.5, count)


def grams_at(features: Features, p: float, count: int, seed: int) -> Array:
    """Return X M X^T (count, n, n) of random masks at one p."""
    rng = seeds.numbered(seed, 10)
    return masked_grams(features, [draw_mask(rng, features.d, p) for _ in range(count)])


def factors_at(features: Features, p: float, count: int, seed: int) -> Array:
    """Return factors R (count, n, n), R^T R = X M X^T, of the masks of ``grams_at``."""
    rng = seeds.numbered(seed, 10)
    return masked_factors(features, [draw_mask(rng, features.d, p) for _ in range(count)])
