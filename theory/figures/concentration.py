"""How far masked eigenvalues are from p times the full ones, against all bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from landscape.figures.canvas import canvas
from theory import bounds, conditional
from theory.features import Array, Features
from theory.figures.scan import (
    BLUE,
    FEWEST,
    GREEN,
    GREY,
    HEAVY,
    MASKS,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    companions,
    grams_at,
    scan_ratios,
)
from theory.heavy_light import HeavyLight, divide
from theory.problems import MaskedRegression
from theory.spectra import Moments, descending, moments
from theory.statements.spectral import chernoff_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def concentration(problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw the deviation of the masked eigenvalues against p and d, heavy tails beside them."""
    from matplotlib.ticker import NullFormatter

    figure, (left, right, heavy) = canvas((13.6, 4.2), 3)
    ratios = scan_ratios(problem)
    parts = divided(problem.features)
    rows = [_deviation(parts, problem, problem.moments, p, seed) for p in ratios]
    _plot_bounds(left, ratios, rows)
    left.set(xlabel="probability p to keep a feature", ylabel="deviation of eigenvalues")
    left.set_title(f"n = {problem.n}, d = {problem.d:,}, {problem.features.name}")

    p = float(np.clip(10 * FEWEST / problem.d, 0.01, 0.5))
    sizes = np.unique(np.geomspace(FEWEST / p, problem.d, 7).astype(int))
    prefixes = [problem.features.prefix(int(d)) for d in sizes]
    rows = [_deviation(divided(part), problem, moments(part), p, seed) for part in prefixes]
    _plot_bounds(right, sizes, rows)
    right.set(xlabel="number of features d", title=f"p = {p:g}")
    right.xaxis.set_minor_formatter(NullFormatter())
    tailed = companions(problem)[1]
    ratios, parts = scan_ratios(tailed), divided(tailed.features)
    rows = [_deviation(parts, tailed, tailed.moments, p, seed) for p in ratios]
    _plot_bounds(heavy, ratios, rows)
    heavy.set(xlabel="probability p to keep a feature")
    heavy.set_title(f"n = {tailed.n}, d = {tailed.d:,}, {tailed.features.name}")
    handles, labels = left.get_legend_handles_labels()
    title = f"bounds at $\\delta$ = {problem.delta:g}"
    figure.legend(handles, labels, title=title, loc="outside right center", alignment="left")
    return figure


def divided(features: Features) -> HeavyLight:
    """Return X divided at ``HEAVY`` columns, a tenth of all where they are fewer."""
    return divide(features, min(HEAVY, features.d // 10))


def _deviation(
    parts: HeavyLight, problem: MaskedRegression, m: Moments, p: float, seed: int
) -> dict[str, Array]:
    """Return the quantiles of max_i |lambda_i - p lambda_i(X^T X)| and every bound at one p."""
    features = parts.features
    gaps = descending(grams_at(features, p, MASKS, seed)) - p * m.eigenvalues
    n, d, r, delta = features.n, features.d, m.max_abs, problem.delta
    chernoff = chernoff_interval(m, p, delta)
    return {
        "seen": np.quantile(np.abs(gaps).max(axis=1), (0.05, 0.5, 1.0)),
        "theorem 5.1, corrected": np.array(bounds.theorem_51_corrected(n, d, r, delta)),
        "theorem 5.1, printed (false)": np.array(bounds.theorem_51_printed(n, d, r, delta)),
        "matrix Bernstein": np.array(bounds.bernstein(m, p, delta)),
        "the same, mask known\non the heavy columns": np.array(
            conditional.deviation(parts.light, p, delta)
        ),
        "matrix Chernoff, $\\lambda_1$ above": np.array(chernoff.top_high - p * m.top),
        "$p\\,\\lambda_1(X^TX)$": np.array(p * m.top),
    }


def _plot_bounds(axes: Axes, x: Array, rows: list[dict[str, Array]]) -> None:
    looks = ((ORANGE, "-"), (RED, ":"), (GREEN, "-"), (SKY, "-"), (PURPLE, "--"), (GREY, "-."))
    for name, (colour, line) in zip(list(rows[0])[1:], looks):
        axes.plot(x, [row[name] for row in rows], line, color=colour, label=name)
    low, middle, high = np.array([row["seen"] for row in rows]).T
    axes.fill_between(x, low, high, color=BLUE, alpha=0.25, linewidth=0)
    axes.plot(
        x,
        middle,
        "o-",
        color=BLUE,
        markersize=4,
        label=f"measured, {MASKS} masks:\nmedian, 5 % to largest",
    )
    axes.set(xscale="log", yscale="log")
