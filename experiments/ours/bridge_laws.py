"""The laws that `bridge` compares: what is predicted by what, and each measurement beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from experiments.kit.records import Record

#: of an interval that encloses a new mask's value, were the network linear
LEVEL = 0.95
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
    Law("sharpness", "random masks", "sharpness", SHARPNESS),
    Law("sharpness", "certified: heavy and light columns", "sharpness", SHARPNESS, certified=True),
    Law("AdamW's first rate", "random masks, quadratic loss", "rate", RATE),
    Law("AdamW's first rate", "certified: Bernstein and Cantelli", "rate", RATE, certified=True),
    Law("AdamW's first rate", "random masks, cross-entropy of linear scores", "rate_softmax", RATE),
    Law("distance, GD", "random masks, least norm", "distance", _descent("sgd")),
    Law("distance, AdamW", "random masks, least norm", "distance", _descent("adamw")),
    Law("SGD's unstable rate", "random masks, linear SGD", "sgd", _of("sgd_threshold")),
)


def law_of(predicted: str, optimizer: str = "") -> Law:
    """Return the law by what it predicts, over masks; that of an optimizer where there are two."""
    return next(law for law in LAWS if law.predicted == predicted and not law.certified
                and law.name.endswith(optimizer))  # fmt: skip


CHOICES = ("start", "sgd")
#: what stands for infinity in a row
NEVER = 1e29


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
    def reached(self) -> bool:
        """Whether the measurement has a number: a descent may not arrive in its steps."""
        return self.value < NEVER

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
