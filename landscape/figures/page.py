"""A page on which a surface can be turned and read: one file, no network."""

from __future__ import annotations

import base64
import gzip
import html
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from torch import Tensor

from landscape.figures.interactive import figures
from landscape.folders import write_whole
from landscape.shown import counted
from landscape.surface import Surface


@dataclass(frozen=True, repr=False)
class Page:
    """Hold a page that stands alone; a notebook shows it where it is a cell's last value."""

    title: str
    html: str

    def save(self, path: str | Path) -> Path:
        """Write the page whole or not at all; return the path."""
        write_whole(path, lambda to: to.write_text(self.html, encoding="utf-8"))
        return Path(path)

    def _repr_html_(self) -> str:
        """Return the page in a frame of its own, so that a notebook's style and it stay apart."""
        return (
            f'<iframe title="{html.escape(self.title)}" srcdoc="{html.escape(self.html)}" '
            'style="width: 100%; height: 640px; border: 0"></iframe>'
        )

    def __repr__(self) -> str:
        return f"page {self.title!r}, {len(self.html) / 1e6:.1f} MB"


def surface_page(
    surface: Surface,
    *,
    labels: tuple[str, str] = ("displacement 1", "displacement 2"),
    title: str = "",
    trajectory: Tensor | None = None,
) -> Page:
    """Make a page on which a surface turns and the value of every cell can be read.

    It is one file of some 2 MB that asks no network: plotly is in it, compressed. Of two axes it
    has a relief, whose height may be logarithmic, beside a map; of one, a curve. The colours are
    equidistant in rank, not in loss. On a phone a swipe scrolls over the figures; a button gives
    the relief to the finger.

    Args:
        surface: of `surface_1d`, `surface_2d` or `interpolate`.
        labels: of the axes.
        title: of the page.
        trajectory: of `Trajectory.coordinates`, drawn over both, shape (points, 2).

    Returns:
        The page: `save` writes it, a notebook shows it.

    Raises:
        UserError: no cell is finite, or the trajectory has another shape.
    """
    title = title or "Loss surface"
    safe = html.escape(labels[0]), html.escape(labels[1])  # plotly reads some HTML in texts
    data = {"title": title, "about": _about(surface), "figures": figures(surface, safe, trajectory)}
    text = json.dumps(data, allow_nan=False)
    for sign in "<>&\u2028\u2029":  # nothing in a script element may end it
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    page = files("landscape.figures").joinpath("page.html").read_text(encoding="utf-8")
    for name, value in (
        ("__TITLE__", html.escape(title)), ("__PLOTLY__", _plotly()), ("__DATA__", text),
    ):  # fmt: skip
        page = page.replace(name, value, 1)
    return Page(title, page)


def _about(surface: Surface) -> str:
    finite = surface.losses[surface.losses.isfinite()]
    missing = surface.losses.numel() - len(finite)
    words = (
        "Axes: Euclidean displacement of the trainable numbers. "
        f"Loss from {float(finite.min()):.4g} (ring) to {float(finite.max()):.4g}; "
        f"the model (cross) {surface.centre:.4g}."
    )
    if missing:
        words += f" Not finite: {counted(missing, 'cell')}."
    return words + (" Colours by rank." if surface.losses.ndim == 2 else "")


@cache
def _plotly() -> str:
    """Return plotly's script, compressed and in base64: 2 MB of 5."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()
