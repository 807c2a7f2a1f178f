"""The distance of the solution against p, with its identity, bound and floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from landscape import seeds
from landscape.figures.canvas import canvas
from theory import purposes
from theory.figures.scan import BLUE, GREEN, MASKS, ORANGE, SKY, factors_at
from theory.problems import MaskedRegression
from theory.statements.distance import distance_floor, distance_terms

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def distances(problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw the distance of the solution against p, with its identity, bound and floor."""
    figure, axes = canvas((7.6, 4.0))
    n, d = problem.n, problem.d
    norm2 = float(np.trace(problem.moments.gram))
    ratios = np.geomspace(min(0.25, max(n / 4, 1) / d), 1, 17)
    rng = seeds.numbered(seed, purposes.FIGURE_NOISE)
    identity, bound, floor = [], [], []
    for p in ratios:
        factors = factors_at(problem.features, p, MASKS if p < 1 else 1, seed)
        noise, shift, ranks = distance_terms(factors, problem.signal, problem.sigma)
        identity.append(np.median(noise + shift) ** 0.5)
        bound.append(np.median(noise) ** 0.5)
        floor.append(distance_floor(problem.sigma, float(ranks.mean()), p, norm2) ** 0.5)
        for factor in factors[:5]:
            y = problem.signal + problem.sigma * rng.standard_normal(n)
            size = float(distance_terms(factor[None], y, 0.0)[1][0]) ** 0.5
            axes.plot(p, size, ".", color=SKY, label="measured: a mask and its noise")
    axes.plot(ratios, identity, color=BLUE, label="identity, median of masks")
    axes.plot(ratios, bound, "--", color=ORANGE, label="bound of proposition 5.3")
    axes.plot(ratios, floor, "-.", color=GREEN, label="floor $\\propto$ rank / $\\sqrt{p}$")
    axes.axvline(n / d, color="black", linewidth=0.8, linestyle=":")
    axes.text(n / d, 0.02, " p d = n", transform=axes.get_xaxis_transform())
    axes.set(xscale="log", yscale="log", xlabel="probability p to keep a feature")
    axes.set(ylabel="distance $\\|\\hat w\\|$ of the minimum-norm solution")
    axes.set_title(f"n = {n}, d = {d:,}, {problem.features.name}, $\\sigma$ = {problem.sigma:g}")
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    axes.legend(unique.values(), unique.keys())
    return figure
