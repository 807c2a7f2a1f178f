"""Loss and distance along gradient descent, for several p at one rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from landscape.figures.canvas import canvas
from theory.figures.scan import scan_ratios
from theory.problems import MaskedRegression

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def trajectories(problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw excess loss and distance against steps at one rate, for several p; w_0 = 0."""
    import seaborn as sns

    figure, (left, right) = canvas((9.6, 4.0), 2)
    eta = problem.n / problem.moments.top
    seen = (1, 3, 10, 30, 100, 300)
    times = np.union1d(np.geomspace(1, 1e6, 80).astype(int), seen)
    ratios = (1.0, *scan_ratios(problem, 3)[::-1])
    for p, colour in zip(ratios, sns.color_palette("crest_r", len(ratios))):
        mask = problem.draw(seed, p=float(p))
        start, end = mask.loss(np.zeros(mask.k)), mask.loss(mask.minimum_norm())
        closed = np.array([mask.filtered(eta, int(t)) for t in times])
        left.plot(times, (closed[:, 0] - end) / (start - end), color=colour, label=f"p = {p:.2g}")
        right.plot(times, closed[:, 1], color=colour)
        right.axhline(float(np.linalg.norm(mask.minimum_norm())), color=colour, lw=0.8, ls=":")
        w, before = np.zeros(mask.k), 0
        for t in seen:
            w, before = mask.descend(w, eta, t - before), t
            left.plot(t, (mask.loss(w) - end) / (start - end), "o", color=colour, markersize=4)
            right.plot(t, np.linalg.norm(w), "o", color=colour, markersize=4)
    left.set(xscale="log", yscale="log", ylim=(1e-4, 1.5), xlabel="steps", ylabel="excess loss")
    left.set_title("Share of the excess loss that is left")
    right.set(xscale="log", yscale="log", xlabel="steps", ylabel="distance to initialisation")
    right.set_title("Dotted: distance of the solution")
    handles, labels = left.get_legend_handles_labels()
    title = "lines: closed form\ndots: gradient descent"
    right.legend(handles, labels, title=title, loc="lower right", alignment="left")
    return figure
