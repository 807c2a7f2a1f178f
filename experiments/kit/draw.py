"""What figures of artefacts are made of: one canvas, axes over decades, guides, a legend, SVG.

The libraries that draw take seconds to import: each function does so when it is called.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any, Literal

from landscape.figures.style import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Color = tuple[float, float, float]
#: the label of an axis over ratios
RATIO = "ratio (trainable / all parameters)"


def colors(count: int = 10) -> list[Color]:
    """Return colours that colour-blind readers can tell apart: blue, orange, green and so on."""
    from matplotlib.colors import to_rgb

    return [to_rgb(COLORS[place % len(COLORS)]) for place in range(count)]


def panels(size: tuple[float, float], columns: int = 1, rows: int = 1) -> tuple[Figure, Any]:
    """Return a figure and its axes, as `landscape.figures.canvas.canvas` does."""
    from landscape.figures.canvas import canvas

    return canvas(size, columns, rows)


def title(axis: Axes, text: str) -> None:
    """Write a panel's title."""
    axis.set_title(text)


def guide(
    axis: Axes, x: Sequence[float], y: Sequence[float], power: float, label: str = ""
) -> None:
    """Draw a power law, dashed, through the middle point of a curve; its label stands beside it."""
    middle = len(x) // 2
    line = [y[middle] * (at / x[middle]) ** power for at in x]
    axis.plot(x, line, "--", color="0.5", lw=1.2, zorder=0)
    if label:  # beside the higher end, where the line itself is below it
        rises = line[-1] > line[0]
        end, away, side = (-1, -7, "right") if rises else (0, 7, "left")
        axis.annotate(
            label, (x[end], line[end]), (away, 0), textcoords="offset points", ha=side,
            va="center", color="0.4", fontsize=9,
        )  # fmt: skip


def decades(axis: Axis) -> None:
    """Make an axis logarithmic, and write plain numbers beside it where it spans few decades."""
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_data_interval()
    if high <= 1.001 * low:  # one value has no decades
        return
    axis._set_axes_scale("log")  # type: ignore[attr-defined]
    if low > 0 and high / low < 100:
        subs = (1, 1.5, 2, 3, 5, 7) if high / low < 5 else (1, 2, 5) if high / low < 20 else (1, 3)
        axis.set_major_locator(LogLocator(subs=subs))
        many = EngFormatter(sep="")  # 500k, 1M
        axis.set_major_formatter(FuncFormatter(lambda x, _: many(x) if x >= 1e4 else f"{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def make_room(axis: Axes, ends: Sequence[float], along: Literal["x", "y"] = "x") -> None:
    """Widen a panel for the ends of intervals, by half its width at most on either side."""
    across = along == "x"
    scale, limits = (
        (axis.get_xscale(), axis.get_xlim()) if across else (axis.get_yscale(), axis.get_ylim())
    )
    to, back = (math.log, math.exp) if scale == "log" else (float, float)
    low, high = map(to, limits)
    wide, least = high - low, 0.0 if to is math.log else -math.inf
    there = [to(end) for end in ends if math.isfinite(end) and end > least]
    before = low - min(there, default=low) + 0.03 * wide
    after = max(there, default=high) - high + 0.03 * wide
    before, after = (min(max(room, 0.0), wide / 2) for room in (before, after))
    (axis.set_xlim if across else axis.set_ylim)(back(low - before), back(high + after))


def entries(axes: Sequence[Axes]) -> dict[str, Any]:
    """Return label -> handle of all panels, every label once."""
    named: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    return named


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Write one legend below all panels, every label once."""
    if named := entries(axes):
        figure.legend(
            list(named.values()), list(named), loc="outside lower center", frameon=False,
            ncols=min(len(named), 6, _fitting(figure.get_figwidth(), named)), fontsize=10,
        )  # fmt: skip


def own_legend(axis: Axes, width: float) -> None:
    """Write a panel's legend below it; the panel's width is in inches."""
    if named := entries([axis]):
        axis.legend(
            list(named.values()), list(named), loc="upper center", bbox_to_anchor=(0.5, 0.0),
            borderaxespad=4.5, frameon=False, fontsize=9,
            ncols=min(len(named), _fitting(width * 10 / 9, named)),
        )  # fmt: skip


def tell_apart(axes: Sequence[Axes]) -> bool:
    """Tell whether several panels have labels, and no two of them one in common."""
    labelled = [set(named) for axis in axes if (named := entries([axis]))]
    return len(labelled) > 1 and sum(map(len, labelled)) == len(set().union(*labelled))


def swatch(label: str, handle: Any) -> str:
    """Return one entry of a legend, as SVG."""
    from landscape.figures.canvas import blank

    figure = blank((6.0, 0.4))
    figure.set_layout_engine("none")  # which would move it after it is measured
    figure.legend([handle], [label], loc="upper left", borderpad=0.1, borderaxespad=0.0)
    return svg(figure, tight=True)


def svg(figure: Figure, *, tight: bool = False) -> str:
    """Return a figure as SVG without a date: the same figure gives the same text.

    Args:
        figure: of `panels`.
        tight: whether to cut what is empty around it.
    """
    held = StringIO()
    cut: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.02} if tight else {}
    figure.savefig(held, format="svg", metadata={"Date": None}, **cut)
    text = held.getvalue()
    return text[text.index("<svg") :]


def _fitting(width: float, labels: Mapping[str, Any]) -> int:
    """Return how many columns of a legend fit in a width: inches a letter, and a handle."""
    return max(1, int(width / (0.075 * max(map(len, labels)) + 0.7)))
