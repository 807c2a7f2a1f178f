"""Judge and draw the rows of `surfaces`: planes and lines at one scale, beside their quadratics."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from experiments.kit.draw import colors, despine, stacked, title
from experiments.kit.judge import Finding, every, settle
from experiments.kit.measure import ENDS
from experiments.kit.publish import Page
from experiments.kit.store import Row

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.contour import QuadContourSet
    from matplotlib.figure import Figure, SubFigure

#: a quadratic prediction is good where it misses the rise by less than this share of it
GOOD = 0.25


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


def check(rows: Sequence[Row]) -> list[Finding]:
    """Compare the slices with what curvature, masks and training should make of them."""
    findings = [_flatter(rows, when) for when in ENDS]
    findings += [_steepest(rows), _quadratic(rows), _plane(rows), _descends(rows)]
    return [*findings, _curvature(rows), _certified(rows)]


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


def _certified(rows: Sequence[Row]) -> Finding:
    tops = of_kind(rows, "top")
    met = sum(r["converged"] for r in tops)
    worst = max(res / abs(v) for r in tops
                for v, res in zip(r["eigenvalues"], r["residuals"], strict=True))  # fmt: skip
    evidence = f"{met} of {len(tops)}; largest relative residual {worst:.2g}"
    text = "every pair of eigenvectors met its tolerance"
    return Finding(text, settle(met == len(tops)), evidence)


def tables(rows: Sequence[Row]) -> dict[str, list[dict[str, str]]]:
    """Summarise one line a ratio and end of training."""
    lines = []
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
            "displacement": f"{vector['axes'][0][-1]:.3g}",
            "rise, eigenvector": f"{rise(vector):.3g}",
            "quadratic": f"{rise(vector, predicted=True):.3g}",
            "rise, random": f"{rise(random):.1g}",
        })  # fmt: skip
    return {"Slices": lines}


PAGE = Page(
    title="Slices of the loss inside a mask",
    lead=(
        "The loss on planes and lines in the space of the trainable weights, at three ratios. "
        "Axes are true displacements: the planes of the two top eigenvectors and all lines "
        "have one scale, so a flatter landscape looks flatter; the planes of the training path "
        "have the path's, which goes from the square to the cross. White dashes are the "
        "quadratic prediction from one gradient and two Hessian-vector products."
    ),
    caption="Planes of the top eigenvectors; planes of the training path, with their share of "
    "its squared length; lines at one scale",
    dpi=150,
)


def draw(rows: Sequence[Row]) -> Figure:
    """Draw the planes of eigenvectors, the planes of the path, and the lines, of one seed."""
    seed = rows[0]["seed"]
    eigen = of_kind(rows, "plane", plane="eigenvectors", seed=seed)
    figure, (top, middle, bottom) = stacked((4.7 * max(3, len(eigen)), 13.2), 3)
    _draw_planes(top, eigen)
    _draw_paths(middle, rows, of_kind(rows, "plane", plane="path", seed=seed))
    axes = bottom.subplots(1, 3, sharey=True)
    kinds = (("before", "eigenvector"), ("after", "eigenvector"), ("after", "random"))
    for axis, (when, line) in zip(axes, kinds, strict=True):
        _draw_lines(axis, of_kind(rows, "line", when=when, line=line, seed=seed))
        title(axis, f"{when.capitalize()} training, {line.replace('random', 'random direction')}")
    axes[0].set_ylabel("loss above the centre")
    axes[0].legend(frameon=False, fontsize=9)
    return figure


def _draw_planes(part: SubFigure, planes: Sequence[Row]) -> None:
    axes = part.subplots(1, len(planes), squeeze=False)[0]
    levels = _levels([r["losses"] for r in planes])
    for axis, row in zip(axes, planes, strict=True):
        filled = _contour(axis, row, levels)
        axis.set(xlabel="along eigenvector 1", ylabel="along eigenvector 2")
        title(axis, f"Ratio {row['ratio']:g}, top eigenvectors")
    _bar(part, filled, axes, levels, "loss, one scale")


def _draw_paths(part: SubFigure, rows: Sequence[Row], planes: Sequence[Row]) -> None:
    axes = part.subplots(1, len(planes), squeeze=False)[0]
    for axis, row in zip(axes, planes, strict=True):
        levels = _levels([row["losses"]])
        _bar(part, _contour(axis, row, levels), axis, levels, "loss")
        (trained,) = of_kind(rows, "train", ratio=row["ratio"], seed=row["seed"])
        x, y = zip(*trained["path"], strict=True)
        axis.plot(x, y, "o-", color="white", mec="black", mew=0.6, ms=4, lw=1)
        axis.plot(x[0], y[0], "s", color="white", mec="black", ms=7)
        share = sum(trained["explained"])
        axis.set(xlabel="principal direction 1", ylabel="principal direction 2")
        title(axis, f"Ratio {row['ratio']:g}, path ({share:.0%})")


def _levels(losses: Sequence[Any]) -> np.ndarray:
    """Return levels equidistant in the root of the rise, so that the valley has some too."""
    import numpy as np

    values = np.concatenate([np.ravel(np.array(values, dtype=float)) for values in losses])
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    return low + max(high - low, 1e-6) * np.linspace(0, 1, 15) ** 2


def _contour(axis: Axes, row: Row, levels: np.ndarray) -> QuadContourSet:
    import numpy as np
    from matplotlib.colors import BoundaryNorm

    x, y = (np.array(a) for a in row["axes"])
    losses = np.ma.masked_invalid(np.array(row["losses"], dtype=float)).T
    colors = BoundaryNorm(levels, 256)
    filled = axis.contourf(x, y, losses, levels=levels, norm=colors, cmap="viridis")
    axis.contour(x, y, np.array(row["prediction"]).T, levels=levels, colors="white",
                 linestyles="dashed", linewidths=0.6)  # fmt: skip
    axis.plot(0, 0, marker="+", color="red", ms=9, mew=1.6)
    axis.set_aspect("equal")
    return filled


def _bar(
    part: SubFigure, filled: QuadContourSet, axes: Any, levels: np.ndarray, label: str
) -> None:
    bar = part.colorbar(filled, ax=axes, label=label, ticks=levels[::2], shrink=0.8,
                          pad=0.03, aspect=18)  # fmt: skip
    bar.ax.set_yticklabels([f"{level:.3g}" for level in levels[::2]])


def _draw_lines(axis: Axes, lines: Sequence[Row]) -> None:
    import numpy as np

    for row, color in zip(lines, colors(), strict=False):
        x, losses = np.array(row["axes"][0]), np.array(row["losses"], dtype=float)
        axis.plot(
            x, losses - row["centre"], "o-", ms=3, color=color, label=f"ratio {row['ratio']:g}"
        )
        guess = np.array(row["prediction"]) - row["centre"]
        axis.plot(x, guess, "--", lw=1.1, color=color)
    axis.plot([], [], "--", lw=1.1, color="0.3", label="quadratic prediction")
    axis.set_xlabel("displacement (Euclidean norm)")
    despine(axis)
