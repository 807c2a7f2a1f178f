"""Statements as values: a sentence, and how the records of an artefact decide it.

A statement holds or fails where the 95 % interval over seeds lies on one side, and is undecided
otherwise; one seed decides nothing. A new kind of statement is a function of this file's shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from experiments.kit.columns import spoken, written
from experiments.kit.comparisons import (
    CELL,
    Cells,
    Level,
    compare,
    estimate,
    exponent,
    judged,
)  # fmt: skip
from experiments.kit.judge import Finding, above, every, settle
from experiments.kit.records import Record, grouped, matching, present
from experiments.kit.statistics import Difference, over_cells, paired
from landscape.shown import counted

Where = Mapping[str, Any]
ANY: Where = {}


@dataclass(frozen=True)
class Statement:
    """Hold a sentence and how it is judged: ``statement.judge(records)``."""

    text: str
    judge: Callable[[Sequence[Record]], Finding]


def better(
    text: str, value: str, one: Level, other: Level, *, by: float | None = None, axis: str = "arm",
    over: str = "ratio", where: Where = ANY,
) -> Statement:  # fmt: skip
    """State that one arm's value is above another's, compared seed by seed in every cell.

    Args:
        text: the sentence.
        value: of a record, such as "test".
        one, other: the arms; one that has no ratio is compared at every ratio of the other.
        by: the margin that it must be above; a negative one states that it is no worse.
        axis: the coordinate that names them.
        over: what tells cells of a model and task apart.
        where: values of the records that take part.
    """

    def judge(records: Sequence[Record]) -> Finding:
        own = matching(records, where)
        found = compare(own, value, one, other, axis=axis, over=over)
        return judged(text, f"{written(one)} - {written(other)}", found, by)

    return Statement(text, judge)


def larger(
    text: str, value: str, one: Level, other: Level, *, by: float | None = None, axis: str = "arm",
    over: str = "ratio", where: Where = ANY,
) -> Statement:  # fmt: skip
    """State the same of magnitudes over decades, by a factor: `by` is one, or none for 1."""

    def judge(records: Sequence[Record]) -> Finding:
        own = matching(records, where)
        found = compare(own, value, one, other, axis=axis, over=over, log=True)
        return judged(text, f"{written(one)} / {written(other)}", found, by)

    return Statement(text, judge)


def alike(
    text: str, value: str, one: Level, other: Level, *, within: float = 2.0, log: bool = True,
    axis: str = "arm", over: str = "ratio", where: Where = ANY,
) -> Statement:  # fmt: skip
    """State that two arms agree to less than a factor, or with ``log=False`` than a difference."""

    def judge(records: Sequence[Record]) -> Finding:
        own = matching(records, where)
        found = compare(own, value, one, other, axis=axis, over=over, log=log)
        named = f"{written(one)} {'/' if log else '-'} {written(other)}"
        if found is None:
            return replace(judged(text, named, None), kind="agreement")
        verdict = found.within(within)
        said = f"{named}: {found.sentence()}; " + (
            f"a factor of {within:g} would matter" if log else f"{within:g} would matter"
        )
        return Finding(text, verdict, said, estimate(found), kind="agreement")

    return Statement(text, judge)


def widens(
    text: str, value: str, one: Level, other: Level, *, axis: str = "arm", over: str = "ratio",
    where: Where = ANY,
) -> Statement:  # fmt: skip
    """State that one arm's margin is larger at the smallest ratio than at the largest."""

    def judge(records: Sequence[Record]) -> Finding:
        own = matching(records, where)
        places = sorted({r[over] for r in present(own, over)})
        if len(places) < 2:
            return Finding(
                text, "undecided", f"{len(places)} values of {over} are too few", kind="difference"
            )
        ends = [places[0], places[-1]]
        margins = [_margins(matching(own, {over: at}), value, one, other, axis) for at in ends]
        grown: Cells = {
            at: (low, margins[1][at]) for at, low in margins[0].items() if at in margins[1]
        }
        label = f"margin of {one} over {other} at {ends[0]:g} minus at {ends[1]:g}"
        if not any(low.keys() & high.keys() for low, high in grown.values()):
            return judged(text, label, None)
        (pair, *_) = grown.values()
        return judged(text, label, paired(*pair) if len(grown) == 1 else over_cells(grown))

    return Statement(text, judge)


def scales(
    text: str, value: str, sign: int, *, x: str = "ratio", law: float | None = None,
    paper: float | None = None, source: str = "linear theory", where: Where = ANY,
) -> Statement:  # fmt: skip
    """State the sign of the exponent s of value ~ x^s, in magnitude, one a seed.

    The points of a single seed have a slope, but decide nothing.

    Args:
        text: the sentence.
        value: of a record, one that every seed has of its own; rates that are chosen from a grid
            are judged by `experiments.random_masking.exponents`.
        sign: of the exponent, 1 or -1.
        x: the coordinate.
        law: the exponent that a source predicts, named beside ours.
        paper: the exponent of the paper's own numbers.
        source: of the law.
        where: values of the records that take part.
    """

    def judge(records: Sequence[Record]) -> Finding:
        interval = exponent(matching(records, where), value, x)
        if interval is None:
            return Finding(text, "undecided", f"fewer than two values of {x}", kind="exponent")
        beside = [] if law is None else [f"{source} {law:g}"]
        beside += [] if paper is None else [f"the paper's own numbers {paper:.2f}"]
        label = f"exponent of {spoken(value)} in {spoken(x)}"
        said = "; ".join([f"{label}: {interval}", *beside])
        clause = "; ".join([f"{label} {interval.clause}", *beside])
        ends = sorted((sign * interval.low, sign * interval.high))
        estimated = interval.value, interval.low, interval.high
        verdict = "undecided" if interval.single else above(*ends)
        return Finding(text, verdict, said, estimated, clause=clause, kind="exponent")

    return Statement(text, judge)


