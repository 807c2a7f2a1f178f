"""Figures of surfaces: a curve, a contour or a relief on paper, or a page to rotate and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from torch import Tensor

from landscape.errors import UserError
from landscape.figures.canvas import INK, PATH, canvas, save
from landscape.figures.page import write_page
from landscape.surface import Surface

View: TypeAlias = Literal["contour", "3d"]
_LEVELS = 16


def plot_surface(
    surface: Surface,
    path: str | Path,
    *,
    view: View = "contour",
    labels: tuple[str, str] = ("displacement 1", "displacement 2"),
    title: str = "",
    trajectory: Tensor | None = None,
) -> Path:
    """Draw a surface into a file: a curve for one axis, contours or a relief for two.

    The axes are Euclidean norms of the displacement from the model, which is marked by a cross,
    the lowest cell by a ring. Cells that are not finite are hatched, or missing from a relief.
    The colours are equidistant in rank, not in loss, so that a steep wall does not hide the
    valley. The quadratic prediction, where the surface has one, is dashed.

    Args:
        surface: of `surface_1d`, `surface_2d` or `interpolate`.
        path: the file; its suffix is the format: .png, .pdf, .svg, or .html for a page that needs
            no network, on which a relief rotates and the value of every cell can be read.
        view: contours or a relief; of two axes on paper, a page has both.
        labels: of the axes.
        title: above the axes.
        trajectory: of `Trajectory.coordinates`, drawn over the contours, shape (points, 2).

    Returns:
        The path.

    Raises:
        UserError: no cell is finite, the suffix is no format, the view is unknown, or the
            trajectory has another shape.
    """
    losses = np.ma.masked_invalid(surface.losses.numpy())
    if losses.count() == 0:
        raise UserError("expected a finite loss somewhere, got none; take a smaller span")
    if view not in get_args(View):
        raise UserError(f"expected the view contour or 3d, got {view!r}; choose one")
    if trajectory is not None and trajectory.shape[1:] != (len(surface.axes),):
        raise UserError(
            f"expected a trajectory of shape (points, {len(surface.axes)}), got "
            f"{tuple(trajectory.shape)}; project it on the directions of this surface"
        )
    if Path(path).suffix == ".html":
        return write_page(surface, path, labels=labels, title=title, trajectory=trajectory)
    relief = losses.ndim == 2 and view == "3d"
    figure, axes = canvas((5.6, 4.6) if losses.ndim == 2 else (5.6, 3.8), relief=relief)
    way = None if trajectory is None else trajectory.numpy()
    if losses.ndim == 1:
        _curve(axes, surface, losses)
    elif relief:
        _relief(axes, surface, losses, way)
    else:
        _contour(figure, axes, surface, losses, way)
    axes.set_xlabel(f"{labels[0]} (l2)")
    if losses.ndim == 2:
        axes.set_ylabel(f"{labels[1]} (l2)")
    axes.set_title(title, loc="left", fontsize=11)
    figure.legend(loc="outside lower center", frameon=False, fontsize=8, ncols=5)
    return save(figure, path)


def _curve(axes: Any, surface: Surface, losses: np.ma.MaskedArray) -> None:
    x = surface.axes[0].numpy()
    axes.plot(x, losses, ".-", color=INK, label="loss")
    if surface.prediction is not None:
        axes.plot(x, surface.prediction.numpy(), "--", color=PATH, label="quadratic prediction")
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


def _contour(
    figure: Any, axes: Any, surface: Surface, losses: np.ma.MaskedArray, way: Any | None
) -> None:
    from matplotlib.patches import Rectangle

    x, y = (axis.numpy() for axis in surface.axes)
    levels, norm = _levels(losses)
    filled = axes.contourf(x, y, losses.T, levels=levels, norm=norm, cmap="viridis")
    axes.contour(x, y, losses.T, levels=levels, colors="white", linewidths=0.3, alpha=0.6)
    bar = figure.colorbar(filled, ax=axes, label="loss", format="%.3g", spacing="uniform")
    bar.ax.tick_params(labelsize=8)
    if surface.prediction is not None:
        axes.contour(x, y, surface.prediction.numpy().T, levels=levels, colors="black",
                     linestyles="dashed", linewidths=0.6)  # fmt: skip
        axes.plot([], [], "--", color="black", linewidth=0.8, label="quadratic prediction")
    if np.ma.getmaskarray(losses).any():  # seen where no contour covers it
        axes.add_patch(Rectangle((x[0], y[0]), x[-1] - x[0], y[-1] - y[0], zorder=0,
                                 facecolor="0.92", edgecolor="0.6", hatch="////", linewidth=0,
                                 label="not finite"))  # fmt: skip
    if way is not None:
        axes.plot(*way.T, ".-", color=PATH, markersize=3, linewidth=1.2, label="training")
        axes.plot(*way[0], "s", color=PATH, markersize=5, label="start")
    i, j = np.unravel_index(losses.argmin(), losses.shape)
    _mark(axes, (0.0, 0.0), (x[i], y[j]))
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))


def _relief(axes: Any, surface: Surface, losses: np.ma.MaskedArray, way: Any | None) -> None:
    from matplotlib import colormaps

    x, y = (axis.numpy() for axis in surface.axes)
    levels, norm = _levels(losses)
    low, high = float(losses.min()), float(losses.max())
    floor = low - 0.3 * ((high - low) or 1.0)
    colours = colormaps["viridis"](norm(losses))
    axes.plot_surface(*np.meshgrid(x, y, indexing="ij"), losses.filled(np.nan), shade=False,
                      facecolors=colours, rcount=len(x), ccount=len(y), linewidth=0.15,
                      edgecolor=(1, 1, 1, 0.35))  # fmt: skip
    axes.contour(x, y, losses.T, levels=levels, norm=norm, cmap="viridis", offset=floor,
                 linewidths=0.8)  # fmt: skip
    if way is not None:
        axes.plot(*way.T, floor, color=PATH, linewidth=1.4, label="training")
    axes.plot([0], [0], [floor], "+", color="red", markersize=9, label="model")
    axes.set_zticks([t for t in axes.get_zticks() if low <= t <= high])
    axes.set_zlim(floor, high)
    axes.set_zlabel("loss", labelpad=2)
    axes.tick_params(labelsize=7, pad=0)
    axes.view_init(elev=28, azim=-55)
    axes.set_box_aspect(None, zoom=0.86)


def _levels(losses: np.ma.MaskedArray) -> tuple[np.ndarray, Any]:
    """Return levels equidistant in rank, and the colours that belong to them."""
    from matplotlib.colors import BoundaryNorm

    levels = np.unique(np.quantile(losses.compressed(), np.linspace(0, 1, _LEVELS)))
    if len(levels) < 2:
        levels = levels[0] + np.array([-0.5, 0.5])
    return levels, BoundaryNorm(levels, 256)


def _mark(axes: Any, model: tuple[float, float], lowest: tuple[float, float]) -> None:
    axes.plot(*model, "+", color="red", markersize=10, markeredgewidth=1.6, label="model")
    axes.plot(*lowest, "o", markerfacecolor="none", markeredgecolor="red", markersize=8,
              label="lowest cell")  # fmt: skip
