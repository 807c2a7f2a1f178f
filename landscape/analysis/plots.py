"""Figures of analyses: a heat map layer by module, curves against one column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from landscape.analysis.allocations import Row, allocation
from landscape.errors import UserError
from landscape.figures.canvas import canvas, save
from landscape.masks import Mask


def plot_allocation(mask: Mask, path: str | Path, *, title: str = "") -> Path:
    """Draw the density of a mask, module by module down and layer by layer across.

    Args:
        mask: the mask; tensors outside numbered layers are left out.
        path: the file; its suffix is the format.
        title: above the axes.

    Returns:
        The path.

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
    figure, axes = canvas((2.6 + 0.32 * len(layers), 1.4 + 0.34 * len(modules)))
    image = axes.imshow(np.ma.masked_invalid(grid), aspect="auto", cmap="viridis", vmin=0)
    axes.set_xticks(range(len(layers)), [str(layer) for layer in layers], fontsize=8)
    axes.set_yticks(range(len(modules)), modules, fontsize=8)
    axes.set_xlabel("layer")
    axes.set_title(title, loc="left", fontsize=11)
    figure.colorbar(image, ax=axes, label="density")
    return save(figure, path, dpi=150)


def plot_curves(
    curves: Mapping[str, Sequence[Row]],
    path: str | Path,
    *,
    x: str = "step",
    y: Sequence[str] = ("sparsity", "entropy"),
) -> Path:
    """Draw columns of rows against one column, a panel a column and a line a curve.

    Args:
        curves: label -> rows, such as those of `MaskProbe` or `score_against_updated`.
        path: the file; its suffix is the format.
        x: the column across.
        y: the columns up.

    Returns:
        The path.

    Raises:
        UserError: no curve has a row.

    Source: Agarwal et al. 2024, figures 5, 6, 8 and 9.
    """
    if not any(curves.values()):
        raise UserError("expected rows to draw, got none; give the rows of a probe or of a run")
    figure, axes = canvas((4.4 * len(y), 3.4), len(y))
    for axis, column in zip(np.atleast_1d(axes), y, strict=True):
        for label, rows in curves.items():
            axis.plot([row[x] for row in rows], [row[column] for row in rows], ".-", label=label)
        axis.set(xlabel=x, ylabel=column)
        axis.legend(frameon=False, fontsize=9)
    return save(figure, path, dpi=150)
