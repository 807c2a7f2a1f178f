"""Judge and draw `bridge`: how many measurements lie in the linear model's intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from experiments.kit.draw import RATIO, Color, colors, decades
from experiments.kit.judge import Finding, settle
from experiments.kit.panels import Panel
from experiments.kit.records import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: of an interval that encloses a new mask's value, were the network linear
LEVEL = 0.95
#: a law without verdict: AdamW's path is longer than the least norm in a linear model, too
BESIDE = "distance, AdamW"
#: a verdict needs at least so many measurements
FEWEST = 5
#: model -> ratio -> the rate of AdamW that dev chose with the first seed, of three or four tried
#: over 1000 reviews in three epochs; as published for the figures of random masks
TRAINED: Mapping[str, Mapping[float, float]] = {
    "minilm-l6": {1e-2: 1e-3, 1e-3: 1e-2, 1e-4: 3e-2, 1e-5: 0.3},
    "smollm2-135m": {1e-2: 1e-3, 1e-3: 3e-3, 1e-4: 3e-2},
}
Measured = Callable[[Record], float | None]


@dataclass(frozen=True)
class Law:
    """Describe one comparison: what is predicted, by what, and what is measured.

    Args:
        name: of what is compared.
        by: which prediction.
        predicted: the number in a prediction's row.
        measured: of a record; None where it has none, infinite where its steps did not suffice.
        certified: whether the interval is each mask's own, of closed form.
    """

    name: str
    by: str
    predicted: str
    measured: Measured
    certified: bool = False


def _descent(optimizer: str) -> Measured:
    def measured(record: Record) -> float | None:
        for one in record.get("start_descents") or ():
            if one["optimizer"] == optimizer:
                return float(one["distance"]) if one["reached"] else math.inf
        return None

    return measured


def _of(name: str) -> Measured:
    return lambda record: record.get(name)


SHARPNESS, RATE = _of("start_sharpness"), _of("start_rate")
LAWS = (
    Law("sharpness", "masks", "sharpness", SHARPNESS),
    Law("sharpness", "heavy and light columns", "sharpness", SHARPNESS, certified=True),
    Law("AdamW's first rate", "masks, loss to second order", "rate", RATE),
    Law("AdamW's first rate", "Bernstein and Cantelli", "rate", RATE, certified=True),
    Law("AdamW's first rate", "masks, linear scores' cross-entropy", "rate_softmax", RATE),
    Law("distance, GD", "masks, least norm", "distance", _descent("sgd")),
    Law("distance, AdamW", "masks, least norm", "distance", _descent("adamw")),
    Law("SGD's unstable rate", "masks, linear SGD", "sgd", _of("sgd_threshold")),
)
CHOICES = ("start", "sgd")


@dataclass(frozen=True)
class Case:
    """Hold one measurement beside its prediction.

    Args:
        model, ratio: where.
        value: measured.
        linear: the linear model's value for the same mask.
        low, high: the interval.
    """

    model: str
    ratio: float
    value: float
    linear: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        """Whether the measurement lies in the interval."""
        return self.low <= self.value <= self.high


def predictions(records: Sequence[Record]) -> dict[tuple[str, float], Record]:
    """Return what was predicted, by model and ratio."""
    return {(r["model"], told["ratio"]): told
            for r in records for told in r.get("predicted_ratios") or ()}  # fmt: skip


def band(draws: Sequence[float]) -> tuple[float, float]:
    """Return the order statistics that enclose one more draw with a probability of `LEVEL`.

    >>> band(range(1, 200))
    (5, 195)
    """
    ordered = sorted(draws)
    cut = max(1, round((1 - LEVEL) / 2 * (len(ordered) + 1)))
    return ordered[cut - 1], ordered[-cut]


def cases(records: Sequence[Record], law: Law) -> list[Case]:
    """Return every measurement of a law beside what was predicted for its mask."""
    return list(_cases(records, law))


def _cases(records: Sequence[Record], law: Law) -> Iterator[Case]:
    told = predictions(records)
    for record in records:
        value = law.measured(record)
        place = next((c for c in CHOICES if f"{c}_mask" in record), None)
        if value is None or place is None:
            continue
        key = (record["model"], record[f"{place}_ratio"])
        if key not in told:
            continue
        mask = told[key]["masks"][record[f"{place}_mask"]]
        low, high = (
            mask[f"certified_{law.predicted}"] if law.certified
            else band(told[key]["draws"][law.predicted])
        )  # fmt: skip
        yield Case(*key, value, mask[law.predicted], low, high)


def coverage_table(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return one line a law, prediction and model: how many lie inside, ratio by ratio."""
    found, ratios = [], sorted({key[1] for key in predictions(records)}, reverse=True)
    for law in LAWS:
        every = cases(records, law)
        for model in dict.fromkeys(c.model for c in every):
            own = [c for c in every if c.model == model]
            line = {"number": law.name, "interval from": law.by, "model": model}
            line["inside"] = f"{sum(c.inside for c in own)} of {len(own)}"
            for ratio in ratios:
                here = [c for c in own if c.ratio == ratio]
                line[f"{ratio:g}"] = f"{sum(c.inside for c in here)}/{len(here)}" if here else "-"
            over = [c.value / c.linear for c in own if c.linear < 1e29]
            line["measured / linear"] = _written(over)
            found.append(line)
    return found


