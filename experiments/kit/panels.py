"""Panels as values: what is drawn over what, of which records; factories for the usual ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from statistics import fmean
from statistics import geometric_mean as mean_of_logs
from typing import TYPE_CHECKING, Any

from experiments.kit.columns import written
from experiments.kit.draw import (
    RATIO,
    Color,
    colors,
    decades,
    entries,
    guide,
    legend,
    make_room,
    own_legend,
    panels,
    svg,
    swatch,
    tell_apart,
    title,
)
from experiments.kit.records import Record, grouped, matching, named, present
from experiments.kit.statistics import geometric_mean, student

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WIDTH, HEIGHT = 4.5, 3.9
FEW = 4
"""Places of a course that are drawn as points, for a line between them hides how few they are."""
Palette = Mapping[Any, Color]
"""Arm -> colour: an arm has one colour in all panels of a figure."""
Draw = Callable[["Axes", Sequence[Record], Palette], None]
SPREAD = (
    "Small dots: runs; large ones: their mean, geometric on a logarithmic axis; bands and bars, on "
    "the right of dashed lines: 95 % intervals of the mean over seeds (t), cut at the panel's edge."
)
BAND = (
    "Lines: means over seeds, geometric on a logarithmic axis; bands: their 95 % intervals (t), "
    "cut at the panel's edge."
)


@dataclass(frozen=True)
class Panel:
    """Describe one panel.

    In a label of an axis ``{metric}`` stands for what the task's examples are scored by.

    Args:
        title: above it.
        draw: ``draw(axes, records, palette)``.
        where: values of the records that take part.
        note: how it is read, a sentence below the figure.
    """

    title: str
    draw: Draw
    where: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


#: arms that several figures have -> the place of their colour, the same in all of them; none is
#: grey, as guides are
OWN_COLORS = {
    "masks": 0, "random": 0, "full fine-tuning": 1, "full": 1, "LoRA": 2, "columns": 2,
    "before training": 3, "ID3": 3, "BitFit": 4, "adapters": 5, "adapter": 5, "PaFi": 5,
    "AdaLoRA": 6, "Fisher": 6, "prefixes": 9, "gradient": 9,
}  # fmt: skip


@dataclass(frozen=True)
class Drawing:
    """Hold a figure in parts, each SVG: panels by their titles, a legend by its labels.

    Where panels have a legend each, they show it themselves.
    """

    panels: Sequence[tuple[str, str]]
    legend: Mapping[str, str]


def draw(chosen: Sequence[Panel], records: Sequence[Record], columns: int = 3) -> Figure:
    """Draw panels, some a row, above one legend; a panel without a record says so.

    Panels that have no label in common have a legend each.
    """
    columns = min(columns, len(chosen))
    lines = -(-len(chosen) // columns)
    size = (WIDTH * max(columns, 1.5), HEIGHT * lines + 0.5)
    figure, axes = panels(size, columns, lines)
    flat = list(axes.flat) if len(chosen) > 1 else [axes]
    palette = _arms(chosen, records)
    for axis, panel in zip(flat, chosen, strict=False):
        _paint(axis, panel, records, palette)
        title(axis, panel.title)
    for axis in flat[len(chosen) :]:
        axis.set_axis_off()
    if tell_apart(flat):
        for axis in flat:
            own_legend(axis, WIDTH)
    else:
        legend(figure, flat)
    return figure


def draw_parts(chosen: Sequence[Panel], records: Sequence[Record]) -> Drawing:
    """Draw the same panels and legend each on its own, for a page that arranges them."""
    palette, figures, axes = _arms(chosen, records), [], []
    for panel in chosen:
        figure, axis = panels((WIDTH, HEIGHT))
        _paint(axis, panel, records, palette)
        figures.append(figure)
        axes.append(axis)
    key: dict[str, str] = {}
    if tell_apart(axes):
        for axis in axes:
            own_legend(axis, WIDTH)
    else:
        key = {label: swatch(label, handle) for label, handle in entries(axes).items()}
    drawn = [(p.title, svg(figure)) for p, figure in zip(chosen, figures, strict=True)]
    return Drawing(drawn, key)


def _paint(axis: Axes, panel: Panel, records: Sequence[Record], palette: Palette) -> None:
    own = matching(records, panel.where)
    panel.draw(axis, own, palette) if own else _empty(axis)


def _arms(chosen: Sequence[Panel], records: Sequence[Record]) -> Palette:
    """Return a colour for every arm that a panel draws: its own, or the first that is free."""
    drawn = [r for r in records if any(matching([r], panel.where) for panel in chosen)]
    arms = [arm for (arm,) in grouped(drawn, "arm")]
    places: dict[Any, int] = {}
    for arm in arms:
        if arm in OWN_COLORS and OWN_COLORS[arm] not in places.values():
            places[arm] = OWN_COLORS[arm]
    free = (place for place in count() if place not in places.values())
    places |= {arm: next(free) for arm in arms if arm not in places}
    every = colors(1 + max(places.values(), default=0))
    return {arm: every[places[arm]] for arm in arms}


def curve(
    value: str, name: str, label: str, *, x: str = "ratio", log: bool = False,
    law: float | None = None, line: float | None = None, by: str = "arm",
    where: Mapping[str, Any] | None = None, xlabel: str = "",
) -> Panel:  # fmt: skip
    """Draw the mean of a value over a coordinate, each run as a dot, with its interval.

    Runs without that coordinate, such as full fine-tuning over the ratio, are level lines, with
    their intervals on the right. With `log` the value's axis is logarithmic and the mean geometric,
    of magnitudes.

    Args:
        value: of a record.
        name: the panel's title.
        label: of the value's axis.
        x: the coordinate, on a logarithmic axis.
        log: whether the value scatters over decades.
        law: exponent of a power law that is drawn beside the first arm, dashed.
        line: a value at which a line is drawn, such as a threshold.
        by: the coordinate that tells arms apart.
        where: values of the records that take part.
        xlabel: of the other axis, where `x` does not say it.
    """

    def paint(axis: Axes, records: Sequence[Record], palette: Palette) -> None:
        palette, bands, bars = _palette(records, by, palette), [], []
        for number, ((arm,), own) in enumerate(grouped(present(records, value), by).items()):
            over = present(own, x)
            if over:
                band = _curve(axis, over, x, value, palette[arm], written(arm), log)
                bands.append((band, palette[arm]))
            if level := [r for r in own if r.get(x) is None]:
                mean, *ends = _mean(level, value, log)
                axis.axhline(
                    mean, ls="--", lw=1.3, color=palette[arm], label=written(arm), zorder=0
                )
                bars.append((ends, palette[arm]))
            if law is not None and over and not number:
                places = sorted({r[x] for r in over})
                means = [_mean([r for r in over if r[x] == p], value, log)[0] for p in places]
                power = "" if law == 1 else f"$^{{{law:g}}}$"
                guide(axis, places, means, law, f"∝ {x}{power}")
        if line is not None:
            axis.axhline(line, color="0.5", lw=1.2, zorder=0)
        axis.set(
            xscale="log",
            xlabel=xlabel or (RATIO if x == "ratio" else x),
            ylabel=_told(label, records),
        )
        if x != "ratio":
            decades(axis.xaxis)
        if log:
            decades(axis.yaxis)
        axis.autoscale(False)  # a wide interval does not squeeze what it is about
        for band, color in bands:
            axis.fill_between(*band, color=color, alpha=0.13, lw=0)
        _beside(axis, bars)

    return Panel(name, paint, where or {}, SPREAD)


def dots(
    value: str, name: str, label: str, *, log: bool = False, by: str = "arm",
    where: Mapping[str, Any] | None = None,
) -> Panel:  # fmt: skip
    """Draw one line an arm, downwards: the mean, its interval and every run as a dot.

    Args:
        value: of a record.
        name: the panel's title.
        label: of the value's axis.
        log: whether the value scatters over decades; the mean is geometric then.
        by: the coordinate that tells arms apart; numbers are in their order.
        where: values of the records that take part.
    """

    def paint(axis: Axes, records: Sequence[Record], palette: Palette) -> None:
        palette, bars = _palette(records, by, palette), []
        groups = grouped(present(records, value), by)
        if all(isinstance(arm, float | int) for (arm,) in groups):
            groups = dict(sorted(groups.items()))
        for place, ((arm,), own) in enumerate(groups.items()):
            color = palette[arm]
            values = [abs(r[value]) if log else r[value] for r in own]
            mean, low, high = _mean(own, value, log)
            axis.plot(values, [place] * len(own), ".", color=color, alpha=0.5, ms=7)
            axis.plot(mean, place, "o", color=color, ms=8, mec="white")
            bars.append(([low, high], [place, place], color))
        axis.set_yticks(range(len(groups)), [written(arm) for (arm,) in groups])
        axis.set_ylim(max(len(groups), 1) - 0.5, -0.5)  # half a line of room above and below
        axis.set_xlabel(_told(label, records))
        if log:
            decades(axis.xaxis)
        make_room(axis, [end for ends, _, _ in bars for end in ends])
        for ends, places, color in bars:
            axis.plot(ends, places, color=color, lw=2, zorder=1)

    return Panel(name, paint, where or {}, SPREAD)


def course(
    value: str, name: str, label: str, *, log: bool = False, by: str = "arm", smooth: int = 1,
    at: str = "", xlabel: str = "step", where: Mapping[str, Any] | None = None,
) -> Panel:  # fmt: skip
    """Draw a value that a run has at every step, such as ``train_loss``: mean and interval.

    A run that ended before the others, or has no finite value at a step, takes no part there.

    Args:
        value: of a record, a list.
        name: the panel's title.
        label, xlabel: of the value's axis, and of the other.
        log: whether the value's axis is logarithmic; the mean is geometric then, of what is
            positive.
        by: the coordinate that tells arms apart.
        smooth: steps over which the mean is taken.
        at: a record's list of the places of these values, where they are not 1, 2, ...
        where: values of the records that take part.
    """

    def paint(axis: Axes, records: Sequence[Record], palette: Palette) -> None:
        palette = _palette(records, by, palette)
        bands: list[tuple[list[float], list[float], list[float], Color]] = []
        for (arm,), own in grouped(present(records, value), by).items():
            longest = max(own, key=lambda r: len(r[value]))
            steps = range(0, len(longest[value]), smooth)
            means = [_mean_at([r[value][s : s + smooth] for r in own], log) for s in steps]
            places = longest[at][::smooth] if at else [s + 1 for s in steps]
            mean, low, high = ([interval[end] for interval in means] for end in range(3))
            few = "o" if len(mean) <= FEW else ""
            axis.plot(places, mean, marker=few, color=palette[arm], label=written(arm))
            bands.append((places, low, high, palette[arm]))
        axis.set(xlabel=xlabel, ylabel=_told(label, records))
        if log:
            decades(axis.yaxis)
        make_room(axis, [end for _, low, high, _ in bands for end in (*low, *high)], "y")
        for places, low, high, color in bands:
            axis.fill_between(places, low, high, color=color, alpha=0.13, lw=0)

    return Panel(name, paint, where or {}, BAND)


def against(
    x: str, y: str, name: str, xlabel: str, ylabel: str, *, log: str = "", by: str = "arm",
    where: Mapping[str, Any] | None = None,
) -> Panel:  # fmt: skip
    """Draw one value of every run against another; `log` names the axes that are logarithmic.

    Args:
        x, y: of a record.
        name: the panel's title.
        xlabel, ylabel: of the axes.
        log: "", "x", "y" or "xy".
        by: the coordinate that tells arms apart.
        where: values of the records that take part.
    """

    def paint(axis: Axes, records: Sequence[Record], palette: Palette) -> None:
        palette = _palette(records, by, palette)
        for (arm,), own in grouped(present(records, x, y), by).items():
            points = [r[x] for r in own], [r[y] for r in own]
            axis.plot(*points, "o", ms=5, alpha=0.7, color=palette[arm], label=written(arm))
        axis.set(xlabel=_told(xlabel, records), ylabel=_told(ylabel, records))
        for name in log:
            decades(axis.xaxis if name == "x" else axis.yaxis)

    return Panel(name, paint, where or {})


def heat(
    value: str, name: str, xlabel: str, number: str, *, where: Mapping[str, Any] | None = None
) -> Panel:  # fmt: skip
    """Draw a value that a run has at every place of a plane, as colours: the mean over runs.

    Args:
        value: of a record, a list of (x, y, number): x a number, y a text, both in their order.
        name: the panel's title.
        xlabel: of the axis; texts say what they are.
        number: what the colours stand for.
        where: values of the records that take part.
    """

    def paint(axis: Axes, records: Sequence[Record], palette: Palette) -> None:
        from matplotlib.ticker import MaxNLocator

        at: dict[tuple[Any, Any], list[float]] = {}
        for x, y, found in (point for r in present(records, value) for point in r[value]):
            at.setdefault((x, y), []).append(found)
        across = sorted({x for x, _ in at}, key=lambda x: (x is None, x))
        down = list(dict.fromkeys(y for _, y in at))
        means = [[fmean(at[x, y]) if (x, y) in at else math.nan for x in across] for y in down]
        shown = axis.imshow(means, aspect="auto", cmap="viridis", vmin=0.0)
        axis.set_xticks(range(len(across)), [written(x) for x in across])
        axis.set_yticks(range(len(down)), down)
        axis.set_xlabel(xlabel)
        axis.grid(visible=False)
        axis.figure.colorbar(shown, ax=axis, label=number, location="bottom", ticks=MaxNLocator(4))

    return Panel(name, paint, where or {})


def _told(label: str, records: Sequence[Record]) -> str:
    """Write an axis's label with the metric, or "score" where the records have several."""
    metrics = {r.get("metric") for r in records}
    one = metrics.pop() if len(metrics) == 1 else None
    return label.replace("{metric}", named(one) if one else "score")


