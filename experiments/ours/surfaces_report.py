"""Judge `surfaces`: planes and lines at one scale, beside their quadratics.

Its rows are the trainings, eigenvalues, lines and planes that records hold, flat: `rows_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from experiments.kit.judge import Finding, every, settle
from experiments.kit.records import Record
from experiments.ours.trained import ENDS

Row = dict[str, Any]
#: a quadratic prediction is good where it misses the rise by less than this share of it
GOOD = 0.25


def rows_of(records: Sequence[Record]) -> list[Row]:
    """Return the trainings, eigenvalues, lines and planes of every record, each with its kind."""
    found: list[Row] = []
    for r in records:
        same = {"ratio": r["ratio"], "seed": r["seed"]}
        trained = {"kind": "train", "count": r["count"], "distance": r["distance"]}
        found.append(trained | r["slices_path_after"] | same)
        for when in ENDS:
            found.append({"kind": "top", "when": when, **r[f"slices_top_{when}"], **same})
            for name, line in r[f"slices_lines_{when}"].items():
                found.append({"kind": "line", "when": when, "line": name, **line, **same})
        for name, plane in r["slices_planes_after"].items():
            found.append({"kind": "plane", "plane": name, **plane, **same})
    return found


def of_kind(rows: Sequence[Row], kind: str, **wanted: Any) -> list[Row]:
    """Return the rows of a kind with given entries, the largest ratio first."""
    found = [r for r in rows if r["kind"] == kind]
    found = [r for r in found if all(r[name] == value for name, value in wanted.items())]
    return sorted(found, key=lambda r: (r["seed"], -r["ratio"]))


def rise(row: Row, share: float = 1.0, *, predicted: bool = False) -> float:
    """Return how far a line rises above its centre, the mean of both sides.

        (L(a) + L(-a)) / 2 - L(0),   a = share of the span; a' H a / 2 on a quadratic

    Args:
        row: of a line.
        share: of the span, rounded to a point of the line.
        predicted: the quadratic prediction's instead of the loss's.
    """
    values = row["prediction"] if predicted else row["losses"]
    half = len(values) // 2
    step = max(1, round(share * half))
    return float((values[half + step] + values[half - step]) / 2 - values[half])


def check(records: Sequence[Record]) -> list[Finding]:
    """Compare the slices with what curvature, masks and training should make of them."""
    rows = rows_of(records)
    findings = [_flatter(rows, when) for when in ENDS]
    findings += [_steepest(rows), _quadratic(rows), _plane(rows), _descends(rows)]
    return [*findings, _curvature(rows), _resolved(rows)]


def _flatter(rows: Sequence[Row], when: str) -> Finding:
    text = f"{when} training, at one displacement a smaller ratio rises less along its eigenvector"
    lines = of_kind(rows, "line", when=when, line="eigenvector")
    rises = [rise(r) for r in lines]
    pairs = [settle(a > b) for (r, a), (s, b) in pairwise(zip(lines, rises, strict=True))
             if r["seed"] == s["seed"]]  # fmt: skip
    evidence = f"rise at {lines[0]['axes'][0][-1]:.3g}: " + ", ".join(
        f"{value:.3g} at {r['ratio']:g}" for r, value in zip(lines, rises, strict=True)
    )
    return Finding(text, every(pairs), evidence)


def _steepest(rows: Sequence[Row]) -> Finding:
    text = "the loss rises more along the top eigenvector than along a random direction"
    parts, holds = [], []
    for r in of_kind(rows, "line", line="eigenvector"):
        same = {"ratio": r["ratio"], "seed": r["seed"], "when": r["when"]}
        (other,) = of_kind(rows, "line", line="random", **same)
        parts.append(f"{rise(r):.2g} and {rise(other):.1g} {r['when']} at {r['ratio']:g}")
        holds.append(settle(rise(r) > abs(rise(other))))
    return Finding(text, every(holds), "rises: " + "; ".join(parts))


def _quadratic(rows: Sequence[Row]) -> Finding:
    text = f"along the top eigenvector the quadratic is right within {GOOD:.0%} up to half the span"
    parts, holds = [], []
    for r in of_kind(rows, "line", line="eigenvector"):
        half, edge = (f"{rise(r, s, predicted=True):.2g} / {rise(r, s):.2g}" for s in (0.5, 1.0))
        parts.append(f"{half} and {edge} {r['when']} at {r['ratio']:g}")
        measured = rise(r, 0.5)
        missed = abs(rise(r, 0.5, predicted=True) - measured)
        holds.append(settle(missed <= GOOD * abs(measured)))
    evidence = "predicted / measured rise at half the span and at its end: " + "; ".join(parts)
    return Finding(text, every(holds), evidence)


def _plane(rows: Sequence[Row]) -> Finding:
    text = "two principal directions hold at least 90 % of the training path"
    trained = of_kind(rows, "train")
    shares = [sum(r["explained"]) for r in trained]
    evidence = ", ".join(
        f"{share:.1%} at {r['ratio']:g}" for r, share in zip(trained, shares, strict=True)
    )
    return Finding(text, every(settle(share >= 0.9) for share in shares), evidence)


def _descends(rows: Sequence[Row]) -> Finding:
    text = "the trained point has a lower loss than the pretrained one on the sliced examples"
    parts, holds = [], []
    for r in of_kind(rows, "top", when="before"):
        (after,) = of_kind(rows, "top", when="after", ratio=r["ratio"], seed=r["seed"])
        parts.append(f"{r['loss']:.3g} to {after['loss']:.3g} at {r['ratio']:g}")
        holds.append(settle(after["loss"] < r["loss"]))
    return Finding(text, every(holds), "; ".join(parts))


def _curvature(rows: Sequence[Row]) -> Finding:
    text = "the curvature of every line along an eigenvector is the eigenvalue, within 1 %"
    gaps = []
    for r in of_kind(rows, "line", line="eigenvector"):
        (top,) = of_kind(rows, "top", when=r["when"], ratio=r["ratio"], seed=r["seed"])
        gaps.append(abs(r["curvature"][0][0] / top["eigenvalues"][0] - 1))
    evidence = f"largest relative difference {max(gaps):.1g}, n={len(gaps)}"
    return Finding(text, settle(max(gaps) <= 0.01), evidence)


def _resolved(rows: Sequence[Row]) -> Finding:
    tops = of_kind(rows, "top")
    met = sum(r["converged"] for r in tops)
    worst = max(res / abs(v) for r in tops
                for v, res in zip(r["eigenvalues"], r["residuals"], strict=True))  # fmt: skip
    evidence = f"{met} of {len(tops)}; largest relative residual {worst:.2g}"
    text = "every pair of eigenvectors met its tolerance"
    return Finding(text, settle(met == len(tops)), evidence)


def table(records: Sequence[Record]) -> list[dict[str, str]]:
    """Summarise one line a ratio and end of training."""
    rows, lines = rows_of(records), []
    for r in of_kind(rows, "top"):
        same = {"ratio": r["ratio"], "seed": r["seed"]}
        (trained,) = of_kind(rows, "train", **same)
        vector, random = (
            of_kind(rows, "line", when=r["when"], line=line, **same)[0]
            for line in ("eigenvector", "random")
        )
        values = zip(r["eigenvalues"], r["residuals"], strict=True)
        lines.append({
            "ratio": f"{r['ratio']:g}", "training": r["when"], "trainable": f"{trained['count']:,}",
            "distance": "0" if r["when"] == "before" else f"{trained['distance']:.3g}",
            "loss": f"{r['loss']:.3g}",
            "top eigenvalues": ", ".join(f"{v:.3g} ± {e:.1g}" for v, e in values),
            "at displacement": f"{vector['axes'][0][-1]:.3g}",
            "rise along the eigenvector": f"{rise(vector):.3g}",
            "rise by the quadratic": f"{rise(vector, predicted=True):.3g}",
            "rise along a random direction": f"{rise(random):.1g}",
        })  # fmt: skip
    return lines
