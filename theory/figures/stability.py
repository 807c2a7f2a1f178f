"""At which step the iterates grow, for three update rules and against p."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from landscape import seeds
from landscape.figures.canvas import canvas
from theory import conditional, purposes, wishart
from theory.features import Array, Indices
from theory.figures.concentration import divided
from theory.figures.scan import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, companions
from theory.problems import MaskedRegression
from theory.spectra import draw_mask, masked_grams
from theory.stability import StepMap, averaged_map, descent_map, largest_stable_step
from theory.statements.adam import adam_threshold
from theory.statements.dynamics import BETA, gd_threshold, heavy_ball_threshold
from theory.statements.spectral import chernoff_interval
from theory.statements.steps import isotropic

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def stability(problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw the growth a step of three rules, and the largest stable step against p three times.

    For the instance, isotropic (Gaussian) features and heavy-tailed ones of the same sizes.
    """
    figure, grid = canvas((10.4, 8.2), 2, 2)
    growth, *panels = grid.flat
    _growth(growth)
    for axes, shown in zip(panels, (problem, *companions(problem))):
        _largest_steps(axes, shown, seed)
        axes.set_title(f"{shown.features.name}, n = {shown.n}, d = {shown.d:,}")
    found: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles))
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=3)
    return figure


def _growth(axes: Axes) -> None:
    """Plot the growth of the top component a step, with the bisected threshold on each curve."""
    one = np.ones((1, 1))
    rules: tuple[tuple[str, StepMap, float], ...] = (
        ("gradient descent", descent_map(one), gd_threshold(1, 1.0)),
        (
            f"heavy ball, $\\beta$ = {BETA}",
            descent_map(one, BETA),
            heavy_ball_threshold(1, 1, BETA),
        ),
        (f"Adam, frozen P, $\\beta_1$ = {BETA}", averaged_map(one, BETA), adam_threshold(1, BETA)),
    )
    steps = np.geomspace(0.02, 80, 500)
    for (name, build, threshold), colour, line in zip(
        rules, (BLUE, ORANGE, GREEN), ("-", "-", "--")
    ):
        growth = [np.abs(np.linalg.eigvals(build(step)[0])).max() for step in steps]
        axes.plot(steps, growth, line, color=colour, label=name)
        measured = largest_stable_step(build, threshold / 3, threshold * 3)
        axes.plot(measured, 1, "o", color=colour)
        axes.axvline(threshold, color=colour, linewidth=1, linestyle=":")
        axes.text(threshold * 1.05, 0.03, f"{threshold:g}", color=colour)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", ylim=(0, 1.6), ylabel="growth of the top component a step")
    axes.set(xlabel="step $\\eta$, in units of 1 / sharpness", title="Stable below 1")
    axes.legend(loc="upper left")


def _largest_steps(axes: Axes, problem: MaskedRegression, seed: int) -> None:
    """Plot the bisected step of three masks at each p, what is certified of it, and the laws."""
    n, d, top = problem.n, problem.d, problem.moments.top
    ratios = np.geomspace(min(0.1, max(n / 4, 2) / d), 0.5, 9)
    parts, delta = divided(problem.features), problem.delta
    measured, bars = [], []
    for p, mask, gram in _few(problem, ratios, seed):
        trace = float(np.trace(gram)) / n
        step = largest_stable_step(descent_map(gram / n), 0.1 / trace, 4 * n / trace)
        ends = conditional.sharpness_interval(parts, mask, p, delta=delta)
        upper = 2 / ends.low if ends.low > 0 else step * 1e3
        measured.append((p, step))
        bars.append((p, 2 / ends.high, upper))
    label = f"certified from {len(parts.heavy)} heavy columns"
    axes.vlines(*np.transpose(bars), color=SKY, lw=2.2, alpha=0.6, label=label)
    axes.plot(*np.transpose(measured), "o", color=BLUE, ms=4, label="measured, a mask", zorder=3)
    fine = np.geomspace(ratios[0], ratios[-1], 60)
    chernoff = [chernoff_interval(problem.moments, p, delta) for p in fine]
    low = np.array([2 * n / end.top_high for end in chernoff])
    headline = 2 * n / fine / top
    s2 = float(np.trace(problem.moments.gram)) / (n * d)
    law = [wishart.step_law(n, d, p, s2) for p in fine]
    limits = (min(low.min(), law[-1]) / 1.5, 3 * max(headline.max(), law[0]))
    high = [2 * n / end.top_low if end.top_low > 0 else limits[1] for end in chernoff]
    band = f"Chernoff, before the mask is drawn, probability {1 - delta:g}"
    axes.fill_between(fine, low, high, color=PURPLE, alpha=0.13, label=band, lw=0)
    axes.plot(fine, headline, "--", color=GREY, label="law in 1/p, $2n / (p\\,\\lambda_1(X^TX))$")
    label = "isotropic, $(2n/s^2) / (\\sqrt{pd} + \\sqrt{n})^2$"
    if not isotropic(problem).startswith("one direction"):
        axes.plot(fine, law, "-", color=ORANGE, label=label)
    axes.axvline(n / d, color="black", linewidth=0.8, linestyle=":")
    axes.text(n / d, 0.02, " p d = n", transform=axes.get_xaxis_transform())
    axes.set(xscale="log", yscale="log", xlabel="probability p to keep a feature", ylim=limits)
    axes.set(ylabel="largest stable step")


def _few(
    problem: MaskedRegression, ratios: Array, seed: int
) -> Iterator[tuple[float, Indices, Array]]:
    for p in ratios:
        rng = seeds.numbered(seed, purposes.FIGURE_MASKS)
        masks = [draw_mask(rng, problem.d, float(p)) for _ in range(3)]
        for mask, gram in zip(masks, masked_grams(problem.features, masks)):
            if gram.any():
                yield float(p), mask, gram
