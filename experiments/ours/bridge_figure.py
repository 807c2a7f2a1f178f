"""Draw `bridge`: what the linear model predicts for 95 % of masks, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from experiments.kit.draw import RATIO, Color, colors, decades
from experiments.kit.panels import Panel
from experiments.kit.records import Record
from experiments.ours.bridge_laws import NEVER, Law, band, cases, law_of, predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: model -> ratio -> the rate of AdamW that dev chose with the first seed, of three or four tried
#: over 1000 reviews in three epochs; as published for the figures of random masks
TRAINED: Mapping[str, Mapping[float, float]] = {
    "minilm-l6": {1e-2: 1e-3, 1e-3: 1e-2, 1e-4: 3e-2, 1e-5: 0.3},
    "smollm2-135m": {1e-2: 1e-3, 1e-3: 3e-3, 1e-4: 3e-2},
}


@dataclass(frozen=True)
class Shown:
    """Describe one panel.

    Args:
        title: above it.
        measured: laws whose measurements are drawn, and what tells the second's from the first's.
        beside: another prediction of the first one's number, and its name.
        trained: whether rates after training are drawn, too.
    """

    title: str
    measured: tuple[tuple[Law, str], ...]
    beside: tuple[Law, str] | None = None
    trained: bool = False


SHOWN = (
    Shown("Sharpness", ((law_of("sharpness"), ""),)),
    Shown("AdamW's best first rate", ((law_of("rate"), ""),),
          (law_of("rate_softmax"), "cross-entropy of linear scores"), trained=True),
    Shown("Distance at half the first loss",
          ((law_of("distance", "GD"), ""), (law_of("distance", "AdamW"), ", AdamW"))),
    Shown("SGD's smallest unstable rate", ((law_of("sgd"), ""),)),
)  # fmt: skip
#: of models: their places beside each other at a ratio, and their marks
APART, MARKS = 1.9, "os"
#: of masks: the factor of the ratio within which their points lie side by side
SIDE = 1.08
#: over a median: where a band is cut, which may have no end
HIGHEST, LOWEST = 1e2, 1e-4


def drawn(records: Sequence[Record]) -> list[Panel]:
    """Draw one panel a number: measurements over the linear model's median, and its band."""
    return [Panel(shown.title, partial(_draw, records, shown)) for shown in SHOWN]


def _draw(records: Sequence[Record], shown: Shown, axis: Axes, *_: Any) -> None:
    told = predictions(records)
    models = list(dict.fromkeys(model for model, _ in told))
    there = {c.model for law, _ in shown.measured for c in cases(records, law)} or set(models)
    for place, (model, color) in enumerate(zip(models, colors(), strict=False)):
        if model not in there:
            continue
        own = {ratio: r for (m, ratio), r in sorted(told.items()) if m == model}
        shift = APART ** (place - (len(models) - 1) / 2)
        first = shown.measured[0][0].predicted
        middle = {ratio: median(r["draws"][first]) for ratio, r in own.items()}
        _bars(axis, own, first, middle, shift, color)
        if shown.beside is not None:
            _outlines(axis, own, shown.beside, middle, shift, color)
        for law, also in shown.measured:
            found = [c for c in cases(records, law) if c.model == model and c.reached]
            _points(
                axis,
                [(c.ratio, c.value / middle[c.ratio]) for c in found],
                shift,
                color,
                "^" if also else MARKS[place % len(MARKS)],
                bool(also),
                model + also,
            )
        if shown.trained:
            best = [
                (ratio, lr / middle[ratio])
                for ratio, lr in TRAINED.get(model, {}).items()
                if ratio in middle
            ]
            axis.plot(
                [ratio * shift for ratio, _ in best],
                [v for _, v in best],
                "x",
                color=color,
                ms=7,
                mew=1.8,
                label=f"{model}, best after training" if best else None,
            )
    axis.axhline(1, ls="--", color="0.5", lw=1.2, label="linear model's median", zorder=0)
    ratios = [ratio for _, ratio in told]
    axis.set(xscale="log", xlabel=RATIO, ylabel="over the linear model's median",
             xlim=(min(ratios) / 2.5, max(ratios) * 2.5))  # fmt: skip
    decades(axis.yaxis)


def _bars(
    axis: Axes, own: Mapping[float, Record], name: str, middle: Mapping[float, float],
    shift: float, color: Color,
) -> None:  # fmt: skip
    """Draw what the linear model says of 95 % of masks, a bar a ratio."""
    ends = {ratio: band(r["draws"][name]) for ratio, r in own.items()}
    axis.vlines(
        [ratio * shift for ratio in own],
        [max(low / middle[ratio], LOWEST) for ratio, (low, _) in ends.items()],
        [min(high / middle[ratio], HIGHEST) for ratio, (_, high) in ends.items()],
        color=color,
        alpha=0.25,
        lw=17,
        label="95 % of masks, linear model",
    )


def _outlines(
    axis: Axes, own: Mapping[float, Record], beside: tuple[Law, str], middle: Mapping[float, float],
    shift: float, color: Color,
) -> None:  # fmt: skip
    """Draw the middle of another prediction of the same number, a line across a bar."""
    law, name = beside
    found = [(ratio * shift, median(r["draws"][law.predicted]) / middle[ratio])
             for ratio, r in own.items()]  # fmt: skip
    finite = [(x, v) for x, v in found if v < NEVER]
    axis.plot(
        [x for x, _ in finite],
        [v for _, v in finite],
        "_",
        color=color,
        ms=17,
        mew=2.2,
        label=f"median, {name}",
    )


def _points(
    axis: Axes, found: Sequence[tuple[float, float]], shift: float, color: Color, mark: str,
    hollow: bool, label: str,
) -> None:  # fmt: skip
    """Draw one point a mask, those of a ratio side by side."""
    seen: dict[float, int] = {}
    for ratio, _ in found:
        seen[ratio] = seen.get(ratio, 0) + 1
    xs, at = [], dict.fromkeys(seen, 0)
    for ratio, _ in found:
        xs.append(ratio * shift * SIDE ** (at[ratio] - (seen[ratio] - 1) / 2))
        at[ratio] += 1
    axis.plot(
        xs,
        [v for _, v in found],
        mark,
        ms=4.5,
        color=color,
        alpha=0.9,
        mew=1,
        mfc="none" if hollow else color,
        label=label if found else None,
    )
