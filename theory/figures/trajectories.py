"""Loss and distance along gradient descent, where p alone sets the clock and where it does not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from landscape import seeds
from landscape.figures.canvas import canvas
from theory import bounds, purposes
from theory.factors import rank, resolved
from theory.features import Array, Features, Indices
from theory.figures.scan import BLUE, GREEN, ORANGE, scan_ratios
from theory.problems import MaskedRegression
from theory.restricted import Restricted
from theory.spectra import draw_mask
from theory.statements.law import largest_leverage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLOCK = np.geomspace(0.3, 3e4, 120)  # p t
SEEN = (1, 3, 10, 30)  # p t at which gradient descent itself is drawn
DRAWN = 4  # masks at each p
COLOURS = (ORANGE, GREEN, BLUE)


def trajectories(problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw loss and distance against p t at one rate, for several p; w_0 = 0.

    Above on the given features; below with column j divided by sqrt(j), so that a few columns carry
    most of the weight and which of them a mask keeps decides the rates.
    """
    figure, axes = canvas((9.6, 6.8), 2, 2)
    for row, features in zip(axes, (problem.features, few_heavy(problem.features))):
        _clock(row, MaskedRegression(features, problem.p, problem.delta, problem.sigma), seed)
        row[0].set(ylabel="share of the excess loss left", ylim=(3e-3, 1.3))
        row[1].set(ylabel="$\\sqrt{p}\\,\\|w_t\\|\\, /\\, \\|w_\\infty(p=1)\\|$", ylim=(1e-2, 3))
    axes[0, 0].set_title(f"n = {problem.n}, d = {problem.d:,}, {problem.features.name}")
    axes[0, 1].set_title("Distance to initialisation times $\\sqrt{p}$")
    axes[1, 0].set_title("The same, column j divided by $\\sqrt{j}$: no common clock")
    for axis in axes[1]:
        axis.set_xlabel("p t,  t steps of gradient descent")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title="lines: a mask, closed form\ndots: gradient descent\nshaded: all rates within\n"
        f"their band, probability {1 - problem.delta:g}",
        loc="outside right center",
        alignment="left",
    )
    return figure


def few_heavy(features: Features) -> Features:
    """Return X with column j, from 1, divided by sqrt(j)."""

    def read(start: int, stop: int) -> Array:
        scale = 1 / np.sqrt(np.arange(start + 1.0, stop + 1.0))
        return np.asarray(features.read(start, stop) * scale[:, None])

    return Features(f"{features.name}/sqrt(j)", features.n, features.d, read, features.exponent)


def rate_band(problem: MaskedRegression, p: float) -> tuple[float, float]:
    """Return c and C with c p X X^T <= X M X^T <= C p X X^T, probability >= 1 - delta over masks.

    Matrix Chernoff on whitened columns, as in ``distance_interval``: all n rates of gradient
    descent are within c and C of p times those at p = 1. Where it says nothing: 0 and infinity.
    """
    s = np.asarray(np.linalg.svd(problem.factor, compute_uv=False))
    if rank(s) < problem.n or not resolved(s):
        return 0.0, math.inf
    tau = largest_leverage(problem)
    low = bounds.chernoff_lower(p, tau, problem.delta / 2, problem.n)
    return low, bounds.chernoff_upper(p, tau, problem.delta / 2, problem.n)


def _clock(axes: tuple[Axes, Axes], problem: MaskedRegression, seed: int) -> None:
    """Draw both panels of one instance: the bands, several masks at each p, and rates p lambda."""
    eta = problem.n / problem.moments.top
    whole = problem.restrict(np.arange(problem.d))
    unit = float(np.linalg.norm(whole.minimum_norm())) or 1.0
    ratios = scan_ratios(problem, 4)[:0:-1]
    for p, colour in zip(ratios, COLOURS):
        _band(axes, whole, eta * p, rate_band(problem, float(p)), p, unit, colour)
    rng = seeds.numbered(seed, purposes.FIGURE_MASKS)
    for p, colour in zip(ratios, COLOURS):
        for i in range(DRAWN):
            mask = problem.restrict(draw_mask(rng, problem.d, float(p)))
            name = f"p = {p:.2g}" if i == 0 else None
            _draw(axes, mask, p, eta, unit, dots=i == 0, color=colour, label=name)
    p = ratios[-1]
    steps = _steps(p)
    loss, distance = curves(whole, eta * p, steps)
    axes[0].plot(p * steps, loss, "k--", lw=1.4, label="rates $p\\,\\lambda_i(XX^T)$")
    axes[1].plot(p * steps, distance / unit, "k--", lw=1.4)
    slowest = whole.eigenvalues[-1] / whole.top  # its time is 1 / slowest, and longer on a mask
    last = float(np.clip(30 / slowest, 30, CLOCK[-1]))
    for one in axes:
        one.set(xscale="log", yscale="log", xlim=(CLOCK[0], last))


def _steps(p: float) -> Indices:
    seen = [round(time / p) for time in SEEN]
    return np.union1d(np.ceil(CLOCK / p).astype(np.int64), seen)


def curves(mask: Restricted, eta: float, steps: Indices) -> tuple[Array, Array]:
    """Return the share of the excess loss that is left after steps (s,), and ||w_t||, each (s,)."""
    start, end = mask.loss(np.zeros(mask.k)), mask.loss(mask.minimum_norm())
    loss, distance = np.array([mask.filtered(eta, int(t)) for t in steps]).T
    return (loss - end) / ((start - end) or 1.0), distance


def _draw(
    axes: tuple[Axes, Axes],
    mask: Restricted,
    p: float,
    eta: float,
    unit: float,
    *,
    dots: bool,
    **look: Any,
) -> None:
    """Draw one mask's curves, and with dots the iterates of gradient descent itself."""
    steps, scale = _steps(p), math.sqrt(p) / unit
    loss, distance = curves(mask, eta, steps)
    axes[0].plot(p * steps, loss, lw=1.0, **look)
    axes[1].plot(p * steps, scale * distance, lw=1.0, **look)
    if not dots:
        return
    start, end = mask.loss(np.zeros(mask.k)), mask.loss(mask.minimum_norm())
    w, before = np.zeros(mask.k), 0
    for t in (round(time / p) for time in SEEN):
        w, before = mask.descend(w, eta, t - before), t
        share = (mask.loss(w) - end) / ((start - end) or 1.0)
        axes[0].plot(p * t, share, "o", color=look["color"], markersize=4)
        axes[1].plot(p * t, scale * np.linalg.norm(w), "o", color=look["color"], markersize=4)


def _band(
    axes: tuple[Axes, Axes],
    whole: Restricted,
    rate: float,
    ends: tuple[float, float],
    p: float,
    unit: float,
    colour: str,
) -> None:
    """Shade between all rates at their lower and at their upper end; nothing where it has none."""
    low, high = ends
    if low == 0 or math.isinf(high):
        return
    steps = _steps(p)
    slow, fast = (curves(whole, rate * end, steps) for end in ends)
    axes[0].fill_between(p * steps, slow[0], fast[0], color=colour, alpha=0.2, lw=0)
    # ||w_t|| as the rates grow: sooner there, and less far
    ways = [curves(whole, rate * c, steps)[1] / math.sqrt(c) for c in (low, 1.0, high)]
    near, far = np.min(ways, axis=0), np.max(ways, axis=0)
    axes[1].fill_between(p * steps, near / unit, far / unit, color=colour, alpha=0.2, lw=0)
