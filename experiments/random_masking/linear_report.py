"""Judge and draw what `linear` measures: exponents, predictions, where they fail.

Its rows are the masks and descents that records hold, flat: `rows_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from experiments.kit.draw import RATIO, colors, guide
from experiments.kit.judge import Finding, Verdict, equal, every, settle, within
from experiments.kit.panels import Panel
from experiments.kit.records import Record, grouped
from experiments.kit.statistics import slope, student
from experiments.kit.statistics.decades import logarithms
from experiments.kit.statistics.interval import written

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]
#: of a seed: a value at each ratio
Curves = dict[int, dict[float, float]]
MATRICES = ("gauss-newton", "hessian")
KINDS = ("random", "columns", "magnitude", "magnitude_smallest", "gradient")
#: exponents of this distance are different laws: the theory's are 0, -1/2 and -1
RESOLUTION = 0.5
#: masked over predicted eigenvalues that differ by less agree
FACTOR = 2.0
NAMES = {"sgd": "SGD", "adamw": "AdamW"}
RUNS = (("sgd", "true"), ("adamw", "true"), ("sgd", "shuffled"), ("adamw", "shuffled"))


def rows_of(records: Sequence[Record]) -> list[Row]:
    """Return the masks and the descents of every record, each with its kind and seed."""
    kinds = (("curvature", "curvature_masks"), ("descent", "approaches_descents"))
    return [
        {"kind": kind, **part, "seed": record["seed"]}
        for kind, held in kinds for record in records for part in record.get(held, ())
    ]  # fmt: skip


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
    cells = grouped(same, "ratio", "seed").values()
    best = [min(cell, key=lambda row: (row[by], row["rate"])) for cell in cells]
    return sorted(best, key=lambda row: row["ratio"])


def _points(rows: Sequence[Row], value: str) -> tuple[list[float], list[float]]:
    return [row["ratio"] for row in rows], [row[value] for row in rows]


def _curves(rows: Sequence[Row], value: str) -> Curves:
    found: Curves = {}
    for row in rows:
        found.setdefault(row["seed"], {})[row["ratio"]] = row[value]
    return found


def _law(statement: str, curves: Curves, theory: float) -> Finding:
    """Say whether a fitted exponent's 95 % interval contains the theory's and no other law's."""
    places = {ratio for curve in curves.values() for ratio in curve}
    if len(places) < 2:
        return Finding(statement, "undecided", f"{len(places)} ratios are too few for an exponent")
    fit = slope(curves)
    text = f"exponent {fit}, theory {theory:g}"
    verdict = equal(fit.low - theory, fit.high - theory, within=RESOLUTION)
    if fit.single:
        verdict = "undecided"
    return Finding(statement, verdict, text, (fit.value, fit.low, fit.high))


def check(records: Sequence[Record]) -> list[Finding]:
    """Compare each prediction of the linear model with the network."""
    rows, findings = rows_of(records), []
    for matrix in MATRICES:
        findings.append(_as_predicted(matrix, relative_eigenvalues(rows, matrix, "random")))
    for optimizer in ("sgd", "adamw"):
        best = fastest(rows, optimizer, "true")
        text = f"{optimizer}: the rate that is fastest to the loss grows like 1/ratio"
        findings.append(_law(text, _curves(best, "rate"), -1.0))
    for optimizer, labels in RUNS:
        near = nearest(rows, optimizer, labels)
        text = f"{optimizer}, {labels} labels: distance at equal loss grows like ratio^-1/2"
        findings.append(_law(text, _curves(near, "distance"), -0.5))
    findings.append(_arithmetic(rows))
    return findings


