"""Statements as values: a sentence, and how the records of an artefact decide it.

A statement holds or fails where the 95 % interval over repetitions, seeds of a model and task, lies
on one side, and is undecided otherwise. A new kind of statement is a function of this file's shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from experiments.kit.columns import written
from experiments.kit.comparisons import (
    UNIT,
    by_unit,
    exponential,
    exponent,
    logged,
    margins,
    over_examples,
    over_seeds,
)
from experiments.kit.judge import Finding, above, every, settle
from experiments.kit.judge import equal as equal_verdict
from experiments.kit.records import Record, grouped, matching, present
from experiments.kit.statistics.interval import student
from experiments.kit.statistics.p_values import sign_flips

Where = Mapping[str, Any]
ANY: Where = {}


@dataclass(frozen=True)
class Statement:
    """Hold a sentence and how it is judged: ``statement.judge(records)``."""

    text: str
    judge: Callable[[Sequence[Record]], Finding]


def better(
    text: str, value: str, one: Any, other: Any, *, axis: str = "arm", where: Where = ANY,
    by: float = 0.0,
) -> Statement:  # fmt: skip
    """State that one arm's value is above another's, paired by model, task, seed and ratio.

    Args:
        text: the sentence.
        value: of a record, such as "test".
        one, other: the arms; an arm that has no ratio is compared at every ratio.
        axis: the coordinate that names them.
        where: values of the records that take part.
        by: the margin that it must be above.
    """

    def judge(records: Sequence[Record]) -> Finding:
        own = matching(records, where)
        gaps = margins(own, value, one, other, axis)
        resampled = over_examples(own, one, other, axis) if value == "test" else None
        also = f"; resampled too {resampled}" if resampled else ""
        return over_seeds(text, f"{one} - {other}", by_unit(gaps), by, also)

    return Statement(text, judge)


def no_worse(
    text: str, value: str, one: Any, other: Any, *, by: float, axis: str = "arm", where: Where = ANY
) -> Statement:
    """State that one arm loses less than a margin against another: "matches" within `by`."""
    return better(text, value, one, other, axis=axis, where=where, by=-by)


def widens(
    text: str, value: str, one: Any, other: Any, *, axis: str = "arm", where: Where = ANY,
    over: str = "ratio",
) -> Statement:  # fmt: skip
    """State that one arm's margin is larger at the smallest value of a coordinate than at the
    largest."""

    def judge(records: Sequence[Record]) -> Finding:
        gaps = margins(matching(records, where), value, one, other, axis, over)
        places = sorted({at[-1] for at in gaps})
        if len(places) < 2:
            return Finding(text, "undecided", f"{len(places)} values of {over} are too few")
        low, high = places[0], places[-1]
        grown = {
            at[:-1]: gap - gaps[*at[:-1], high]
            for at, gap in gaps.items()
            if at[-1] == low and (*at[:-1], high) in gaps
        }
        named = f"margin of {one} over {other} at {written(low)} minus at {written(high)}"
        return over_seeds(text, named, list(grown.values()))

    return Statement(text, judge)


def scales(
    text: str, value: str, sign: int, *, x: str = "ratio", where: Where = ANY,
    law: float | None = None, paper: float | None = None, source: str = "theory",
) -> Statement:  # fmt: skip
    """State the sign of the exponent s of value ~ x^s, fitted within each seed, in magnitude.

    Where all seeds share the value, as they do a rate chosen with the first, a model and task are
    one repetition; a single one has the interval of its regression.

    Args:
        text: the sentence.
        value: of a record.
        sign: of the exponent, 1 or -1.
        x: the coordinate.
        where: values of the records that take part.
        law: the exponent that a source predicts, named beside ours.
        paper: the exponent of the paper's own numbers.
        source: of the law.
    """

    def judge(records: Sequence[Record]) -> Finding:
        interval = exponent(matching(records, where), value, x)
        if interval is None:
            return Finding(text, "undecided", f"fewer than two values of {x}")
        beside = [] if law is None else [f"{source} {law:g}"]
        beside += [] if paper is None else [f"the paper's own numbers {paper:.2f}"]
        said = "; ".join([f"exponent of {value} in {x}: {interval}", *beside])
        ends = sorted((sign * interval.low, sign * interval.high))
        return Finding(text, above(*ends), said, interval)

    return Statement(text, judge)


def alike(
    text: str, value: str, one: Any, other: Any, *, within: float = 2.0, axis: str = "arm",
    where: Where = ANY,
) -> Statement:  # fmt: skip
    """State that two arms agree up to a factor, by the geometric mean of one over other."""

    def judge(records: Sequence[Record]) -> Finding:
        logs = by_unit(margins(logged(matching(records, where), value), value, one, other, axis))
        if not logs:
            return Finding(text, "undecided", f"{one} / {other}: not both were run")
        found = student(logs)
        verdict = equal_verdict(found.low, found.high, within=math.log(within))
        estimate = exponential(found)
        wide = f", wider than a factor of {within:g}" * (verdict == "undecided" and len(logs) > 1)
        said = f"{one} / {other}: {estimate}{wide}"
        return Finding(text, verdict, said, estimate, sign_flips(logs).p)

    return Statement(text, judge)


def exceeds(text: str, value: str, least: float, *, where: Where = ANY) -> Statement:
    """State that the mean of a value is above a threshold."""

    def judge(records: Sequence[Record]) -> Finding:
        units = grouped(present(matching(records, where), value), *UNIT)
        values = [fmean(r[value] for r in own) for own in units.values()]
        return over_seeds(text, f"mean {value}", values, at_least=least)

    return Statement(text, judge)


def monotone(
    text: str, value: str, sign: int, *, x: str = "ratio", where: Where = ANY
) -> Statement:
    """State that a value grows (sign 1) or falls (-1) from each x to the next, in magnitude's log.

    It holds where every step does, each by its interval over seeds.
    """

    def judge(records: Sequence[Record]) -> Finding:
        own = logged(matching(present(records, x), where), value)
        places = sorted({r[x] for r in own})
        steps: list[tuple[str, Finding]] = []
        for low, high in pairwise(places):
            gaps = by_unit(margins(own, value, high, low, x, over=None))
            step = over_seeds(text, "", [sign * gap for gap in gaps])
            steps.append((f"{written(low)} to {written(high)}", step))
        if not steps:
            return Finding(text, "undecided", f"{len(places)} values of {x} are too few")
        said = ", ".join(f"{named} {step.verdict}" for named, step in steps)
        return Finding(text, every(step.verdict for _, step in steps), said)

    return Statement(text, judge)


def each(text: str, statements: Sequence[Statement]) -> Statement:
    """State several statements at once: all must hold, one that fails fails it."""

    def judge(records: Sequence[Record]) -> Finding:
        findings = [s.judge(records) for s in statements]
        said = "; ".join(f"{f.statement}: {f.verdict}, {f.evidence}" for f in findings)
        return Finding(text, every(f.verdict for f in findings), said)

    return Statement(text, judge)


def true_everywhere(text: str, *values: str, where: Where = ANY) -> Statement:
    """State that a value, or each of several, is true of every record that has it."""

    def judge(records: Sequence[Record]) -> Finding:
        met = [bool(r[v]) for r in matching(records, where) for v in values if r.get(v) is not None]
        if not met:
            return Finding(text, "undecided", "measured nowhere")
        return Finding(text, settle(all(met)), f"{sum(met)} of {len(met)}")

    return Statement(text, judge)
