"""Four figures of one instance: eigenvalues, stable steps, trajectories and distances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import seaborn as sns
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from landscape.errors import UserError
from theory import bounds
from theory.claims.distance import distance_floor, distance_terms
from theory.claims.dynamics import BETA, adam_threshold, gd_threshold, heavy_ball_threshold
from theory.claims.spectral import chernoff_interval
from theory.features import Array, Features, from_array
from theory.problems import MaskedRegression
from theory.spectra import Moments, descending, draw_mask, masked_grams, moments
from theory.stability import StepMap, averaged_map, descent_map, largest_stable_step

BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY, YELLOW, SKY = sns.color_palette("colorblind")
MASKS = 60
FEWEST = 20  # kept features below which a mask is no longer a sample of the columns


def draw_figures(problem: MaskedRegression, directory: str | Path, seed: int = 0) -> list[Path]:
    """Draw the four figures of an instance as PNG files; its p is not used, they scan it.

    Args:
        problem: at least 100 features, not all zero.
        directory: made where it is missing.
        seed: of the masks.

    Returns:
        The files. Cost: some hundred masks at p from 1/100 to 1; seconds at n = 32, d = 1e5.

    Raises:
        UserError: too few features to scan p, X = 0, or a directory that cannot be made.
    """
    if problem.d < 5 * FEWEST or problem.moments.top == 0:
        raise UserError(
            f"expected at least {5 * FEWEST} features, not all zero, to draw figures; got "
            f"{problem.name}; raise --d"
        )
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"expected a directory for figures, got {directory}: {error}") from None
    paths = []
    style = {**sns.axes_style("ticks"), **sns.plotting_context("notebook", font_scale=0.85)}
    for name, figure in FIGURES.items():
        with rc_context({**style, "legend.frameon": False, "axes.titlelocation": "left"}):
            drawn = figure(problem, seed)
            sns.despine(fig=drawn)
            paths.append(directory / f"{name}.png")
            drawn.savefig(paths[-1], dpi=160)
    return paths


def _canvas(columns: int, width: float = 9.6) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, 4.0), layout="constrained")
    return figure, [figure.add_subplot(1, columns, i + 1) for i in range(columns)]


def _ratios(problem: MaskedRegression, count: int = 9) -> Array:
    """Return values of p from ``FEWEST`` kept features (at least n) to one half, log-spaced."""
    return np.geomspace(min(0.25, max(FEWEST, problem.n) / problem.d), 0.5, count)


def _grams(features: Features, p: float, count: int, seed: int) -> Array:
    rng = np.random.default_rng([seed, 10])
    return masked_grams(features, [draw_mask(rng, features.d, p) for _ in range(count)])


def concentration(problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw the deviation of the masked eigenvalues against p and against d, with all bounds."""
    figure, (left, right) = _canvas(2, 10.8)
    ratios = _ratios(problem)
    rows = [_deviation(problem.features, problem, problem.moments, p, seed) for p in ratios]
    _plot_bounds(left, ratios, rows)
    left.set(xlabel="probability p to keep a feature", ylabel="deviation of eigenvalues")
    left.set_title(f"n = {problem.n}, d = {problem.d:,}, {problem.features.name}")

    p = float(np.clip(10 * FEWEST / problem.d, 0.01, 0.5))
    sizes = np.unique(np.geomspace(FEWEST / p, problem.d, 7).astype(int))
    prefixes = [from_array(problem.features.take(np.arange(d)).T) for d in sizes]
    rows = [_deviation(part, problem, moments(part), p, seed) for part in prefixes]
    _plot_bounds(right, sizes, rows)
    right.set(xlabel="number of features d", title=f"p = {p:g}")
    right.xaxis.set_minor_formatter(NullFormatter())
    handles, labels = left.get_legend_handles_labels()
    title = f"bounds at $\\delta$ = {problem.delta:g}"
    figure.legend(handles, labels, title=title, loc="outside right center", alignment="left")
    return figure


