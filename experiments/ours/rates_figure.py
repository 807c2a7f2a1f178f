"""Draw `rates`: grids of learning rates with the predictions, and their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from experiments.kit.draw import colors
from experiments.kit.panels import Panel
from experiments.kit.records import Record
from experiments.ours.rates_grids import (
    HALF,
    Grid,
    compared,
    errors,
    fitted,
    grids,
    predicted_errors,
    rows_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

INTERVAL = "its 95 % interval"
NAMES = {"adamw": "AdamW", "sgd": "SGD"}


def drawn(records: Sequence[Record]) -> list[Panel]:
    """Draw each case's grids with the predictions, and the errors of predictor and fixed rule."""
    gathered, found = grids(rows_of(records)), []
    for case, optimizer in dict.fromkeys((c.case, c.optimizer) for c in gathered):
        here = [c for c in gathered if (c.case, c.optimizer) == (case, optimizer)]
        same = [c for c in gathered if c.optimizer == optimizer and c.learnt] or here
        constant = fitted(compared(same, "c / ratio"))
        found.append(Panel(f"{case}, {NAMES[optimizer]}", partial(_draw_grid, here, constant)))
    learnt = [c for c in gathered if c.learnt]
    return [*found, Panel("Errors", partial(_draw_errors, learnt))]


def _draw_grid(here: Sequence[Grid], constant: float, axis: Axes, *_: Any) -> None:
    blue, orange, *_ = colors()
    for c in here:
        finite = [x for x in c.losses.values() if math.isfinite(x)]
        low, span = min(finite), max(c.before - min(finite), 1e-9)
        for rate, loss in c.losses.items():
            worse = min(max((loss - low) / span, 0.0), 1.0) if math.isfinite(loss) else 1.0
            tied = rate in c.tied
            axis.plot(c.ratio, rate, "o", ms=8, mfc=str(0.35 + 0.6 * worse),
                      mec=blue if tied else "none", mew=1.6)  # fmt: skip
        axis.plot(c.ratio, c.best, "*", ms=13, color=blue, mec="white", mew=0.6, zorder=4)
    said = [c.suggestions() for c in here]
    ratios = [c.ratio for c in here]

    def mean(values: Sequence[float]) -> float:
        return 10 ** fmean(math.log10(max(min(v, 1e30), 1e-30)) for v in values)

    axis.plot(ratios, [mean([s.good for s in each]) for each in said], "-", color=orange, lw=2)
    bottom, top = ([mean([s.interval[i] for s in each]) for each in said] for i in (0, 1))
    axis.plot(ratios, [mean([s.largest_stable for s in each]) for each in said], ":", color=orange)
    axis.plot(ratios, [constant / ratio for ratio in ratios], "--", color="0.4", lw=1.2)
    axis.set(xscale="log", yscale="log", xlabel="ratio (trainable / all)", ylabel="learning rate")
    for line in _legend():
        axis.add_line(line)
    limits = axis.get_ylim()
    axis.fill_between(ratios, bottom, top, color=orange, alpha=0.15, lw=0, label=INTERVAL)
    axis.set_ylim(limits)


def _legend() -> list[Line2D]:
    from matplotlib.lines import Line2D

    blue, orange, *_ = colors()
    dot: dict[str, Any] = {"marker": "o", "ls": "", "ms": 8}
    return [
        Line2D([], [], marker="*", ls="", ms=13, color=blue, mec="white", label="best of the grid"),
        Line2D([], [], **dot, mfc="0.5", mec=blue, mew=1.6, label="as good within its error"),
        Line2D([], [], **dot, mfc="0.35", mec="none", label="a low development loss"),
        Line2D([], [], **dot, mfc="0.95", mec="none", label="no lower than before training"),
        Line2D([], [], color=orange, lw=2, label="predicted"),
        Line2D([], [], color=orange, ls=":", label="predicted largest stable"),
        Line2D([], [], color="0.4", ls="--", lw=1.2, label="best fixed rule, c / ratio"),
    ]  # fmt: skip


def _draw_errors(chosen: Sequence[Grid], axis: Axes, *_: Any) -> None:
    _, orange, *_ = colors()
    ticks: list[str] = []
    for optimizer in dict.fromkeys(c.optimizer for c in chosen):
        same = [c for c in chosen if c.optimizer == optimizer]
        fixed = compared(same, "c / ratio")
        for label, found, color in (
            ("predicted", predicted_errors(same), orange),
            ("c / ratio", errors(fixed, fitted(fixed)), "0.4"),
        ):
            x = len(ticks)
            spread = [x + 0.5 * (i / max(len(found) - 1, 1) - 0.5) for i in range(len(found))]
            axis.plot(spread, found, "o", color=color, alpha=0.7, ms=5)
            ticks.append(f"{optimizer}\n{label}")
    for level, style in ((0, "-"), (HALF, ":"), (-HALF, ":"), (1, "--"), (-1, "--")):
        axis.axhline(level, color="0.6", lw=1, ls=style, zorder=0)
    axis.set_xticks(range(len(ticks)), ticks, fontsize=9)
    axis.set(ylabel="log10(rate / grid's best), decades", ylim=(-2.2, 2.2))
