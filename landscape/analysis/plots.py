"""Figures of analyses: a heat map layer by module, curves against one column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from landscape.analysis.allocations import Row, allocation
from landscape.errors import UserError
from landscape.figures.canvas import axes_for, saved
from landscape.figures.style import look
from landscape.masks import Mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_allocation(
    mask: Mask, path: str | Path | None = None, *, ax: Axes | None = None, title: str = ""
) -> Axes:
    """Draw the density of a mask, module by module down and layer by layer across.

    Args:
        mask: the mask; tensors outside numbered layers are left out.
        path: a file to write; its suffix is the format.
        ax: axes to draw on; by default those of a new figure, which a notebook shows.
        title: above the axes.

    Returns:
        The axes.

    Raises:
        UserError: no target tensor lies in a numbered layer.

    Source: Agarwal et al. 2024, figure 7.
    """
    rows = [row for row in allocation(mask) if row["layer"] is not None]
    if not rows:
        raise UserError(
            "expected target tensors in numbered layers, got none; draw the rows of allocation"
        )
    modules = list(dict.fromkeys(row["module"] for row in rows))
    layers = sorted({row["layer"] for row in rows})
    grid = np.full((len(modules), len(layers)), np.nan)
    for row in rows:
        grid[modules.index(row["module"]), layers.index(row["layer"])] = row["density"]
    with look():
        (axes,) = axes_for(ax, path, (2.6 + 0.32 * len(layers), 1.6 + 0.34 * len(modules)))
        image = axes.imshow(np.ma.masked_invalid(grid), aspect="auto", cmap="viridis", vmin=0)
        axes.set_xticks(range(len(layers)), [str(layer) for layer in layers])
        axes.set_yticks(range(len(modules)), modules)
        axes.set(xlabel="layer", title=title)
        axes.figure.colorbar(image, ax=axes, label="density")
        return saved(axes, path)


def plot_curves(
    curves: Mapping[str, Sequence[Row]],
    path: str | Path | None = None,
    *,
    ax: Axes | Sequence[Axes] | None = None,
    x: str = "step",
    y: Sequence[str] = ("sparsity", "entropy"),
) -> list[Axes]:
    """Draw columns of rows against one column, a panel a column and a line a curve.

    Args:
        curves: label -> rows, such as those of `MaskProbe` or `score_against_updated`.
        path: a file to write; its suffix is the format.
        ax: axes to draw on, one a column; by default those of a new figure, which a notebook shows.
        x: the column across.
        y: the columns up.

    Returns:
        The axes, one a column.

    Raises:
        UserError: no curve has a row, or there are other axes than columns.

    Source: Agarwal et al. 2024, figures 5, 6, 8 and 9.
    """
    if not any(curves.values()):
        raise UserError("expected rows to draw, got none; give the rows of a probe or of a run")
    given = None if ax is None else list(np.atleast_1d(np.asarray(ax, dtype=object)))
    if given is not None and len(given) != len(y):
        raise UserError(
            f"expected axes for each of {len(y)} columns, got {len(given)}; give one a column"
        )
    with look():
        panels = given or axes_for(None, path, (4.4 * len(y), 3.4), columns=len(y))
        for axes, column in zip(panels, y, strict=True):
            for label, rows in curves.items():
                axes.plot([r[x] for r in rows], [r[column] for r in rows], ".-", label=label)
            axes.set(xlabel=x, ylabel=column)
            axes.legend()
        saved(panels[0], path)
    return panels
