"""SGD's largest stable step against p: one example a step keeps the law 1/p further down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from landscape.figures.canvas import canvas
from theory.features import Array
from theory.figures.scan import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    companions,
    factors_at,
    scan_ratios,
)
from theory.problems import MaskedRegression
from theory.statements.sgd import MOST, exact_step, sgd_step
from theory.statements.sgd_rate import longest_example

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEEN = 5  # masks at each p
BATCHES = ((1, BLUE), (4, GREEN), (1e9, ORANGE))


def descents(problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw SGD's exact thresholds and bounds; then p times them for isotropic features."""
    figure, (left, right) = canvas((10.2, 4.0), 2)
    ratios = np.append(scan_ratios(problem, 8), 1.0)
    found = [_thresholds(problem, float(p), seed) for p in ratios]
    for i, (batch, colour) in enumerate(BATCHES):
        name = "gradient descent" if batch > problem.n else f"b = {batch:g}"
        said, exact = np.array([f[i] for f in found]).transpose(1, 2, 0)
        left.plot(ratios, np.median(said, axis=0), color=colour, label=name)
        left.plot(ratios, exact.T, "o", color=colour, markersize=3, alpha=0.6)
    left.set(xscale="log", yscale="log", xlabel="probability p to keep a feature")
    _floor(left, problem)
    left.set(ylabel="largest stable step of SGD")
    left.set_title(f"n = {problem.n}, d = {problem.d:,}, {problem.features.name}")
    left.legend(title="lines: sufficient\ndots: exact, a mask", alignment="left", fontsize="small")
    _over_the_law(right, companions(problem)[0], seed)
    return figure


def _over_the_law(right: Axes, problem: MaskedRegression, seed: int) -> None:
    """Draw p times the exact thresholds of each batch over the one at p = 1."""
    ratios = np.append(scan_ratios(problem, 8), 1.0)
    found = [_thresholds(problem, float(p), seed) for p in ratios]
    for i, (batch, colour) in enumerate(BATCHES):
        name = "gradient descent" if batch > problem.n else f"b = {batch:g}"
        over = np.array([np.median(f[i][1]) for f in found]) * ratios
        right.plot(ratios, over / over[-1], "o-", color=colour, markersize=4, label=name)
    right.axhline(1, color=GREY, linewidth=0.8, label="law 1 / p")
    right.set(xscale="log", ylim=(0, 1.35), xlabel="probability p to keep a feature")
    right.set(ylabel="p times the step / the step at p = 1")
    right.set_title(f"{problem.features.name}: small batches keep 1 / p longer")
    right.legend(loc="lower right")


def _thresholds(problem: MaskedRegression, p: float, seed: int) -> Array:
    """Return for each batch the sufficient and the exact step of some masks, (batch, 2, masks)."""
    found = []
    for factor in factors_at(problem.features, p, SEEN, seed):
        u, s, _ = np.linalg.svd(factor.T[:MOST], full_matrices=False)
        rows = (u * s)[:, s > 1e-12 * s.max(initial=0.0)]
        if not rows.size or not rows.any():
            continue
        n, lengths = len(rows), np.square(rows).sum(1)
        top = float(np.square(rows).sum(0).max()) / n
        found.append(
            [(sgd_step(top, float(lengths.max()), b), exact_step(rows, b)) for b, _ in BATCHES]
        )
    while len(found) < SEEN:  # an empty mask moves nothing at any step
        found.append(found[0] if found else [(np.nan, np.nan)] * len(BATCHES))
    return np.array(found).transpose(1, 2, 0)


def _floor(axes: Axes, problem: MaskedRegression) -> None:
    """Draw the interval of 2 / max_i ||x_i||^2 over masks, from the lengths alone."""
    if problem.n > MOST:
        return  # the dots are for the first examples
    lengths = np.diagonal(problem.moments.gram)
    tops = np.max([np.square(b).max(0) for _, b in problem.features.blocks()], axis=0)
    fine = np.geomspace(scan_ratios(problem)[0], 1, 60)
    low, high = np.array([longest_example(lengths, tops, p, problem.delta) for p in fine]).T
    least, most = axes.get_ylim()
    longest = 2 / np.maximum(low, 2 / (10 * most))
    name = f"b = 1, probability {1 - problem.delta:g}"
    axes.fill_between(fine, 2 / high, longest, color=PURPLE, alpha=0.15, lw=0, label=name)
    axes.set_ylim(least, most)
