"""What constants buy: sub-Gaussian proofs against p, and all bounds of theorem 5.1 side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from landscape.figures.canvas import canvas
from theory import bounds
from theory.figures.scan import (
    BLUE,
    GREEN,
    GREY,
    MASKS,
    ORANGE,
    PURPLE,
    RED,
    grams_at,
    scan_ratios,
)
from theory.problems import MaskedRegression
from theory.spectra import descending
from theory.statements.sharp import sub_gaussian, theorem_51_sharp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def constants(problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw the best sub-Gaussian constant against p, and the bounds over the deviation seen."""
    figure, (left, right) = canvas((11.0, 4.0), 2)
    fine = np.geomspace(1e-6, 0.5, 200)
    best = [sub_gaussian(float(p)) ** 0.5 for p in fine]
    left.axhline(0.5, color=RED, linestyle=":", label="Hoeffding: 1/2")
    left.plot(fine, best, color=BLUE, label="best: $\\sqrt{(1-2p)/(2\\log((1-p)/p))}$")
    law = np.sqrt(1 / (2 * np.log(1 / fine[fine < 0.1])))
    label = "$1/\\sqrt{2\\log(1/p)}$"
    left.plot(fine[fine < 0.1], law, "--", lw=1, color=ORANGE, label=label)
    label = "deviation $\\sqrt{p(1-p)}$"
    left.plot(fine, np.sqrt(fine * (1 - fine)), color=GREEN, label=label)
    left.fill_between(fine, np.sqrt(fine * (1 - fine)), best, color=GREY, alpha=0.15, lw=0)
    left.text(1.5e-6, 0.05, "out of reach of\nsub-Gaussian proofs", color="#555555")
    left.set(xscale="log", yscale="log", xlabel="probability p to keep a feature")
    left.set(ylabel="scale of a centred Bernoulli", title="Why Bernstein is needed")
    left.legend(loc="lower right", fontsize="small")
    _bounds(right, problem, seed)
    return figure


def _bounds(axes: Axes, problem: MaskedRegression, seed: int) -> None:
    """Draw what each constant gains, down to what is seen."""
    m, ratios = problem.moments, scan_ratios(problem)
    n, d, r, delta = problem.n, problem.d, problem.bound, problem.delta
    sharp = theorem_51_sharp(n, d, r, delta)
    rows = (
        ("corrected", [bounds.theorem_51_corrected(n, d, r, delta)] * len(ratios), ORANGE, "-"),
        ("sharp net", [sharp] * len(ratios), PURPLE, "-"),
        (
            "sharp net, best constant",
            [2 * sharp * math.sqrt(sub_gaussian(float(p))) for p in ratios],
            PURPLE,
            "--",
        ),
        ("matrix Bernstein", [bounds.bernstein(m, float(p), delta) for p in ratios], GREEN, "-"),
        ("$p\\,\\lambda_1(X^TX)$", ratios * m.top, GREY, "-."),
    )
    for name, values, colour, line in rows:
        axes.plot(ratios, values, line, color=colour, label=name)
    seen = []
    for p in ratios:
        grams = grams_at(problem.features, float(p), MASKS, seed)
        gaps = descending(grams) - p * m.eigenvalues
        seen.append(np.quantile(np.abs(gaps).max(axis=1), 1 - delta))
    axes.plot(ratios, seen, "o-", color=BLUE, markersize=4, label=f"seen, {1 - delta:.0%} of masks")
    axes.set(xscale="log", yscale="log", xlabel="probability p to keep a feature")
    axes.set(ylabel="deviation of eigenvalues")
    axes.set_title(f"n = {n}, d = {d:,}, {problem.features.name}, $\\delta$ = {delta:g}")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
