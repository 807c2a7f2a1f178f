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


def save(figure: Any, path: str | Path) -> Path:
    """Write a figure; the suffix is the format.

    Raises:
        UserError: the suffix is no format.
    """
    target = Path(path)
    known = figure.canvas.get_supported_filetypes()
    if target.suffix[1:] not in known:
        raise UserError(
            f"expected a file such as surface.png, .pdf, .svg or .html, got {target.name}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=160)
    return target