def exceeds(text: str, value: str, least: float, *, where: Where = ANY) -> Statement:
    """State that the mean of a value is above a threshold, over seeds, cells averaged."""

    def judge(records: Sequence[Record]) -> Finding:
        found = _level(matching(records, where), value, least)
        return judged(text, f"mean {spoken(value)}", found, least)

    return Statement(text, judge)


def below(text: str, value: str, most: float, *, where: Where = ANY) -> Statement:
    """State that the mean of a value is below a threshold, over seeds, cells averaged."""

    def judge(records: Sequence[Record]) -> Finding:
        found = _level(matching(records, where), value, most)
        return judged(text, f"mean {spoken(value)}", found, most=most)

    return Statement(text, judge)


def monotone(
    text: str, value: str, sign: int, *, x: str = "ratio", log: bool = True, where: Where = ANY
) -> Statement:
    """State that a value grows (sign 1) or falls (-1) from each x to the next.

    It holds where every step does, each by its interval over seeds.
    """

    def judge(records: Sequence[Record]) -> Finding:
        own = matching(records, where)
        places = sorted({r[x] for r in present(own, x)})
        steps: list[Finding] = []
        for low, high in pairwise(places):
            ends = (high, low) if sign > 0 else (low, high)
            found = compare(own, value, *ends, axis=x, over="", log=log)
            steps.append(judged("", f"{written(low)} to {written(high)}", found))
        if not steps:
            return Finding(
                text, "undecided", f"{len(places)} values of {x} are too few", kind="several"
            )
        said = "; ".join(f"{step.verdict}, {step.evidence}" for step in steps)
        clause = "; ".join(f"{step.verdict}, {step.short}" for step in steps)
        verdict = every(step.verdict for step in steps)
        return Finding(text, verdict, said, clause=clause, kind="several")

    return Statement(text, judge)


def each(text: str, statements: Sequence[Statement]) -> Statement:
    """State several statements at once: all must hold, one that fails fails it."""

    def judge(records: Sequence[Record]) -> Finding:
        findings = [s.judge(records) for s in statements]
        said = "; ".join(f"{f.statement}: {f.verdict}, {f.evidence}" for f in findings)
        clause = "; ".join(f"{f.verdict}, {f.short}" for f in findings)
        verdict = every(f.verdict for f in findings)
        needs = [f.needs for f in findings if f.verdict == "undecided"]
        known = [n for n in needs if n is not None]
        most = max(known, default=None) if verdict == "undecided" and known == needs else None
        return Finding(text, verdict, said, needs=most, clause=clause, kind="several")

    return Statement(text, judge)


def at_each(
    text: str, axis: str, state: Callable[[Any], Statement], *, but: Any = None, where: Where = ANY
) -> Statement:
    """State the same at every value of a coordinate that records have: all must hold.

    A value whose runs are not there yet is not missed here; that a view is unfinished is told
    beside it.

    Args:
        text: the sentence.
        axis: the coordinate.
        state: makes the statement at a value of it.
        but: the one that is not judged, such as the one to which the others are compared.
        where: values of the records whose coordinates these are.
    """

    def judge(records: Sequence[Record]) -> Finding:
        found = dict.fromkeys(r.get(axis) for r in matching(records, where))
        made = [state(value) for value in found if value is not None and value != but]
        alone = len(made) == 1 and made[0].text == text
        return (made[0] if alone else each(text, made)).judge(records)

    return Statement(text, judge)


def true_everywhere(text: str, *values: str, where: Where = ANY) -> Statement:
    """State that a value, or each of several, is true of every record that has it."""

    def judge(records: Sequence[Record]) -> Finding:
        own = [[bool(r[v]) for v in values if r.get(v) is not None]
               for r in matching(records, where)]  # fmt: skip
        met = [one for of_run in own for one in of_run]
        if not met:
            return Finding(text, "undecided", "measured nowhere", kind="exact")
        of = counted(sum(map(bool, own)), "run")
        of = of if len(values) == 1 else f"{counted(len(met), 'value')} of {of}"
        return Finding(text, settle(all(met)), f"true of {sum(met)} of {of}", kind="exact")

    return Statement(text, judge)


def _level(records: Sequence[Record], value: str, threshold: float) -> Difference | None:
    """Return the mean of a value over seeds, as its difference from zero.

    How far it is from zero, in deviations or by its signs, says nothing of another threshold.
    """
    plain = [r | {"correct": None} for r in present(records, value)]
    own = [r | {"side": "value"} for r in plain]
    zero = [r | {"side": "zero", value: 0.0} for r in plain]
    found = compare(own + zero, value, "value", "zero", axis="side")
    if found is None or threshold == 0:
        return found
    return replace(found, effect=math.nan, flips=None)


def _margins(
    records: Sequence[Record], value: str, one: Level, other: Level, axis: str
) -> dict[tuple[Any, ...], dict[int, float]]:
    """Return one arm's margin over another by model and task, then by seed."""
    found = {}
    for at, own in grouped(records, *CELL).items():
        difference = compare(own, value, one, other, axis=axis, over="")
        if difference is not None:
            found[at] = dict(difference.each)
    return found