def _as_predicted(matrix: str, relative: Mapping[float, Sequence[float]]) -> Finding:
    """Say whether the mean over masks is what the linear theory says, at every ratio to a factor.

    Masks are drawn apart and are what is repeated: their logarithms have Student's interval.
    """
    text = (
        f"{matrix}: at every ratio a random mask of density q has q times the top eigenvalue of "
        f"all targets, to a factor of {FACTOR:g}"
    )
    verdicts: list[Verdict] = []
    said = []
    for ratio, values in sorted(relative.items()):
        if min(values) <= 0:  # a mean of logarithms there is none
            verdicts.append("fails" if max(values) <= 0 else "undecided")
            said.append(f"{min(values):.2g} to {max(values):.2g} at {ratio:g} ({verdicts[-1]})")
            continue
        logs = student(logarithms(values), each="mask")
        verdicts.append(within(logs.low, logs.high, math.log(FACTOR)))
        value, low, high = (math.exp(end) for end in (logs.value, logs.low, logs.high))
        said.append(f"{written(value, low, high)} at {ratio:g} ({verdicts[-1]}, {logs.count})")
    evidence = f"masked / predicted: {', '.join(said)}" if said else "measured nowhere"
    return Finding(text, every(verdicts), evidence, kind="several")


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


def _geometric(values: Sequence[float]) -> float:
    return math.exp(fmean(math.log(abs(value)) for value in values))


def curvature_table(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return relative eigenvalues, one line a matrix and kind of mask."""
    rows, curvature = rows_of(records), []
    for matrix in MATRICES:
        for kind in KINDS:
            found = relative_eigenvalues(rows, matrix, kind)
            if not found:
                continue
            line = {"matrix": matrix, "mask": kind}
            for ratio in sorted(found, reverse=True):
                values = found[ratio]
                line[f"ratio {ratio:g}"] = f"{_geometric(values):.3g}" + (
                    f" ({min(values):.2g} to {max(values):.2g})" if len(values) > 1 else ""
                )
            curvature.append(line)
    return curvature


def descents_table(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return one line a descent."""
    return [
        {
            "optimiser": r["optimizer"], "labels": r["labels"], "ratio": f"{r['ratio']:g}",
            "rate": f"{r['rate']:.3g}", "steps": str(r["steps"]),
            "end": "diverged" if r["diverged"] else "reached" if r["reached"] else "not reached",
            "distance": "-" if r["diverged"] else f"{r['distance']:.3g}",
        }
        for r in rows_of(records) if r["kind"] == "descent"
    ]  # fmt: skip


def drawn(records: Sequence[Record]) -> list[Panel]:
    """Draw eigenvalues, fastest rates and distances beside the linear model's laws."""
    rows = rows_of(records)
    parts: dict[str, Callable[[Sequence[Row], Axes], None]] = {
        "Flattening against a random submatrix": _draw_curvature,
        "Fastest rate": _draw_rates,
        "Distance at equal loss": _draw_distances,
    }
    return [Panel(name, partial(_over_ratio, part, rows)) for name, part in parts.items()]


def _over_ratio(
    part: Callable[[Sequence[Row], Axes], None], rows: Sequence[Row], axis: Axes, *_: Any
) -> None:
    part(rows, axis)
    axis.set_xlabel(RATIO)
    if any(len(line.get_xdata()) for line in axis.lines):  # type: ignore[arg-type]
        axis.set(xscale="log", yscale="log")
    else:
        none = "no descent reached the loss"
        axis.text(0.5, 0.5, none, transform=axis.transAxes, ha="center", color="0.5")


def _draw_curvature(rows: Sequence[Row], axis: Axes) -> None:
    for kind, color in zip(KINDS, colors(), strict=False):
        for matrix, style in zip(MATRICES, ("o-", "s:"), strict=True):
            found = relative_eigenvalues(rows, matrix, kind)
            if not found:
                continue
            ratios = sorted(found)
            means = [_geometric(found[ratio]) for ratio in ratios]
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
            guide(axis, *_points(best, "rate"), -1.0, "∝ 1 / ratio")
    axis.set_ylabel("learning rate")


def _draw_distances(rows: Sequence[Row], axis: Axes) -> None:
    palette, law = dict(zip(NAMES, colors(), strict=False)), "∝ ratio$^{-1/2}$"
    for optimizer, labels in RUNS:
        near = nearest(rows, optimizer, labels)
        style = "o-" if labels == "true" else "^:"
        name = f"{NAMES[optimizer]}, {labels} labels"
        if near:
            axis.plot(*_points(near, "distance"), style,
                      color=palette[optimizer], label=name, ms=5)  # fmt: skip
        if near and labels == "true":
            guide(axis, *_points(near, "distance"), -0.5, law)
            law = ""  # once: the second guide lies among other lines
    axis.set_ylabel("distance to initialisation")
