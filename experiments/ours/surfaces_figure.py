"""Draw `surfaces`: planes of eigenvectors and of the path, and lines, of one seed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from experiments.kit.draw import colors
from experiments.kit.panels import Panel
from experiments.kit.records import Record
from experiments.ours.surfaces_report import Row, of_kind, rows_of

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.contour import QuadContourSet

LINES = (("before", "eigenvector"), ("after", "eigenvector"), ("after", "random"))


def drawn(records: Sequence[Record]) -> list[Panel]:
    """Draw the planes of eigenvectors, the planes of the path, and the lines, of one seed."""
    rows = rows_of(records)
    seed = rows[0]["seed"]
    eigen = of_kind(rows, "plane", plane="eigenvectors", seed=seed)
    levels = _levels([row["losses"] for row in eigen])
    found = [
        Panel(f"Ratio {row['ratio']:g}, top eigenvectors", partial(_draw_plane, row, levels))
        for row in eigen
    ]
    for row in of_kind(rows, "plane", plane="path", seed=seed):
        (trained,) = of_kind(rows, "train", ratio=row["ratio"], seed=seed)
        name = f"Ratio {row['ratio']:g}, path ({sum(trained['explained']):.0%})"
        found.append(Panel(name, partial(_draw_path, row, trained)))
    for when, line in LINES:
        chosen = of_kind(rows, "line", when=when, line=line, seed=seed)
        name = f"{when.capitalize()} training, {line.replace('random', 'random direction')}"
        found.append(Panel(name, partial(_draw_lines, chosen)))
    return found


def _draw_plane(row: Row, levels: np.ndarray, axis: Axes, *_: Any) -> None:
    _bar(_contour(axis, row, levels), axis, levels, "loss, one scale")
    axis.set(xlabel="along eigenvector 1", ylabel="along eigenvector 2")


def _draw_path(row: Row, trained: Row, axis: Axes, *_: Any) -> None:
    levels = _levels([row["losses"]])
    _bar(_contour(axis, row, levels), axis, levels, "loss")
    x, y = zip(*trained["path"], strict=True)
    axis.plot(x, y, "o-", color="white", mec="black", mew=0.6, ms=4, lw=1, label="training's path")
    axis.plot(x[0], y[0], "s", color="white", mec="black", ms=7, ls="", label="pretrained weights")
    axis.set(xlabel="principal direction 1", ylabel="principal direction 2")


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
    axis.contour(x, y, np.array(row["prediction"]).T, levels=levels[::2], colors="white",
                 linestyles="dashed", linewidths=0.6)  # fmt: skip
    axis.plot(0, 0, marker="+", color="red", ms=9, mew=1.6, ls="", label="trained weights")
    axis.set_aspect("equal")
    return filled


def _bar(filled: QuadContourSet, axis: Axes, levels: np.ndarray, label: str) -> None:
    bar = axis.figure.colorbar(filled, ax=axis, label=label, ticks=levels[::2], shrink=0.8,
                               pad=0.03, aspect=18)  # fmt: skip
    bar.ax.set_yticklabels([f"{level:.3g}" for level in levels[::2]])


def _draw_lines(lines: Sequence[Row], axis: Axes, *_: Any) -> None:
    import numpy as np

    for row, color in zip(lines, colors(), strict=False):
        x, losses = np.array(row["axes"][0]), np.array(row["losses"], dtype=float)
        axis.plot(
            x, losses - row["centre"], "o-", ms=3, color=color, label=f"ratio {row['ratio']:g}"
        )
        guess = np.array(row["prediction"]) - row["centre"]
        axis.plot(x, guess, "--", lw=1.1, color=color)
    axis.plot([], [], "--", lw=1.1, color="0.3", label="quadratic prediction")
    axis.set(xlabel="displacement (Euclidean norm)", ylabel="loss above the centre")
