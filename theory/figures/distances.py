"""The distance of the solution against p: measured, its laws, its bound and its floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from landscape import seeds
from landscape.figures.canvas import canvas
from theory import purposes
from theory.factors import rank, resolved
from theory.figures.scan import (
    BLUE,
    GREEN,
    GREY,
    MASKS,
    ORANGE,
    PURPLE,
    SKY,
    companions,
    factors_at,
)
from theory.leverages import effective_share, equal_share, leverages
from theory.problems import MaskedRegression
from theory.statements.distance import distance_terms
from theory.statements.floor import distance_floor

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def distances(problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw the distance of the solution against p: the instance, isotropic, heavy-tailed."""
    figure, panels = canvas((12.6, 4.2), 3)
    for axes, shown in zip(panels, (problem, *companions(problem))):
        _distances(axes, shown, seed)
        axes.set_title(f"{shown.features.name}, n = {shown.n}, d = {shown.d:,}")
    panels[0].set_ylabel("distance $\\|\\hat w\\|$ of the minimum-norm solution")
    found: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        found = {**dict(zip(labels, handles)), **found}
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=4)
    return figure


def _distances(axes: Axes, problem: MaskedRegression, seed: int) -> None:
    """Plot the median over masks with the identity's bound and floor, some solutions, the laws."""
    n, d = problem.n, problem.d
    norm2 = float(np.trace(problem.moments.gram))
    ratios = np.geomspace(min(0.25, max(n / 4, 1) / d), 1, 17)
    rng = seeds.numbered(seed, purposes.FIGURE_NOISE)
    identity, bound, floor, dots = [], [], [], []
    for p in ratios:
        factors = factors_at(problem.features, p, MASKS if p < 1 else 1, seed)
        noise, shift, ranks = distance_terms(factors, problem.signal, problem.sigma)
        identity.append(np.median(noise + shift) ** 0.5)
        bound.append(np.median(noise) ** 0.5)
        floor.append(distance_floor(problem.sigma, float(ranks.mean()), p, norm2) ** 0.5)
        for factor in factors[:5]:
            y = problem.signal + problem.sigma * rng.standard_normal(n)
            size = float(distance_terms(factor[None], y, 0.0)[1][0]) ** 0.5
            dots.append((p, size))
    label = "measured: a mask and its noise"
    axes.plot(*np.transpose(dots), ".", color=SKY, ms=4, label=label)
    axes.plot(ratios, identity, "o", color=BLUE, ms=5, label="identity, median of masks")
    axes.plot(ratios, bound, ":", color=BLUE, label="bound of proposition 5.3")
    axes.plot(ratios, floor, "-.", color=PURPLE, lw=1, label="floor $\\propto$ rank / $\\sqrt{p}$")
    _laws(axes, problem, identity[-1])
    axes.axvline(n / d, color="black", linewidth=0.8, linestyle=":")
    axes.text(n / d, 0.02, " p d = n", transform=axes.get_xaxis_transform())
    axes.set(xscale="log", yscale="log", xlabel="probability p to keep a feature")
    seen = np.array([value for value in (*identity, *bound, *floor) if value > 0])
    if len(seen):
        axes.set_ylim(seen.min() / 2, seen.max() * 3)


def _laws(axes: Axes, problem: MaskedRegression, whole: float) -> None:
    """Plot D / sqrt(p), D / sqrt(q) and D / sqrt(c), where X has rank n and features to spare."""
    n, d = problem.n, problem.d
    s = np.asarray(np.linalg.svd(problem.factor, compute_uv=False))
    if d <= n or rank(s) < n or not resolved(s):
        return
    fine = n / d * np.concatenate([1 + np.geomspace(1e-3, 1, 25), np.geomspace(2.2, d / n, 25)])
    taken = leverages(problem)
    laws = (
        ("law in 1/p, $D/\\sqrt{p}$", fine, GREY, "--"),
        ("equal leverages, $D/\\sqrt{q}$", [equal_share(n, d, p) for p in fine], ORANGE, "-"),
        (
            "the leverages of X, $D/\\sqrt{c}$",
            [effective_share(taken, p) for p in fine],
            GREEN,
            "-",
        ),
    )
    for label, shares, colour, line in laws:
        share = np.array(shares)
        some = share > 1e-6
        axes.plot(fine[some], whole / share[some] ** 0.5, line, color=colour, label=label)