def mask_table(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return one line a number, model and ratio: measured, the interval, and closed forms."""
    found, told = [], predictions(records)
    for law in LAWS:
        if law.certified:
            continue
        every = cases(records, law)
        for key in dict.fromkeys((c.model, c.ratio) for c in every):
            own = [c for c in every if (c.model, c.ratio) == key]
            whole = told[key]["law"].get(law.predicted)
            found.append({
                "number": law.name, "interval from": law.by, "model": key[0],
                "ratio": f"{key[1]:g}", "measured": _written([c.value for c in own]),
                "low": _one(own[0].low), "high": _one(own[0].high),
                "law": "-" if whole is None else _one(whole),
            })  # fmt: skip
    return found


def _one(value: float) -> str:
    return "none" if value >= 1e29 else f"{value:.3g}"


def _written(values: Sequence[float]) -> str:
    finite = [v for v in values if v < 1e29]
    if not finite:
        return "never"
    text = f"{median(values):.3g}" if median(values) < 1e29 else "never"
    return f"{text} ({min(values):.2g} to {max(finite):.2g})" if len(values) > 1 else text


def check(records: Sequence[Record]) -> list[Finding]:
    """Say of every law and model whether as many measurements lie inside as should."""
    found = []
    for law in LAWS:
        if law.name == BESIDE:
            continue
        every = cases(records, law)
        for model in dict.fromkeys(c.model for c in every):
            own = [c for c in every if c.model == model]
            text = f"{model}: {law.name} lies in the interval of {law.by}"
            found.append(_enough(text, sum(c.inside for c in own), len(own)))
    return found + _bound(records)


def _enough(text: str, inside: int, count: int) -> Finding:
    """Judge a number of successes against `LEVEL`, by its binomial lower tail at 2.5 %."""
    tail = sum(
        math.comb(count, k) * LEVEL**k * (1 - LEVEL) ** (count - k) for k in range(inside + 1)
    )
    verdict = "undecided" if count < FEWEST else settle(tail >= 0.025)
    return Finding(text, verdict, f"{inside} of {count} inside, {LEVEL:.0%} expected")


def _bound(records: Sequence[Record]) -> list[Finding]:
    """Compare SGD's unstable rates with the bound of stability in the mean square, mask by mask."""
    found = []
    for model in dict.fromkeys(r["model"] for r in records if "sgd_threshold" in r):
        own = [r for r in records if r["model"] == model and "sgd_threshold" in r]
        over = [r["sgd_threshold"] / r["sgd_bound"] for r in own]
        text = f"{model}: no rate below the mean square's bound made SGD's loss grow"
        said = f"{sum(o >= 1 for o in over)} of {len(over)}; unstable / bound {_written(over)}"
        found.append(Finding(text, settle(min(over) >= 1), said))
    return found


PANELS = (
    ("Sharpness", (LAWS[0],)),
    ("AdamW's best first rate", (LAWS[2], LAWS[4])),
    ("Distance at half the first loss", LAWS[5:7]),
    ("SGD's smallest unstable rate", (LAWS[7],)),
)
MARKS = "os"


def drawn(records: Sequence[Record]) -> list[Panel]:
    """Draw one panel a number: measurements over the linear model's median, and its band."""
    return [Panel(name, partial(_draw, records, laws)) for name, laws in PANELS]


def _draw(records: Sequence[Record], laws: Sequence[Law], axis: Axes, *_: Any) -> None:
    told = predictions(records)
    models = list(dict.fromkeys(model for model, _ in told))
    for place, (model, color) in enumerate(zip(models, colors(), strict=False)):
        own = {ratio: r for (m, ratio), r in sorted(told.items()) if m == model}
        ratios = [ratio * 1.12 ** (place - 0.5) for ratio in own]
        draws = [r["draws"][laws[0].predicted] for r in own.values()]
        middle = {ratio: median(d) for ratio, d in zip(own, draws, strict=True)}
        ends = [[end / median(d) for end in band(d)] for d in draws]
        axis.fill_between(ratios, [e[0] for e in ends], [min(e[1], 1e3) for e in ends], color=color,
                          alpha=0.18, lw=0)  # fmt: skip
        for number_, law in enumerate(laws):
            shared = law.measured is laws[0].measured
            if number_ and shared:
                _other(axis, ratios, own, law, middle, color)
                continue
            points = [(c.ratio, c.value / middle[c.ratio]) for c in cases(records, law)
                      if c.model == model and c.value < 1e29]  # fmt: skip
            xs = [ratio * 1.12 ** (place - 0.5) * (1.3 if number_ else 1) for ratio, _ in points]
            name = f"{model}, AdamW" if number_ else model
            axis.plot(xs, [v for _, v in points], "^" if number_ else MARKS[place % 2], ms=5,
                      color=color, alpha=0.75, mfc="none" if number_ else color,
                      label=name if points else None)  # fmt: skip
        if laws[0].predicted == "rate":
            best = [(ratio, TRAINED.get(model, {}).get(ratio)) for ratio in own]
            shift = 1.12 ** (place - 0.5)
            known = [(x * shift, rate / middle[x]) for x, rate in best if rate is not None]
            axis.plot([x for x, _ in known], [v for _, v in known], "x", color=color, ms=8, mew=2,
                      label=f"{model}, best after training")  # fmt: skip
    axis.axhline(1, ls="--", color="0.5", lw=1.2, label="linear model, median and 95 % of masks")
    if laws[0].predicted == "rate":
        axis.plot([], [], ":", color="0.4", lw=1.8, label="linear scores, own cross-entropy")
    axis.set(xscale="log", xlabel=RATIO, ylabel="over the linear model's median")
    decades(axis.yaxis)


def _other(
    axis: Axes, ratios: Sequence[float], own: Mapping[float, Record], law: Law,
    middle: Mapping[float, float], color: Color,
) -> None:  # fmt: skip
    """Draw the median of another prediction of the same number, dotted."""
    points = [(x, median(r["draws"][law.predicted]) / middle[ratio])
              for x, (ratio, r) in zip(ratios, own.items(), strict=True)]  # fmt: skip
    finite = [(x, v) for x, v in points if v < 1e4]
    axis.plot([x for x, _ in finite], [v for _, v in finite], ":", color=color, lw=1.8)
