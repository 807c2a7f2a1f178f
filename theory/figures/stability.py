"""At which step the iterates grow, for three update rules and against p."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from landscape.figures.canvas import canvas
from theory.features import Array
from theory.figures.scan import BLUE, GREEN, GREY, ORANGE, PURPLE, grams_at, scan_ratios
from theory.problems import MaskedRegression
from theory.stability import StepMap, averaged_map, descent_map, largest_stable_step
from theory.statements.dynamics import BETA, adam_threshold, gd_threshold, heavy_ball_threshold
from theory.statements.spectral import chernoff_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def stability(problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw the growth of the top component against the step, and the largest stable step."""
    figure, (left, right) = canvas((9.6, 4.0), 2)
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
        left.plot(steps, growth, line, color=colour, label=name)
        measured = largest_stable_step(build, threshold / 3, threshold * 3)
        left.plot(measured, 1, "o", color=colour)
        left.axvline(threshold, color=colour, linewidth=1, linestyle=":")
        left.text(threshold * 1.05, 0.03, f"{threshold:g}", color=colour)
    left.axhline(1, color="black", linewidth=0.8)
    left.set(xscale="log", ylim=(0, 1.6), ylabel="growth of the top component a step")
    left.set(xlabel="step $\\eta$, in units of 1 / sharpness", title="Stable below 1")
    left.legend(loc="upper left")

    _largest_steps(right, problem, seed)
    return figure


def _largest_steps(axes: Axes, problem: MaskedRegression, seed: int) -> None:
    """Plot the bisected step of three masks at each p, 2n/(p lambda_1), the Chernoff interval."""
    n, top, ratios = problem.n, problem.moments.top, scan_ratios(problem, 7)
    measured = []
    for p, gram in _few(problem, ratios, seed):
        trace = float(np.trace(gram)) / n
        step = largest_stable_step(descent_map(gram / n), 0.1 / trace, 4 * n / trace)
        measured.append((p, step))
    fine = np.geomspace(ratios[0], ratios[-1], 60)
    ends = [chernoff_interval(problem.moments, p, problem.delta) for p in fine]
    shortest = np.array([2 * n / end.top_high for end in ends])
    # where the interval has no upper end it reaches to the top of the axes
    highest = 2 * max(2 * n / fine[0] / top, *(step for _, step in measured))
    longest = [2 * n / end.top_low if end.top_low > 0 else highest for end in ends]
    band = f"Chernoff, probability {1 - problem.delta:g}"
    axes.fill_between(fine, shortest, longest, color=PURPLE, alpha=0.15, label=band, lw=0)
    axes.plot(
        fine,
        2 * n / fine / top,
        color=GREY,
        label="$2n / (p\\,\\lambda_1(X^TX)) \\geq 2n / \\mathrm{E}\\lambda_1$",
    )
    axes.plot(*np.transpose(measured), "o", color=BLUE, markersize=4, label="measured, a mask")
    axes.set(xscale="log", yscale="log", xlabel="probability p to keep a feature")
    axes.set(ylabel="largest stable step", title="Gradient descent")
    axes.legend(loc="lower left")


def _few(problem: MaskedRegression, ratios: Array, seed: int) -> Iterator[tuple[float, Array]]:
    for p in ratios:
        for gram in grams_at(problem.features, float(p), 3, seed):
            if gram.any():
                yield float(p), gram
