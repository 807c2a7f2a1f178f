"""Judge and draw the rows of the artefact `linear`: exponents, predictions, where they fail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from experiments.kit.draw import RATIO, colors, despine, guide, panels, title
from experiments.kit.intervals import exponent
from experiments.kit.judge import Finding, Verdict, equal, settle
from experiments.kit.publish import Page
from experiments.kit.store import Row
from experiments.kit.table import grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MATRICES = ("gauss-newton", "hessian")
KINDS = ("random", "columns", "magnitude", "magnitude_smallest", "gradient")
#: exponents of this distance are different laws: the theory's are 0, -1/2 and -1
RESOLUTION = 0.5
NAMES = {"sgd": "SGD", "adamw": "AdamW"}
RUNS = (("sgd", "true"), ("adamw", "true"), ("sgd", "shuffled"), ("adamw", "shuffled"))


def relative_eigenvalues(rows: Sequence[Row], matrix: str, kind: str) -> dict[float, list[float]]:
    """Return lambda_1(masked) / (density lambda_1(all targets)) by ratio; theory says 1."""
    chosen = [r for r in rows if r["kind"] == "curvature" and r["matrix"] == matrix]
    full = {r["seed"]: r["eigenvalue"] for r in chosen if r["mask"] == "all"}
    found: dict[float, list[float]] = {}
    for row in chosen:
        if row["mask"] == kind:
            predicted = row["density"] * full[row["seed"]]
            found.setdefault(row["ratio"], []).append(row["eigenvalue"] / predicted)
    return found


def fastest(rows: Sequence[Row], optimizer: str, labels: str) -> list[Row]:
    """Return, for each ratio and seed, the descent that reached the loss in the fewest steps."""
    return _best(rows, optimizer, labels, "steps")


def nearest(rows: Sequence[Row], optimizer: str, labels: str) -> list[Row]:
    """Return, for each ratio and seed, the descent that reached the loss at the least distance."""
    return _best(rows, optimizer, labels, "distance")


def _best(rows: Sequence[Row], optimizer: str, labels: str, by: str) -> list[Row]:
    descents = [r for r in rows if r["kind"] == "descent" and r["reached"]]
    same = [r for r in descents if (r["optimizer"], r["labels"]) == (optimizer, labels)]
    cells = grouped(same, "ratio", "seed")
    best = [min(cell, key=lambda row: (row[by], row["rate"])) for cell in cells]
    return sorted(best, key=lambda row: row["ratio"])


def _points(rows: Sequence[Row], value: str) -> tuple[list[float], list[float]]:
    return [row["ratio"] for row in rows], [row[value] for row in rows]


def _law(statement: str, x: Sequence[float], y: Sequence[float], theory: float) -> Finding:
    """Say whether a fitted exponent's 95 % interval contains the theory's and no other law's."""
    fit = exponent(x, y)
    if math.isnan(fit.low):
        return Finding(statement, "undecided", f"{len(x)} points are too few to fit an exponent")
    low, high = fit.low, fit.high
    interval = f"95 % interval [{low:.2f}, {high:.2f}]"
    text = f"exponent {fit.value:.2f}, {interval}, theory {theory:g}, n={len(x)}"
    return Finding(statement, equal(low - theory, high - theory, within=RESOLUTION), text)


def check(rows: Sequence[Row]) -> list[Finding]:
    """Compare each prediction of the linear model with the network's rows."""
    findings = []
    for matrix in MATRICES:
        points = [
            (ratio, value)
            for ratio, values in relative_eigenvalues(rows, matrix, "random").items()
            for value in values
        ]
        text = f"{matrix}: a random mask of density q has q times the top eigenvalue of all targets"
        law = _law(text, [x for x, _ in points], [y for _, y in points], 0.0)
        spread = ", ".join(
            f"{fmean(values):.2f} at {ratio:g}"
            for ratio, values in sorted(relative_eigenvalues(rows, matrix, "random").items())
        )
        evidence = f"masked / predicted: {spread}; {law.evidence}"
        findings.append(Finding(text, law.verdict, evidence))
    for optimizer in ("sgd", "adamw"):
        best = fastest(rows, optimizer, "true")
        text = f"{optimizer}: the rate that is fastest to the loss grows like 1/ratio"
        findings.append(_law(text, *_points(best, "rate"), -1.0))
    for optimizer, labels in RUNS:
        near = nearest(rows, optimizer, labels)
        text = f"{optimizer}, {labels} labels: distance at equal loss grows like ratio^-1/2"
        law = _law(text, *_points(near, "distance"), -0.5)
        findings.append(law)
    findings.append(_arithmetic(rows))
    return findings


def _arithmetic(rows: Sequence[Row]) -> Finding:
    """Compare AdamW's distance with rate sqrt(k) steps, what full unanimous steps would give."""
    runs = [r for r in rows if r["kind"] == "descent" and r["optimizer"] == "adamw"]
    shares: dict[float, list[float]] = {}
    for row in runs:
        if not row["diverged"]:
            bound = row["rate"] * math.sqrt(row["count"]) * row["steps"]
            shares.setdefault(row["ratio"], []).append(row["distance"] / bound)
    means = {ratio: fmean(values) for ratio, values in sorted(shares.items())}
    spread = ", ".join(f"{share:.2f} at {ratio:g}" for ratio, share in means.items())
    low, high = min(means.values(), default=0.0), max(means.values(), default=0.0)
    flat: Verdict = settle(high <= 1.5 * low) if len(means) > 1 else "undecided"
    text = "adamw: distance is the same share of rate sqrt(k) steps at every ratio (within 1.5)"
    return Finding(text, flat, f"share {spread}")


