"""Growing masks at a fixed rate: the spectrum names the step from which the loss grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from landscape import seeds
from landscape.figures.canvas import canvas
from theory import purposes
from theory.figures.scan import BLUE, GREEN, GREY, ORANGE
from theory.problems import MaskedRegression
from theory.statements.nested import unstable_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STAGES, EVERY = 12, 10
LARGEST = 2000  # features that may be selected
NOISE = 0.01  # of the targets of each step, over the size of the targets


def nested(problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw the sharpness of nested masks with 2/lr, and losses of the engine at these rates."""
    from theory.growing import nested_sharpness  # torch takes seconds to import

    figure, (left, right) = canvas((10.2, 4.0), 2)
    d = min(problem.d, LARGEST)
    order = seeds.numbered(seed, purposes.CHAINS).permutation(d)
    add = max(1, d // (2 * STAGES))
    tops = nested_sharpness(problem, order, add=add, every=EVERY, stages=STAGES)
    steps = np.arange(STAGES * EVERY)
    left.plot(steps, tops, color=GREY, drawstyle="steps-post", label="sharpness in the mask")
    for stage, colour in zip((3, 6, 9), (ORANGE, GREEN, BLUE)):
        lr = 2 / tops[stage * EVERY] * 1.03 if tops[stage * EVERY] > 0 else 1.0
        crossing = unstable_step(tops, lr)
        left.axhline(2 / lr, color=colour, lw=1, ls="--", label=f"2 / lr, lr = {lr:.2g}")
        if crossing is not None:
            left.plot(crossing, tops[crossing], "o", color=colour)
            for axes in (left, right):
                axes.axvline(crossing, color=colour, linewidth=1, linestyle=":")
        _losses(right, problem, order, add, lr, colour)
    left.set(xlabel=f"step; every {EVERY} add {add:,} features", ylabel="$\\lambda_1(S_t) / n$")
    left.set(ylim=(0, None))
    left.set_title(f"Known before training: {problem.features.name}, n = {problem.n}")
    left.legend(loc="lower right", fontsize="small", frameon=True, framealpha=1, edgecolor="none")
    right.set(yscale="log", xlabel="step", ylabel="loss / loss at the start")
    right.set(ylim=(NOISE**2 / 10, 1e6))
    right.set_title("Dotted: the mask has become too sharp")
    handles, labels = right.get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    right.legend(unique.values(), unique.keys(), loc="upper left", fontsize="small")
    return figure


def _losses(
    axes: Axes,
    problem: MaskedRegression,
    order: np.ndarray,
    add: int,
    lr: float,
    colour: str,
) -> None:
    """Draw a run at one rate: by its residuals, and in the engine where that is quick."""
    from theory.growing import grow, residual_run

    scale = float(np.linalg.norm(problem.y)) / problem.n**0.5 or 1.0
    shape = {"add": add, "every": EVERY, "stages": STAGES}
    run = residual_run(problem, order, **shape, lr=lr, noise=NOISE * scale)
    start = run.losses[0] or 1.0
    axes.plot(run.losses / start, color=colour, label="$e \\leftarrow e - lr\\,XMX^Te/n$")
    if colour == GREEN:
        small = MaskedRegression(
            problem.features.prefix(len(order)), 1.0, sigma=0.0, seed=problem.seed, target=problem.y
        )
        seen = grow(small, order, **shape, lr=lr, noise=NOISE * scale).losses
        times = np.arange(0, len(seen), 4)
        axes.plot(times, seen[times] / start, "o", ms=3.5, color=colour, label="the engine")
