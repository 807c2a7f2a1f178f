"""The best rate of a sign step, AdamW's first, against p: its law and where that stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from landscape import seeds
from landscape.figures.canvas import canvas
from theory import purposes
from theory.features import Array
from theory.figures.scan import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY
from theory.problems import MaskedRegression
from theory.signs import SignStep, masked_steps, sign_step
from theory.spectra import draw_mask
from theory.statements.sign import gradient_at_zero

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEEN = 16  # masks at each p


def signs(problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw a sign step's best rate against p, with its law, and the mean loss against the rate."""
    figure, (left, right) = canvas((11.0, 4.0), 2)
    gradient = gradient_at_zero(problem)
    step = sign_step(problem.features, gradient)
    _rates(left, problem, step, gradient, seed)
    _losses(right, problem, step, gradient, seed)
    return figure


def _masks_at(problem: MaskedRegression, gradient: Array, p: float, seed: int) -> Array:
    """Return |g_S|_1 and s_S^T H s_S of some masks at one p, without the empty ones."""
    rng = seeds.numbered(seed, purposes.FIGURE_MASKS)
    masks = [draw_mask(rng, problem.d, p) for _ in range(SEEN)]
    found = masked_steps(problem.features, gradient, masks)
    return found[found[:, 1] > 0]


def _rates(
    axes: Axes, problem: MaskedRegression, step: SignStep, gradient: Array, seed: int
) -> None:
    lowest = min(0.1, max(1.5 / problem.d, step.crossover / 30))
    fine = np.geomspace(lowest, 1, 120)
    ends = [step.interval(float(p), problem.delta, problem.moments) for p in fine]
    law = np.array([step.rate(float(p)) for p in fine])
    top, bottom = 4 * law.max(), law.min() / 4
    low, high = np.clip(np.array(ends).T, bottom / 10, 10 * top)
    name = f"one mask, probability {1 - problem.delta:g}"
    axes.fill_between(fine, low, high, color=PURPLE, alpha=0.15, lw=0, label=name)
    ratios = np.geomspace(lowest, 0.5, 9)
    for p in ratios:
        found = _masks_at(problem, gradient, float(p), seed)
        label = "measured, a mask" if p == ratios[0] else None
        rates = found[:, 0] / found[:, 1]
        axes.plot(np.full(len(rates), p), rates, ".", color=SKY, markersize=5, label=label)
    axes.plot(fine, law, color=BLUE, label="$\\eta^*(p)$, of the mean loss")
    if step.along > 0:
        label = "$|g|_1 / (p\\,s^THs)$"
        axes.plot(fine, step.size / (fine * step.along), "--", color=ORANGE, lw=1, label=label)
    axes.axhline(step.size / step.trace, color=GREEN, ls="-.", lw=1, label="$|g|_1 / tr H$")
    if step.crossover > lowest:
        axes.axvline(step.crossover, color="black", linewidth=0.8, linestyle=":")
        place = axes.get_xaxis_transform()
        axes.text(step.crossover, 0.72, " $p_x$", transform=place, va="top")
    axes.set(xscale="log", yscale="log", ylim=(bottom, top))
    axes.set(xlabel="probability p to keep a feature", ylabel="best rate of a sign step")
    axes.set_title(f"n = {problem.n}, d = {problem.d:,}, {problem.features.name}")
    axes.legend(loc="lower left", fontsize="small")


def _losses(
    axes: Axes, problem: MaskedRegression, step: SignStep, gradient: Array, seed: int
) -> None:
    """Draw the mean loss after a step against the rate: every curve is lowest at its eta*(p)."""
    start = float(problem.y @ problem.y) / (2 * problem.n)
    ratios = np.geomspace(min(0.1, max(3 / problem.d, step.crossover)), 1, 3)
    for p, colour in zip(ratios, (GREY, ORANGE, BLUE)):
        best = step.rate(float(p))
        fine = best * np.geomspace(0.05, 2.2, 80)
        losses = [1 + step.change(float(p), eta) / start for eta in fine]
        axes.plot(fine, losses, color=colour, label=f"p = {p:.2g}")
        axes.plot(best, 1 + step.change(float(p), best) / start, "o", color=colour, markersize=5)
        found = _masks_at(problem, gradient, float(p), seed)
        if len(found):
            size, bend = found.mean(axis=0)
            some = fine[5::12]
            axes.plot(some, 1 + (some**2 * bend / 2 - some * size) / start, "x", color=colour, ms=5)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="rate $\\eta$", ylabel="mean loss after a sign step / before")
    axes.set_title("Lowest at $\\eta^*(p)$ (dot)")
    axes.legend(
        title=f"lines: exact\ncrosses: {SEEN} masks",
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        alignment="left",
    )