def tables(rows: Sequence[Row]) -> dict[str, list[dict[str, str]]]:
    """Return the tables: relative eigenvalues by mask kind, and one line a descent."""
    curvature = []
    for matrix in MATRICES:
        for kind in KINDS:
            found = relative_eigenvalues(rows, matrix, kind)
            if not found:
                continue
            line = {"matrix": matrix, "mask": kind}
            for ratio in sorted(found, reverse=True):
                values = found[ratio]
                line[f"{ratio:g}"] = f"{fmean(values):.3g}" + (
                    f" ({min(values):.2g} to {max(values):.2g})" if len(values) > 1 else ""
                )
            curvature.append(line)
    descents = [
        {
            "optimiser": r["optimizer"], "labels": r["labels"], "ratio": f"{r['ratio']:g}",
            "rate": f"{r['rate']:.3g}", "steps": str(r["steps"]),
            "end": "diverged" if r["diverged"] else "reached" if r["reached"] else "not reached",
            "distance": "-" if r["diverged"] else f"{r['distance']:.3g}",
        }
        for r in rows if r["kind"] == "descent"
    ]  # fmt: skip
    return {
        "Top eigenvalue over (density x that of all targets)": curvature,
        "Descents to one loss": descents,
    }


PAGE = Page(
    title="What masked linear regression predicts for a network",
    lead=(
        "In masked linear regression a random share q of the features has q times the largest "
        "eigenvalue, so rates grow like 1/q and solutions move away like q^-1/2. Here the same "
        "three numbers are measured on a pretrained language model, at the pretrained weights "
        "and along descents that all end at the same loss."
    ),
    caption="Predicted by the linear model (dashed) and measured",
    statements="Predictions",
)


def draw(rows: Sequence[Row]) -> Figure:
    """Draw eigenvalues, fastest rates and distances beside the linear model's laws."""
    figure, axes = panels((14, 4.4), 3)
    _draw_curvature(rows, axes[0])
    _draw_rates(rows, axes[1])
    _draw_distances(rows, axes[2])
    titles = ("Flattening against a random submatrix", "Fastest rate", "Distance at equal loss")
    for axis, text in zip(axes, titles, strict=True):
        title(axis, text)
        axis.set_xlabel(RATIO)
        if any(len(line.get_xdata()) for line in axis.lines):
            axis.set(xscale="log", yscale="log")
            axis.legend(frameon=False, fontsize=8)
        else:
            none = "no descent reached the loss"
            axis.text(0.5, 0.5, none, transform=axis.transAxes, ha="center", color="0.5")
    despine(*axes)
    return figure


def _draw_curvature(rows: Sequence[Row], axis: Axes) -> None:
    for kind, color in zip(KINDS, colors(), strict=False):
        for matrix, style in zip(MATRICES, ("o-", "s:"), strict=True):
            found = relative_eigenvalues(rows, matrix, kind)
            if not found:
                continue
            ratios = sorted(found)
            means = [fmean(found[ratio]) for ratio in ratios]
            label = kind.replace("_", ", ") if matrix == MATRICES[0] else None
            axis.plot(ratios, means, style, color=color, label=label, ms=5)
            if kind == "random":
                axis.fill_between(
                    ratios, [min(found[r]) for r in ratios], [max(found[r]) for r in ratios],
                    color=color, alpha=0.15, lw=0,
                )  # fmt: skip
    axis.axhline(1, ls="--", color="0.5", lw=1.2, label="linear model")
    axis.plot([], [], "s:", color="0.3", ms=5, label="dotted: whole Hessian")
    axis.set_ylabel(r"$\lambda_1$ / (density $\times$ $\lambda_1$ of all targets)")


def _draw_rates(rows: Sequence[Row], axis: Axes) -> None:
    for optimizer, color in zip(NAMES, colors(), strict=False):
        best = fastest(rows, optimizer, "true")
        if best:
            axis.plot(*_points(best, "rate"), "o-", color=color,
                      label=NAMES[optimizer])  # fmt: skip
            guide(axis, *_points(best, "rate"), -1.0)
    axis.plot([], [], "--", color="0.5", lw=1.2, label=r"$\propto$ 1 / ratio")
    axis.set_ylabel("learning rate")


def _draw_distances(rows: Sequence[Row], axis: Axes) -> None:
    palette = dict(zip(NAMES, colors(), strict=False))
    for optimizer, labels in RUNS:
        near = nearest(rows, optimizer, labels)
        style = "o-" if labels == "true" else "^:"
        name = f"{NAMES[optimizer]}, {labels} labels"
        if near:
            axis.plot(*_points(near, "distance"), style,
                      color=palette[optimizer], label=name, ms=5)  # fmt: skip
        if near and labels == "true":
            guide(axis, *_points(near, "distance"), -0.5)
    axis.plot([], [], "--", color="0.5", lw=1.2, label=r"$\propto$ ratio$^{-1/2}$")
    axis.set_ylabel("distance to initialisation")
