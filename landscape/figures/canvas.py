"""What the pictures on paper share: a figure without a window, its colours, its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from landscape.errors import UserError

INK, PATH = "#33415c", "#d1495b"


def canvas(size: tuple[float, float], *, relief: bool = False) -> tuple[Any, Any]:
    """Return a figure of a size in inches and its axes, in three dimensions for a relief."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(subplot_kw={"projection": "3d"} if relief else None)


def check_format(path: str | Path) -> None:
    """Refuse a file that no figure can be written to.

    Raises:
        UserError: the suffix is no format.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    if Path(path).suffix[1:] not in FigureCanvasBase.get_supported_filetypes():
        raise UserError(
            "expected a file such as picture.png, .pdf or .svg, for surfaces also .html, got "
            f"{Path(path).name}; rename it"
        )


def save(figure: Any, path: str | Path) -> Path:
    """Write a figure; the suffix is the format.

    Raises:
        UserError: the suffix is no format.
    """
    check_format(path)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=160)
    return target
