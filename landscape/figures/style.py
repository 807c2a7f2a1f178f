"""The one style of all figures: colours, and matplotlib's settings while they are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: colours that colour-blind readers can tell apart (seaborn's palette "colorblind")
BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY, YELLOW, SKY = (
    "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc",
    "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9",
)  # fmt: skip
COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, PINK, GREY, YELLOW, SKY)
#: a mark on a filled surface: the model, the lowest cell
MARK = "#e3000f"

_INK = "0.15"
_SETTINGS: Any = {
    "font.family": ["sans-serif"], "font.sans-serif": ["DejaVu Sans"], "font.size": 11,
    "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _INK,
    "xtick.color": _INK, "ytick.color": _INK, "axes.linewidth": 1.0, "axes.axisbelow": True,
    "axes.labelsize": 11, "xtick.labelsize": 10, "ytick.labelsize": 10,
    "axes.titlesize": 12, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": False,
    "lines.linewidth": 1.5, "lines.markersize": 6, "image.cmap": "viridis",
    "legend.frameon": False, "legend.fontsize": 10, "legend.title_fontsize": 10,
    "figure.facecolor": "white", "axes.facecolor": "white", "svg.hashsalt": "landscape",
}  # fmt: skip


@contextmanager
def look() -> Iterator[None]:
    """Draw and save in the house's style; outside, matplotlib's settings stay as they were.

    A notebook's backend starts with the first figure and says then that it shows figures: that
    stays also where the first figure is drawn here.
    """
    from matplotlib import rc_context, rcParams
    from matplotlib.rcsetup import cycler

    shows = rcParams["interactive"]
    try:
        settings: dict[Any, Any] = {**_SETTINGS, "axes.prop_cycle": cycler("color", COLORS)}
        with rc_context(settings):
            try:
                yield
            finally:
                shows = rcParams["interactive"]
    finally:
        rcParams["interactive"] = shows
