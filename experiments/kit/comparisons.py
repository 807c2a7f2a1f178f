"""What statements are made of: two arms compared over cells and seeds, exponents, their findings.

A cell is a model and task at one ratio. Seeds are what is repeated: a seed's differences are
averaged over cells, for cells share its examples, so that n counts seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import Any

from experiments.kit.judge import Finding, Kind, contrary
from experiments.kit.records import Record, grouped, present
from experiments.kit.statistics import Arm, Difference, Interval, over_cells, paired, slope, student
from experiments.kit.statistics.block import largest_block, over_which

CELL = ("model", "task")
Level = str | float | None
"""A value of a coordinate, such as the name of an arm."""
Place = tuple[Any, ...]
Cells = dict[Hashable, tuple[Arm, Arm]]
#: task -> examples that there are to test on, where a set keeps fewer than a run may ask for
VALIDATION: Mapping[str, int] = {
    "sst2": 872, "mrpc": 408, "rte": 277, "cola": 1043, "qnli": 5463, "qqp": 40_430, "mnli": 9815,
    "mnli_mm": 9832, "cb": 56, "wsc": 104, "wic": 638, "copa": 100,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Compared(Finding):
    """Hold a statement about the difference of two arms, which a family may judge again.

    Args:
        label: of the difference.
        difference: of the arms.
    """

    label: str
    difference: Difference


def judged(
    text: str, label: str, found: Difference | None, least: float | None = None, *,
    most: float | None = None,
) -> Finding:  # fmt: skip
    """Judge "the difference is above a threshold"; without one it is undecided.

    Args:
        text: the sentence.
        label: of the difference.
        found: the difference.
        least: the threshold; none is no difference.
        most: a threshold that it must be below, in its place.
    """
    threshold = least if most is None else most
    kind: Kind = "difference" if threshold is None else "threshold"
    if found is None:
        said = f"{label}: not both were run with one seed"
        return Finding(text, "undecided", said, kind=kind)
    verdict = found.above(threshold)
    if most is not None:
        verdict = contrary(verdict)
    evidence, clause = f"{label}: {found.sentence()}", f"{label} {found.clause()}"
    if threshold is not None:
        evidence += f"; threshold {threshold:.3g}"
        clause += f", threshold {threshold:.3g}"
    needs = found.needed if verdict == "undecided" and threshold is None else None
    return Compared(
        text, verdict, evidence, estimate(found), needs, clause, kind, label=label,
        difference=found,
    )  # fmt: skip


def compare(
    records: Sequence[Record], value: str, one: Level, other: Level, *, axis: str = "arm",
    over: str = "ratio", log: bool = False,
) -> Difference | None:  # fmt: skip
    """Compare two arms seed by seed; None where no seed has both.

    Where the runs of every cell keep which test examples they had right, these are compared example
    by example as well; cells that show a seed the same rows, such as the ratios of a task, share
    its examples. Not so where a set is tested on whole, as SST-2's 872: all seeds have the same
    examples then, no other ones could have been drawn, and an interval speaks of these.

    Args:
        records: of the two arms; others are left out.
        value: of a record.
        one, other: the arms.
        axis: the coordinate that names them.
        over: the coordinate that joins model and task in a cell; "" for none.
        log: whether magnitudes are compared, as a factor.
    """
    pairs = _pairs(records, value, one, other, axis, over)
    found = _cells(pairs, value, log)
    if not any(x.keys() & y.keys() for x, y in found.values()):
        return None
    if len(found) == 1:
        difference = paired(*next(iter(found.values())))
    else:
        difference = over_cells(found, {at: _rows_seen(x) for at, (x, _) in pairs.items()})
    return replace(difference, factor=True) if log else difference


def cells(
    records: Sequence[Record], value: str, one: Level, other: Level, *, axis: str = "arm",
    over: str = "ratio", log: bool = False,
) -> Cells:  # fmt: skip
    """Return two arms by cell, each as a value a seed, of those that it was run with.

    An arm without the coordinate, such as full fine-tuning without a ratio, stands in every cell of
    the other. Runs of one seed, which differ in the mask's seed, are averaged. Where the value is
    "test" and every run keeps which examples it had right, that stands for it, if both arms say by
    their hashes that these were the same rows.
    """
    return _cells(_pairs(records, value, one, other, axis, over), value, log)


def _pairs(
    records: Sequence[Record], value: str, one: Level, other: Level, axis: str, over: str
) -> dict[Place, tuple[list[Record], list[Record]]]:
    """Return the records of two arms by cell."""
    by_arm = [
        grouped(
            [r for r in present(records, value) if r[axis] == arm], *CELL, *filter(None, [over])
        )
        for arm in (one, other)
    ]
    first, second = (
        {
            at: arm.get(at) or arm.get((*at[: len(CELL)], None), [])
            for at in {**by_arm[0], **by_arm[1]}
        }
        for arm in by_arm
    )
    pairs = {at: (own, second[at]) for at, own in first.items()}
    open_ = [at for at in pairs if over and at[-1] is None]
    for at in open_:  # compared at the other's places already
        if any(other != at and other[:-1] == at[:-1] for other in pairs):
            del pairs[at]
    return pairs


def _cells(
    pairs: Mapping[Place, tuple[Sequence[Record], Sequence[Record]]], value: str, log: bool
) -> Cells:
    found: Cells = {}
    for at, (x, y) in pairs.items():
        right = value == "test" and not log and _judged_alike(x, y) and not _tested_whole(x)
        found[at] = _arm(x, value, log, right), _arm(y, value, log, right)
    return found


def estimate(found: Difference) -> tuple[float, float, float]:
    """Return a difference and the ends of its interval, as factors where it is one."""
    value, low, high = found.interval.value, found.interval.low, found.interval.high
    return (math.exp(value), math.exp(low), math.exp(high)) if found.factor else (value, low, high)


def exponent(records: Sequence[Record], value: str, x: str) -> Interval | None:
    """Return the exponent s of |value| ~ x^s, one a seed, with Student's interval over them.

    Of several models and tasks a seed's exponents are averaged, so that n counts seeds. None with
    fewer than two places.
    """
    own = [r for r in present(records, value, x) if r[value]]
    if len({r[x] for r in own}) < 2:
        return None
    curves = {
        unit: {at: _geometric(group, value) for (at,), group in grouped(records_, x).items()}
        for unit, records_ in grouped(own, *CELL, "seed").items()
    }
    if len(grouped(own, *CELL)) == 1:
        return slope({seed: curve for (*_, seed), curve in curves.items()})
    return _averaged(curves)


def _averaged(curves: Mapping[Place, Mapping[float, float]]) -> Interval:
    """Return the exponent of several cells: a seed's are averaged, for cells share its examples.

    Args:
        curves: by model, task and seed. A cell has the places that any of its seeds has; a seed
            that lacks one of them is none of the cell's. Of cells with gaps the largest whole block
            of cells and seeds is taken; what is outside it is counted.
    """
    places: dict[Place, set[float]] = {}
    for (*cell, _), curve in curves.items():
        places.setdefault(tuple(cell), set()).update(curve)
    each: dict[Place, dict[int, float]] = {at: {} for at in places}
    for (*cell, seed), curve in curves.items():
        if len(places[at := tuple(cell)]) > 1 and curve.keys() == places[at]:
            each[at][seed] = slope({seed: curve}).value
    chosen, seeds = largest_block({at: own.keys() for at, own in each.items()})
    whole = [fmean(each[at][seed] for at in chosen) for seed in seeds]
    left = len({seed for *_, seed in curves}) - len(whole)
    over = f"one a seed, {over_which(chosen, each)}"
    over += f", {left} left out: incomplete" * (left > 0)
    if not whole:
        return Interval(math.nan, math.nan, math.nan, 0, over)
    found = student(whole, size=1.0, each="slope")
    return replace(found, how=f"{found.how}, {over}")


def _judged_alike(*arms: Sequence[Record]) -> bool:
    """Tell whether each arm's seeds have one run, with its right answers to the same test rows."""
    if not all(len(g) == 1 and g[0].get("correct") for own in arms
               for g in grouped(own, "seed").values()):  # fmt: skip
        return False
    rows = [{r["seed"]: (r.get("identity") or {}).get("test rows") for r in own} for own in arms]
    return all(one[seed] and one[seed] == other[seed]
               for one, other in pairwise(rows) for seed in one.keys() & other.keys())  # fmt: skip


def _tested_whole(own: Sequence[Record]) -> bool:
    """Tell whether every example that there is was tested on: fewer than asked for, or so many."""
    return any(
        len(r["correct"]) < r.get("num_test", 0) or len(r["correct"]) == VALIDATION.get(r["task"])
        for r in own
    )


def _rows_seen(own: Sequence[Record]) -> dict[int, str]:
    """Name the test rows of each seed by their hashes, where they are known."""
    rows = {r["seed"]: (r.get("identity") or {}).get("test rows") for r in own}
    return {seed: json.dumps(seen, sort_keys=True) for seed, seen in rows.items() if seen}


def _arm(own: Sequence[Record], value: str, log: bool, right: bool) -> dict[int, float | str]:
    seeds = grouped(own, "seed")
    if right:
        return {seed: group[0]["correct"] for (seed,), group in seeds.items()}
    if log:
        whole = {seed: group for (seed,), group in seeds.items() if all(r[value] for r in group)}
        return {seed: math.log(_geometric(group, value)) for seed, group in whole.items()}
    return {seed: fmean(r[value] for r in group) for (seed,), group in seeds.items()}


def _geometric(group: Sequence[Record], value: str) -> float:
    return math.exp(fmean(math.log(abs(r[value])) for r in group))
