"""What statements are made of: two arms compared over cells and seeds, exponents, their findings.

A cell is a model and task at one ratio. Seeds are what is repeated: a seed's differences are
averaged over cells, for cells share its examples, so that n counts seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from experiments.kit.judge import Finding
from experiments.kit.records import Record, grouped, present
from experiments.kit.statistics import Difference, Interval, over_cells, paired, slope
from experiments.kit.statistics.arms import Arm

CELL = ("model", "task")
Place = tuple[Any, ...]
Cells = dict[Place, tuple[Arm, Arm]]


@dataclass(frozen=True)
class Compared(Finding):
    """Hold a statement about the difference of two arms, which a family may judge again.

    Args:
        label: of the difference.
        difference: of the arms.
        least: the threshold that it must be above; None is no difference.
    """

    label: str = ""
    difference: Difference | None = None
    least: float | None = None


def judged(text: str, label: str, found: Difference | None, least: float | None = None) -> Finding:
    """Judge "the difference is above a threshold"; without one it is undecided."""
    if found is None:
        return Finding(text, "undecided", f"{label}: not both were run with one seed")
    verdict = found.above(least)
    evidence = f"{label}: {found.sentence()}"
    if least is not None:
        evidence += f"; threshold {least:g}"
    needs = found.needed if verdict == "undecided" and least is None else None
    return Compared(text, verdict, evidence, estimate(found), needs, label, found, least)


def compare(
    records: Sequence[Record], value: str, one: Any, other: Any, *, axis: str = "arm",
    over: str = "ratio", log: bool = False,
) -> Difference | None:  # fmt: skip
    """Compare two arms seed by seed; None where no seed has both.

    A single cell whose runs keep which test examples they had right is compared example by example
    as well.

    Args:
        records: of the two arms; others are left out.
        value: of a record.
        one, other: the arms.
        axis: the coordinate that names them.
        over: the coordinate that joins model and task in a cell; "" for none.
        log: whether magnitudes are compared, as a factor.
    """
    found = cells(records, value, one, other, axis, over, log)
    whole = {seed for pair in found.values() for seed in pair[0] if seed in pair[1]}
    if not whole:
        return None
    if len(found) > 1:
        difference = over_cells(found)
    else:
        pair = next(iter(found.values()))
        right = value == "test" and not log and all(isinstance(v, str) for a in pair for v in a)
        difference = paired(*pair) if right or not log else paired(*pair)
    return replace(difference, factor=True) if log else difference