def _curve(
    axis: Axes, own: Sequence[Record], x: str, value: str, color: Color, label: str, log: bool
) -> tuple[list[float], list[float], list[float]]:
    """Draw means and runs; return the band of their intervals."""
    places = sorted({r[x] for r in own})
    means = [_mean([r for r in own if r[x] == place], value, log) for place in places]
    values = [abs(r[value]) if log else r[value] for r in own]
    axis.plot([r[x] for r in own], values, ".", color=color, alpha=0.45, ms=6)
    axis.plot(places, [mean for mean, *_ in means], "o-", color=color, label=label, mec="white")
    return places, [low for _, low, _ in means], [high for *_, high in means]


def _beside(axis: Axes, bars: Sequence[tuple[list[float], Color]]) -> None:
    """Draw intervals side by side on the right of what is drawn, which makes room for them."""
    if not bars:
        return
    left, right = axis.get_xlim()
    share = 0.02 * (len(bars) + 1)
    axis.set_xlim(left, right * (right / left) ** (share / (1 - share)))
    for place, (ends, color) in enumerate(bars, 1):
        at = [1 - share + 0.02 * place] * 2
        axis.plot(at, ends, color=color, lw=2, transform=axis.get_yaxis_transform(), zorder=1)


def _mean(own: Sequence[Record], value: str, log: bool) -> tuple[float, float, float]:
    """Return the mean and its interval, geometric where `log`; one run has no interval."""
    values = [abs(r[value]) if log else r[value] for r in own]
    found = geometric_mean([v for v in values if v]) if log and any(values) else student(values)
    return found.value, found.low, found.high


def _mean_at(parts: Sequence[Sequence[float | None]], log: bool) -> tuple[float, float, float]:
    """Return the mean of runs' means over some steps, and its interval; NaN where there is none."""
    there = [[v for v in part if v is not None and (v > 0 or not log)] for part in parts]
    means = [(mean_of_logs if log else fmean)(part) for part in there if part]
    if not means:
        return math.nan, math.nan, math.nan
    found = geometric_mean(means) if log else student(means)
    return found.value, found.low, found.high


def _palette(records: Sequence[Record], by: str, palette: Palette) -> Palette:
    """Return the figure's colours, and others for what is no arm where a panel tells it apart."""
    if by == "arm":
        return palette
    import seaborn as sns

    values = [value for (value,) in grouped(records, by) if value not in palette]
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    shades = sns.color_palette("viridis", len(values))
    return {**palette, **dict(zip(values, map(tuple, shades), strict=True))}


def _empty(axis: Axes) -> None:
    axis.text(0.5, 0.5, "no run yet", ha="center", va="center", transform=axis.transAxes)
    axis.set_xticks([])
    axis.set_yticks([])
