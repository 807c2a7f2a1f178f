"""The canvas of every figure: its axes, and a file written by its suffix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.errors import UserError
from landscape.figures.style import look
from landscape.folders import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def blank(size: tuple[float, float]) -> Figure:
    """Return a figure of a width and height in inches, without axes, window or pyplot's state."""
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


def axes_for(
    given: Axes | None,
    path: str | Path | None,
    size: tuple[float, float],
    *,
    columns: int = 1,
    relief: bool = False,
) -> list[Axes]:
    """Return the axes to draw on, one a column: a caller's own, or those of a new figure.

    A figure for a file is nobody else's; one without a file is pyplot's, so that a notebook shows
    it when the cell ends.

    Args:
        given: a caller's, for one column.
        path: a file that will be written, if any.
        size: width and height of a new figure in inches.
        columns: panels side by side.
        relief: axes in three dimensions.

    Raises:
        UserError: a caller's axes are flat and a relief is not, or the other way round.
    """
    if given is not None:
        if (given.name == "3d") != relief:
            wanted, got = ("3d", "flat") if relief else ("flat", "3d")
            raise UserError(
                f"expected {wanted} axes for this view, got {got} ones; make them with "
                f'subplots(subplot_kw={{"projection": "3d"}}) for the view 3d alone'
            )
        return [given]
    if path is not None:
        figure = blank(size)
    else:
        from matplotlib import pyplot

        figure = pyplot.figure(figsize=size, layout="constrained")
    panel = {"projection": "3d"} if relief else None
    return list(figure.subplots(1, columns, squeeze=False, subplot_kw=panel)[0])


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
    """Write a figure whole or not at all; the suffix is the format, and there is no date in it.

    Args:
        figure: of `canvas`, or of any axes.
        path: the file; its folder is made.
        dpi: dots per inch of formats that are made of dots.

    Returns:
        The path.

    Raises:
        UserError: the suffix is no format.
    """
    check_format(path)
    kind = Path(path).suffix[1:]
    dated = {"svg": "Date", "pdf": "CreationDate"}.get(kind)
    metadata = {dated: None} if dated else None
    with look():
        write_whole(path, lambda to: figure.savefig(to, dpi=dpi, format=kind, metadata=metadata))
    return Path(path)


def saved(axes: Axes, path: str | Path | None) -> Axes:
    """Write the figure of axes where a path is given; return the axes."""
    if path is not None:
        save(axes.figure.figure, path)
    return axes
