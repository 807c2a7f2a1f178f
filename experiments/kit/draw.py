"""How figures of artefacts look: one style, one canvas, and what several of them draw.

The libraries that draw take seconds to import: each function does so when it is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import TYPE_CHECKING, Any

from experiments.kit.store import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Color = tuple[float, float, float]
#: the label of an axis over ratios
RATIO = "ratio (trainable / all parameters)"


@contextmanager
def look() -> Iterator[None]:
    """Draw and save in the artefacts' style; outside, matplotlib's settings stay as they were."""
    import matplotlib
    import seaborn as sns
    from matplotlib.rcsetup import cycler

    cycle = cycler("color", colors())
    style = sns.axes_style("ticks") | {"font.family": ["sans-serif"], "axes.prop_cycle": cycle}
    with matplotlib.rc_context(sns.plotting_context("notebook") | style):
        yield


def colors(count: int = 10) -> list[Color]:
    """Return colours that colour-blind readers can tell apart: blue, orange, green and so on."""
    import seaborn as sns

    return list(sns.color_palette("colorblind", count))


def panels(size: tuple[float, float], columns: int = 1, rows: int = 1) -> tuple[Figure, Any]:
    """Return a figure and its axes, as `landscape.figures.canvas.canvas` does."""
    from landscape.figures.canvas import canvas

    return canvas(size, columns, rows)


def stacked(size: tuple[float, float], parts: int) -> tuple[Figure, Any]:
    """Return a figure and the parts below each other that it consists of, each without axes."""
    from landscape.figures.canvas import blank

    figure = blank(size)
    return figure, figure.subfigures(parts, 1)


def despine(*axes: Axes) -> None:
    """Take the upper and right spines of axes away."""
    import seaborn as sns

    for axis in axes:
        sns.despine(ax=axis)


def title(axis: Axes, text: str) -> None:
    """Write a panel's title."""
    axis.set_title(text, loc="left", fontsize=12, fontweight="bold")


def over_ratio(axis: Axes, label: str, text: str) -> None:
    """Finish a panel over the ratio: its scale, labels, title and legend."""
    axis.set(xscale="log", xlabel=RATIO, ylabel=label)
    title(axis, text)
    axis.legend(frameon=False, fontsize=9)


def means(rows: Sequence[Row], value: str, by: str = "ratio") -> tuple[list[float], list[float]]:
    """Return the values of a coordinate in ascending order, and the mean of the rows at each."""
    places = sorted({row[by] for row in rows})
    return places, [fmean(r[value] for r in rows if r[by] == place) for place in places]


def curve(axis: Axes, rows: Sequence[Row], value: str, color: Color, label: str) -> None:
    """Draw the means of a value over the ratio, and every row as a dot."""
    axis.plot(*means(rows, value), "o-", color=color, label=label)
    axis.plot([r["ratio"] for r in rows], [r[value] for r in rows], ".", color=color, alpha=0.5)


def guide(
    axis: Axes, x: Sequence[float], y: Sequence[float], power: float, label: str | None = None
) -> None:
    """Draw a power law, dashed, through the middle point of a curve."""
    middle = len(x) // 2
    line = [y[middle] * (at / x[middle]) ** power for at in x]
    axis.plot(x, line, "--", color="0.5", lw=1.2, label=label, zorder=0)
