"""The canvas of every figure: made without a window or pyplot's state, written by its suffix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.errors import UserError
from landscape.folders import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, PATH = "#33415c", "#d1495b"


def blank(size: tuple[float, float]) -> Figure:
    """Return a figure of a width and height in inches, without axes."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def canvas(
    size: tuple[float, float], columns: int = 1, rows: int = 1, *, relief: bool = False
) -> tuple[Figure, Any]:
    """Return a figure and its axes.

    Args:
        size: width and height in inches.
        columns, rows: panels side by side, and below each other.
        relief: axes in three dimensions.

    Returns:
        The figure, and its axes: one, or for several panels an array of them, of shape (columns,)
        in a single row and (rows, columns) otherwise.
    """
    figure = blank(size)
    panel = {"projection": "3d"} if relief else None
    axes = figure.subplots(rows, columns, squeeze=False, subplot_kw=panel)
    return figure, axes if rows > 1 else axes[0] if columns > 1 else axes[0, 0]


def check_format(path: str | Path) -> None:
    """Refuse a file that no figure can be written to.

    Raises:
        UserError: the suffix is no format.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    if Path(path).suffix[1:] not in FigureCanvasBase.get_supported_filetypes():
        raise UserError(
            "expected a file such as figure.png, .pdf or .svg, for surfaces also .html, got "
            f"{Path(path).name}; rename it"
        )


def save(figure: Figure, path: str | Path, *, dpi: int = 160) -> Path:
    """Write a figure whole or not at all; the suffix is the format.

    Args:
        figure: of `canvas`.
        path: the file; its folder is made.
        dpi: dots per inch of formats that are made of dots.

    Returns:
        The path.

    Raises:
        UserError: the suffix is no format.
    """
    check_format(path)
    kind = Path(path).suffix[1:]
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=dpi, format=kind))
    return Path(path)