def _deviation(
    features: Features, problem: MaskedRegression, m: Moments, p: float, seed: int
) -> dict[str, Array]:
    """Return the quantiles of max_i |lambda_i - p lambda_i(X^T X)| and every bound at one p."""
    gaps = descending(_grams(features, p, MASKS, seed)) - p * m.eigenvalues
    n, d, r, delta = features.n, features.d, m.max_abs, problem.delta
    chernoff = chernoff_interval(m, p, delta)
    return {
        "seen": np.quantile(np.abs(gaps).max(axis=1), (0.05, 0.5, 1.0)),
        "theorem 5.1, corrected": np.array(bounds.theorem_51_corrected(n, d, r, delta)),
        "theorem 5.1, printed (false)": np.array(bounds.theorem_51_printed(n, d, r, delta)),
        "matrix Bernstein": np.array(bounds.bernstein(m, p, delta)),
        "matrix Chernoff, $\\lambda_1$ above": np.array(chernoff.top_high - p * m.top),
        "$p\\,\\lambda_1(X^TX)$": np.array(p * m.top),
    }


def _plot_bounds(axes: Axes, x: Array, rows: list[dict[str, Array]]) -> None:
    looks = ((ORANGE, "-"), (RED, ":"), (GREEN, "-"), (PURPLE, "--"), (GREY, "-."))
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


def stability(problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw the growth of the top component against the step, and the largest stable step."""
    figure, (left, right) = _canvas(2)
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
    """Plot the bisected step of three masks at each p, the 1/p law and the Chernoff interval."""
    n, top, ratios = problem.n, problem.moments.top, _ratios(problem, 7)
    measured = []
    for p, gram in _few_grams(problem, ratios, seed):
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
    axes.plot(fine, 2 * n / fine / top, color=GREY, label="$2n / (p\\,\\lambda_1(X^TX))$")
    axes.plot(*np.transpose(measured), "o", color=BLUE, markersize=4, label="measured, a mask")
    axes.set(xscale="log", yscale="log", xlabel="probability p to keep a feature")
    axes.set(ylabel="largest stable step", title="Gradient descent")
    axes.legend(loc="lower left")


def _few_grams(
    problem: MaskedRegression, ratios: Array, seed: int
) -> Iterator[tuple[float, Array]]:
    for p in ratios:
        for gram in _grams(problem.features, float(p), 3, seed):
            if gram.any():
                yield float(p), gram


def trajectories(problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw excess loss and distance against steps at one rate, for several p; w_0 = 0."""
    figure, (left, right) = _canvas(2)
    eta = problem.n / problem.moments.top
    seen = (1, 3, 10, 30, 100, 300)
    times = np.union1d(np.geomspace(1, 1e6, 80).astype(int), seen)
    ratios = (1.0, *_ratios(problem, 3)[::-1])
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


def distances(problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw the distance of the solution against p, with its identity, bound and floor."""
    figure, (axes,) = _canvas(1, 7.6)
    n, d = problem.n, problem.d
    norm2 = float(np.trace(problem.moments.gram))
    ratios = np.geomspace(min(0.25, max(n / 4, 1) / d), 1, 17)
    rng = np.random.default_rng([seed, 11])
    identity, bound, floor = [], [], []
    for p in ratios:
        grams = _grams(problem.features, p, MASKS if p < 1 else 1, seed)
        noise, shift, ranks = distance_terms(grams, problem.signal, problem.sigma)
        identity.append(np.median(noise + shift) ** 0.5)
        bound.append(np.median(noise) ** 0.5)
        floor.append(distance_floor(problem.sigma, float(ranks.mean()), p, norm2) ** 0.5)
        for gram in grams[:5]:
            y = problem.signal + problem.sigma * rng.standard_normal(n)
            size = float(y @ np.linalg.pinv(gram, rcond=1e-12, hermitian=True) @ y) ** 0.5
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


FIGURES: dict[str, Callable[[MaskedRegression, int], Figure]] = {
    "concentration": concentration,
    "stability": stability,
    "trajectories": trajectories,
    "distances": distances,
}
