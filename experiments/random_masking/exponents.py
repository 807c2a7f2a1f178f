"""How the best rate goes with the ratio: an exponent that knows how coarse its grid is.

A best rate is one of a few that were tried: exponents of seeds that agree are the same to the last
digit without being known to it, and rates that were tried over the ratio grow as it falls by
themselves. So a rate at the edge of those tried, beyond which a better one may lie, decides nothing
unless the better one would make the exponent larger in magnitude still.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from itertools import pairwise
from statistics import fmean, linear_regression
from typing import Any

from experiments.kit.comparisons import CELL
from experiments.kit.judge import Finding, above
from experiments.kit.records import Record, grouped, matching, present
from experiments.kit.statements import Statement
from experiments.kit.statistics import Interval, student
from experiments.kit.statistics.block import largest_block, over_which

Fit = tuple[float, float]
"""The exponent of a repetition, and how far the grid lets it be off."""


def grows(text: str, *, paper: str, by_seed: bool, where: Mapping[str, Any]) -> Statement:
    """State that the best rate grows as the ratio falls: that lr ~ ratio^s has s below 0.

    s is a least-squares fit within each repetition. The interval is Student's over repetitions or
    what the grid allows, whichever reaches further: were every best rate off by half a step of the
    rates tried, h in logarithms, s would be off by at most

        h sum |x - mean x| / sum (x - mean x)^2,   x the logarithms of the ratios.

    Args:
        text: the sentence.
        paper: the paper's exponent, as it is written beside ours.
        by_seed: whether every seed chose its own rate, so that seeds are the repetitions: a seed's
            exponents are averaged over models and tasks, which share its examples, of the largest
            whole block of these and seeds. Models with a task are the repetitions otherwise, since
            a first seed chose for all.
        where: values of the records that take part.
    """

    def judge(records: Sequence[Record]) -> Finding:
        own = present(matching(records, where), "lr", "ratio")
        fits, over, own = _by_seed(own) if by_seed else (_by_case(own), "", own)
        each = "seed" if by_seed else "model and task"
        if len(fits) < 2:
            said = f"{len(fits)} exponent, one a {each}{over}: two are the least that decide"
            return Finding(text, "undecided", said, kind="exponent")
        found = student([s for s, _ in fits], each=each)
        off = max(off for _, off in fits)
        ends = found.value - off, found.value + off
        low, high = min(ends[0], _or(found.low, ends[0])), max(ends[1], _or(found.high, ends[1]))
        open_ = [r for r in own if r["edge"] and not _grows_still(r, own)]
        interval = Interval(found.value, low, high, found.n, f"{found.how}{over}, grid ± {off:.2f}")
        said = (
            f"exponent of the best rate in the ratio {interval}; linear threshold -1; the paper's "
            f"{paper}"
        )
        if any(r.get("scaled") for r in own):
            said += "; the rates tried were scaled with 1/ratio"
        if open_:
            said += f"; undecided by {len(open_)} of {len(own)} rates, at the edge of those tried"
        ours = interval.value, interval.low, interval.high
        verdict = "undecided" if open_ else above(-high, -low)
        return Finding(text, verdict, said, ours, kind="exponent")

    return Statement(text, judge)


def _grows_still(record: Record, own: Sequence[Record]) -> bool:
    """Tell whether a better rate beyond the edge would have the best one grow more."""
    ratios = sorted({r["ratio"] for r in own})
    sparse = record["ratio"] < math.sqrt(ratios[0] * ratios[-1])
    return bool(record["edge"] == ("highest" if sparse else "lowest"))


def _by_case(own: Sequence[Record]) -> list[Fit]:
    return [fit for unit in grouped(own, *CELL).values() if (fit := _fit(unit)) is not None]


def _by_seed(own: Sequence[Record]) -> tuple[list[Fit], str, list[Record]]:
    """Return a fit a seed, averaged over cases, what to say of that, and the records behind them.

    A case, a model and task, has the ratios that any of its seeds has; a seed that lacks one of
    them is none of the case's.
    """
    units = grouped(own, *CELL, "seed")
    places = {case: {r["ratio"] for r in group} for case, group in grouped(own, *CELL).items()}
    found: dict[tuple[Any, ...], dict[int, Fit]] = {case: {} for case in places}
    for (*case, seed), unit in units.items():
        at = tuple(case)
        if {r["ratio"] for r in unit} == places[at] and (fit := _fit(unit)) is not None:
            found[at][seed] = fit
    begun: dict[tuple[Any, ...], Set[int]] = {case: fits.keys() for case, fits in found.items()}
    chosen, seeds = largest_block(begun)
    left = len({seed for *_, seed in units}) - len(seeds)
    over = f", {over_which(chosen, found)}" * (len(found) > 1)
    over += f", {left} left out: incomplete" * (left > 0)
    fits = [[found[case][seed] for case in chosen] for seed in seeds]
    means = [(fmean(s for s, _ in each), fmean(off for _, off in each)) for each in fits]
    return means, over, [r for case in chosen for seed in seeds for r in units[*case, seed]]


def _fit(unit: Sequence[Record]) -> Fit | None:
    """Return the exponent of a repetition and how far the grid lets it be off."""
    rates = {r["ratio"]: r["lr"] for r in unit}
    steps = [b / a for r in unit for a, b in pairwise(r["tried"])]
    if len(rates) < 2 or not steps:
        return None
    x = [math.log(ratio) for ratio in rates]
    fit = linear_regression(x, [math.log(lr) for lr in rates.values()]).slope
    mean = sum(x) / len(x)
    reach = sum(abs(v - mean) for v in x) / sum((v - mean) ** 2 for v in x)
    return fit, math.log(max(steps)) / 2 * reach


def _or(value: float, other: float) -> float:
    return other if math.isnan(value) else value
