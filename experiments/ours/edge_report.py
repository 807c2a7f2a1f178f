"""Judge and draw the descents of `edge`: sharpness over the edge of stability, step by step.

Its rows are the starts and descents that records hold, flat: `rows_of`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from experiments.kit.draw import colors
from experiments.kit.judge import Finding, Verdict, above, every, settle
from experiments.kit.panels import Panel
from experiments.kit.records import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: a sharpness is at the edge within these factors, which cover its oscillation
AT_EDGE = (0.8, 1.25)
#: relative residuals that a measurement may have; the error of an eigenvalue is about the square
RESIDUAL = 0.2
MEASURED = {"gd": "sharpness", "adamw": "preconditioned_sharpness"}
EDGE = {"gd": "sharpness_threshold", "adamw": "preconditioned_threshold"}
Row = dict[str, Any]
Palette = dict[float, tuple[float, float, float]]
NAMES = {"gd": "gradient descent", "adamw": "AdamW"}
LABELS = {"gd": r"sharpness $\lambda_1(H)$ / (2 / $\eta$)",
          "adamw": r"$\lambda_1(P^{-1}H)$ / edge of AdamW"}  # fmt: skip


def rows_of(records: Sequence[Record]) -> list[Row]:
    """Return the start and the descents of every record, each with its kind and seed."""
    found = []
    for record in records:
        parts = [("start", record["descents_start"])]
        parts += [("descent", made) for made in record["descents"]]
        found += [{"kind": kind, **part, "seed": record["seed"]} for kind, part in parts]
    return found


def descents(rows: Sequence[Row], optimizer: str = "", loss: str = "") -> list[Row]:
    """Return the descents with an optimizer under a loss; an empty name means any."""
    found = [r for r in rows if r["kind"] == "descent"]
    return [r for r in found if optimizer in ("", r["optimizer"]) and loss in ("", r["loss"])]


def losses(rows: Sequence[Row]) -> list[str]:
    """Return the losses that were descended, in the order of the rows."""
    return list(dict.fromkeys(r["loss"] for r in rows))


def over_edge(rows: Sequence[Row], row: Row) -> list[tuple[int, float]]:
    """Return (step, sharpness over the edge of the descent's rate); AdamW's is preconditioned.

    Gradient descent has a step 0, the pretrained weights; AdamW has no preconditioner there. Nor is
    its step 1 counted: P is then |g| + eps of a single gradient, and where g nearly vanishes its
    rounding decides the largest eigenvalue of P^-1 H.
    """
    measured, edge = MEASURED[row["optimizer"]], EDGE[row["optimizer"]]
    points = [(int(m["step"]), m[measured] / m[edge]) for m in row["measured"]]
    if row["optimizer"] == "adamw":
        return [point for point in points if point[0] > 1]
    same = ("loss", "ratio", "seed")
    start = next(r for r in rows if r["kind"] == "start" and all(r[k] == row[k] for k in same))
    return [(0, start["sharpness"] * row["rate"] / 2), *points]


def peak(rows: Sequence[Row], row: Row) -> tuple[int, float]:
    """Return the measurement that is highest over the edge."""
    return max(over_edge(rows, row), key=lambda point: (math.isfinite(point[1]), point[1]))


def settled(rows: Sequence[Row], row: Row) -> float:
    """Return the median over the edge in the second half of the steps."""
    points = over_edge(rows, row)
    late = [value for step, value in points if step > len(row["losses"]) / 2]
    return median(late) if late else math.nan


def check(records: Sequence[Record]) -> list[Finding]:
    """Compare the descents with what Cohen et al. found on whole networks."""
    rows, findings = rows_of(records), []
    for loss in losses(rows):
        gentle = [r for r in descents(rows, "gd", loss) if r["scale"] < 1]
        steep = [r for r in descents(rows, "gd", loss) if r["scale"] > 1]
        adam = descents(rows, "adamw", loss)
        if gentle:
            findings += [_reaches(rows, gentle, loss), _stays(rows, gentle, loss)]
        if steep:
            findings.append(_flattens(rows, steep, loss))
        if adam:
            findings.append(_stays(rows, adam, loss))
        findings.append(_start(rows, loss))
    return [*findings, _resolved(rows)]


def _reaches(rows: Sequence[Row], chosen: Sequence[Row], loss: str) -> Finding:
    text = f"{loss}: gradient descent below 2 / sharpness sharpens up to its edge"
    peaks = [peak(rows, r) for r in chosen]
    evidence = "; ".join(
        f"ratio {r['ratio']:g}, {r['scale']:g} of the edge at the start: "
        f"at most {value:.2f} (step {step})"
        for r, (step, value) in zip(chosen, peaks, strict=True)
    )
    return Finding(text, every(settle(value >= AT_EDGE[0]) for _, value in peaks), evidence)


def _stays(rows: Sequence[Row], chosen: Sequence[Row], loss: str) -> Finding:
    name = NAMES[chosen[0]["optimizer"]]
    what = "sharpness" if chosen[0]["optimizer"] == "gd" else "preconditioned sharpness"
    text = f"{loss}: with {name} the {what} stays at the edge in the second half"
    values = [settled(rows, r) for r in chosen]
    evidence = "median over the edge: " + "; ".join(
        f"{value:.2f} at ratio {r['ratio']:g}, {_scale(r)}"
        for r, value in zip(chosen, values, strict=True)
    )
    return Finding(text, every(map(_at_edge, chosen, values)), evidence)


def _at_edge(row: Row, value: float, least: float = AT_EDGE[0]) -> Verdict:
    """Judge the second half of a descent; one that was not measured there decides nothing."""
    if math.isnan(value) and not row["diverged"]:
        return "undecided"
    return settle(least <= value <= AT_EDGE[1] and not row["diverged"])


def _flattens(rows: Sequence[Row], chosen: Sequence[Row], loss: str) -> Finding:
    text = f"{loss}: started above its edge, gradient descent ends below it, at a lower loss"
    evidence = "; ".join(
        f"ratio {r['ratio']:g}: from {over_edge(rows, r)[0][1]:.2f} to {settled(rows, r):.2f}, "
        f"loss {r['losses'][0]:.3g} to {r['losses'][-1]:.3g}{', diverged' * r['diverged']}"
        for r in chosen
    )
    flat = [_at_edge(r, settled(rows, r), least=-math.inf) for r in chosen]
    lower = [settle(r["losses"][-1] < r["losses"][0]) for r in chosen]
    return Finding(text, every([*flat, *lower]), evidence)


def _start(rows: Sequence[Row], loss: str) -> Finding:
    text = f"{loss}: the smaller the ratio, the flatter the start and the larger its stable rate"
    starts = [r for r in rows if r["kind"] == "start" and r["loss"] == loss]
    starts = sorted(starts, key=lambda r: (r["seed"], -r["ratio"]))
    pairs = [(a, b) for a, b in pairwise(starts) if a["seed"] == b["seed"]]
    evidence = "; ".join(
        f"ratio {r['ratio']:g}: sharpness {r['sharpness']:.3g} ± {r['residual']:.1g}, "
        f"2 / sharpness {2 / r['sharpness']:.3g}"
        for r in starts
    )
    falls = []
    for a, b in pairs:
        fall, error = a["sharpness"] - b["sharpness"], a["residual"] + b["residual"]
        falls.append(above(fall - error, fall + error))
    return Finding(text, every(falls), evidence)


def _resolved(rows: Sequence[Row]) -> Finding:
    relative = [r["residual"] / abs(r["sharpness"]) for r in rows if r["kind"] == "start"]
    for row in descents(rows):
        for name in ("sharpness", MEASURED[row["optimizer"]]):
            relative += [
                m[f"{name}_residual"] / abs(m[name]) for m in row["measured"]
                if math.isfinite(m[name])
            ]  # fmt: skip
    text = f"every sharpness has a relative residual of at most {RESIDUAL:g}"
    evidence = f"largest {max(relative):.2g}, median {median(relative):.2g}, n={len(relative)}"
    return Finding(text, settle(max(relative) <= RESIDUAL), evidence)


def table(records: Sequence[Record]) -> list[dict[str, str]]:
    """Summarise one line a descent."""
    rows, lines = rows_of(records), []
    for r in descents(rows):
        step, value = peak(rows, r)
        first = next((s for s, v in over_edge(rows, r) if v >= 1), None)
        lines.append({
            "objective": r["loss"], "ratio": f"{r['ratio']:g}", "trainable": f"{r['count']:,}",
            "optimiser": NAMES[r["optimizer"]], "rate": f"{r['rate']:.3g}", "scale": _scale(r),
            "first at the edge": "-" if first is None else f"step {first}",
            "highest / edge": f"{value:.2f} (step {step})",
            "second half / edge": f"{settled(rows, r):.2f}",
            "loss": f"{r['losses'][0]:.3g} to {r['losses'][-1]:.2g}" + " diverged" * r["diverged"],
            "distance": f"{r['distance']:.3g}",
        })  # fmt: skip
    return lines


def _scale(row: Row) -> str:
    return f"{row['scale']:g} " + ("x 2 / sharpness" if row["optimizer"] == "gd" else "/ ratio")


def drawn(records: Sequence[Record]) -> list[Panel]:
    """Draw sharpness over its edge for each optimizer, and the loss; a row of panels a loss."""
    rows, found = rows_of(records), []
    ratios = sorted({r["ratio"] for r in rows}, reverse=True)
    palette = dict(zip(ratios, colors(len(ratios)), strict=True))
    for loss in losses(rows):
        for optimizer in MEASURED:
            chosen = descents(rows, optimizer, loss)
            name = f"{NAMES[optimizer]}, {loss}".capitalize().replace("Adamw", "AdamW")
            found.append(Panel(name, partial(_draw_edge, rows, chosen, palette)))
        found.append(
            Panel("Training loss", partial(_draw_losses, descents(rows, loss=loss), palette))
        )
    return found


def _style(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the line of a descent: its dashes tell the rates of one optimizer apart."""
    scales = sorted({r["scale"] for r in rows if r["optimizer"] == row["optimizer"]})
    place, adamw = scales.index(row["scale"]), row["optimizer"] == "adamw"
    return {
        "ls": ("-", "--", ":", "-.")[place % 4],
        "marker": ("^vD*" if adamw else "osPX")[place % 4],
        "ms": 4,
        "lw": 1.4,
    }


def _draw_edge(
    rows: Sequence[Row], chosen: Sequence[Row], palette: Palette, axis: Axes, *_: Any
) -> None:
    axis.set_ylabel(LABELS[chosen[0]["optimizer"]] if chosen else "")
    axis.axhline(1, color="0.4", lw=1.2, label="edge of stability")
    axis.axhspan(*AT_EDGE, color="0.5", alpha=0.15, lw=0)
    for r in chosen:
        points = [(s, v) for s, v in over_edge(rows, r) if v > 0]
        unit = r"$\times$ 2/$\lambda_1$" if r["optimizer"] == "gd" else "/ ratio"
        name = NAMES[r["optimizer"]]
        label = f"{name}, ratio {r['ratio']:g}, rate {r['scale']:g} {unit}"
        axis.plot(*zip(*points, strict=True), color=palette[r["ratio"]], label=label,
                  **_style(r, chosen))  # fmt: skip
    axis.set(yscale="log", xlabel="step")
    _plain_ticks(axis)


def _draw_losses(chosen: Sequence[Row], palette: Palette, axis: Axes, *_: Any) -> None:
    for r in chosen:
        style = _style(r, chosen) | {"marker": None}
        if r["optimizer"] == "adamw":
            style |= {"lw": 3.0, "alpha": 0.45}
        axis.plot(r["losses"], color=palette[r["ratio"]], **style)
    axis.plot([], [], color="0.3", lw=1.4, label="thin: gradient descent")
    axis.plot([], [], color="0.3", lw=3.0, alpha=0.45, label="thick: AdamW")
    axis.set(yscale="log", xlabel="step", ylabel="mean loss over all training examples")
    _plain_ticks(axis)


def _plain_ticks(axis: Axes) -> None:
    """Label a logarithmic axis as plain numbers, at 1, 2 and 5 of each decade if they are few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_ylim()
    subs = (1.0, 2.0, 5.0) if high < 2e3 * low else (1.0,)
    axis.yaxis.set_major_locator(LogLocator(subs=subs))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
