"""Pictures of surfaces: a line with its quadratic prediction, or a contour."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from landscape.errors import UserError
from landscape.surface.scan import Surface


def plot_surface(
    surface: Surface,
    path: str | Path,
    *,
    labels: tuple[str, str] = ("displacement 1", "displacement 2"),
    title: str = "",
) -> Path:
    """Draw a surface into a file: a curve for one direction, filled contours for two.

    Cells that are not finite stay empty. The axes are Euclidean norms of the displacement; the
    quadratic prediction, where the surface has one, is dashed. The colours are equidistant in
    rank, not in loss, so that a steep wall does not hide the valley.

    Args:
        surface: of `surface_1d` or `surface_2d`.
        path: the file; its suffix (.png, .pdf, .svg) is the format.
        labels: of the two axes.
        title: above the picture.

    Returns:
        The path.

    Raises:
        UserError: no cell is finite, or the suffix is no format.
    """
    from matplotlib.figure import Figure

    target = Path(path)
    losses = np.ma.masked_invalid(surface.losses.numpy())
    if losses.count() == 0:
        raise UserError("expected a finite loss somewhere, got none; take a smaller span")
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    if target.suffix[1:] not in figure.canvas.get_supported_filetypes():
        raise UserError(f"expected a file such as surface.png or .pdf, got {target.name}")
    axes = figure.subplots()
    x = surface.axes[0].numpy()
    guess = None if surface.prediction is None else surface.prediction.numpy()
    if losses.ndim == 1:
        axes.plot(x, losses, marker=".", label="loss")
        if guess is not None:
            axes.plot(x, guess, linestyle="--", label="quadratic prediction")
            axes.legend()
        axes.set_ylim(*_limits(losses))
        axes.set_ylabel("loss")
    else:
        y = surface.axes[1].numpy()
        levels = np.unique(np.quantile(losses.compressed(), np.linspace(0, 1, 16)))
        if len(levels) < 2:
            levels = levels[0] + np.array([-0.5, 0.5])
        filled = axes.contourf(x, y, losses.T, levels=levels, cmap="viridis")
        figure.colorbar(filled, ax=axes, label="loss")
        if guess is not None:
            axes.contour(x, y, guess.T, levels=levels, colors="white", linestyles="dashed",
                         linewidths=0.6)  # fmt: skip
        axes.plot(0, 0, marker="+", color="red")
        axes.set_ylabel(labels[1])
    axes.set_xlabel(labels[0])
    axes.set_title(title)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=150)
    return target


def _limits(losses: np.ma.MaskedArray) -> tuple[float, float]:
    low, high = float(losses.min()), float(losses.max())
    room = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - room, high + room
