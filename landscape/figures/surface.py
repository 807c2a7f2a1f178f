"""Figures of surfaces: a curve, contours or a relief on paper, or a page to rotate and read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from torch import Tensor

from landscape.errors import UserError
from landscape.figures.canvas import axes_for, saved
from landscape.figures.losses import drawable, levels, lowest, written
from landscape.figures.page import surface_page
from landscape.figures.style import BLUE, MARK, ORANGE, RED, look
from landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes

View: TypeAlias = Literal["contour", "3d"]
_LEVELS = 16


def plot_surface(
    surface: Surface,
    path: str | Path | None = None,
    *,
    ax: Axes | None = None,
    view: View = "contour",
    labels: tuple[str, str] = ("displacement 1", "displacement 2"),
    title: str = "",
    trajectory: Tensor | None = None,
) -> Axes:
    """Draw a surface: a curve for one axis, contours or a relief for two.

    The axes are Euclidean norms of the displacement from the model, which is marked by a cross,
    the lowest cell by a ring. Cells that are not finite are hatched, or missing from a relief.
    The colours are equidistant in rank, not in loss, so that a steep wall does not hide the
    valley. The quadratic prediction, where the surface has one, is dashed.

    Args:
        surface: of `surface_1d`, `surface_2d` or `interpolate`.
        path: a file to write; its suffix is the format: .png, .pdf, .svg, or .html for the page
            of `surface_page`.
        ax: axes to draw on, in three dimensions for the view 3d; by default those of a new
            figure, which a notebook shows.
        view: contours or a relief, of two axes.
        labels: of the axes.
        title: above the axes.
        trajectory: of `Trajectory.coordinates`, drawn over the contours, shape (points, 2).

    Returns:
        The axes.

    Raises:
        UserError: no cell is finite, the suffix is no format, the view is unknown, the axes are
            not of this view, or the trajectory has another shape.
    """
    losses = drawable(surface, trajectory)
    if view not in get_args(View):
        raise UserError(f"expected the view contour or 3d, got {view!r}; choose one")
    relief = losses.ndim == 2 and view == "3d"
    way = None if trajectory is None else trajectory.numpy()
    with look():
        (axes,) = axes_for(ax, path, (5.6, 4.8) if losses.ndim == 2 else (5.6, 4.0), relief=relief)
        if losses.ndim == 1:
            _curve(axes, surface, losses)
        elif relief:
            _relief(axes, surface, losses, way)
        else:
            _contour(axes, surface, losses, way)
        axes.set_xlabel(f"{labels[0]} (l2)")
        if losses.ndim == 2:
            axes.set_ylabel(f"{labels[1]} (l2)")
        axes.set_title(title)
        below = 0.0 if relief else -0.16
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, below), fontsize=9, ncols=3)
        if path is not None and Path(path).suffix == ".html":
            page = surface_page(surface, labels=labels, title=title, trajectory=trajectory)
            page.save(path)
            return axes
        return saved(axes, path)


def _curve(axes: Any, surface: Surface, losses: np.ma.MaskedArray) -> None:
    x = surface.axes[0].numpy()
    axes.plot(x, losses, ".-", color=BLUE, label="loss")
    if surface.prediction is not None:
        axes.plot(x, surface.prediction.numpy(), "--", color=ORANGE, label="quadratic prediction")
    _mark(axes, (0.0, surface.centre), (x[losses.argmin()], losses.min()))
    half = (x[1] - x[0]) / 2
    for number, at in enumerate(x[np.ma.getmaskarray(losses)]):
        axes.axvspan(at - half, at + half, facecolor="none", edgecolor="0.6", hatch="////",
                     linewidth=0, label="" if number else "not finite")  # fmt: skip
    low, high = float(losses.min()), float(losses.max())
    room = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    axes.set_ylim(low - room, high + room)
    axes.set_ylabel("loss")
    axes.grid(alpha=0.25)


def _contour(axes: Any, surface: Surface, losses: np.ma.MaskedArray, way: Any | None) -> None:
    from matplotlib.patches import Rectangle

    x, y = (axis.numpy() for axis in surface.axes)
    steps, norm = _colours(losses)
    filled = axes.contourf(x, y, losses.T, levels=steps, norm=norm, cmap="viridis")
    axes.contour(x, y, losses.T, levels=steps, colors="white", linewidths=0.3, alpha=0.6)
    bar = axes.figure.colorbar(filled, ax=axes, label="loss", spacing="uniform")
    ticks = dict(zip(written(bar.get_ticks()), bar.get_ticks(), strict=True))  # levels once each
    bar.set_ticks([*ticks.values()], labels=[*ticks])
    bar.ax.tick_params(labelsize=9)
    if surface.prediction is not None:
        axes.contour(x, y, surface.prediction.numpy().T, levels=steps, colors="black",
                     linestyles="dashed", linewidths=0.6)  # fmt: skip
        axes.plot([], [], "--", color="black", linewidth=0.8, label="quadratic prediction")
    if np.ma.getmaskarray(losses).any():  # seen where no contour covers it
        axes.add_patch(Rectangle((x[0], y[0]), x[-1] - x[0], y[-1] - y[0], zorder=0,
                                 facecolor="0.92", edgecolor="0.6", hatch="////", linewidth=0,
                                 label="not finite"))  # fmt: skip
    if way is not None:
        axes.plot(*way.T, ".-", color=RED, markersize=4, linewidth=1.4, label="training")
        axes.plot(*way[0], "s", color=RED, markersize=6, label="start")
    i, j = lowest(losses)
    _mark(axes, (0.0, 0.0), (x[i], y[j]))
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))


def _relief(axes: Any, surface: Surface, losses: np.ma.MaskedArray, way: Any | None) -> None:
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    x, y = (axis.numpy() for axis in surface.axes)
    steps, norm = _colours(losses)
    low, high = float(losses.min()), float(losses.max())
    floor = low - 0.3 * ((high - low) or 1.0)
    colours = colormaps["viridis"](norm(losses))
    axes.plot_surface(*np.meshgrid(x, y, indexing="ij"), losses.filled(np.nan), shade=False,
                      facecolors=colours, rcount=len(x), ccount=len(y), linewidth=0.15,
                      edgecolor=(1, 1, 1, 0.35))  # fmt: skip
    axes.contour(x, y, losses.T, levels=steps, norm=norm, cmap="viridis", offset=floor,
                 linewidths=0.8)  # fmt: skip
    if way is not None:
        axes.plot(*way.T, floor, color=RED, linewidth=1.4, label="training")
    axes.plot([0], [0], [floor], "+", color=MARK, markersize=10, markeredgewidth=1.8, label="model")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_zticks([t for t in axes.get_zticks() if low <= t <= high])
    axes.set_zlim(floor, high)
    axes.set_zlabel("loss", labelpad=2)
    axes.tick_params(labelsize=9, pad=0)
    axes.view_init(elev=28, azim=-55)
    axes.set_box_aspect(None, zoom=0.86)


def _colours(losses: np.ma.MaskedArray) -> tuple[np.ndarray, Any]:
    """Return levels equidistant in rank, and the colours that belong to them."""
    from matplotlib.colors import BoundaryNorm

    steps = levels(losses, _LEVELS)
    return steps, BoundaryNorm(steps, 256)


def _mark(axes: Any, model: tuple[float, float], lowest: tuple[float, float]) -> None:
    """Mark the model and the lowest cell, whole also where they lie on the frame."""
    axes.plot(*model, "+", color=MARK, markersize=11, markeredgewidth=1.8, label="model",
              clip_on=False)  # fmt: skip
    axes.plot(*lowest, "o", markerfacecolor="none", markeredgecolor=MARK, markersize=9,
              markeredgewidth=1.5, label="lowest cell", clip_on=False)  # fmt: skip
