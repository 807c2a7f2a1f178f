"""Grids of learning rates, gathered from the records of `rates`, and the errors of rules on them.

Its rows are the losses and the evidence that records hold, each with its case: `rows_of`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any

from experiments.kit.records import Record
from experiments.ours.rates_cases import case_of

if TYPE_CHECKING:
    from landscape.advisor import RateEvidence, RateSuggestion

Row = dict[str, Any]
HALF, EDGE = 0.5, 1e-6
#: constants of rules c / ratio that were fixed beforehand
FIXED = (1e-6, 1e-5)
#: two rates are tied while their paired mean difference is within this many standard errors
Z = 1.96
#: what the predictor scales for each optimizer
RULES = {"adamw": "matching step", "sgd": "2 / lambda_1"}


@dataclass(frozen=True)
class Grid:
    """Hold the grid of one case, optimizer and ratio, pooled over its seeds."""

    case: str
    optimizer: str
    ratio: float
    losses: dict[float, float]
    """rate -> mean development loss, infinite where a run diverged."""
    before: float
    """mean development loss before training"""
    best: float
    """rate of the lowest loss"""
    tied: tuple[float, ...]
    """rates whose losses cannot be told from the best's"""
    learnt: bool
    """whether the best rate is better than no training by more than Z standard errors"""
    evidence: tuple[RateEvidence, ...]
    """one a seed"""

    @property
    def at_edge(self) -> bool:
        """Tell whether the best is the end of the grid, so that a better one may lie outside."""
        return self.best in (min(self.losses), max(self.losses))

    @property
    def stable(self) -> tuple[float, float]:
        """Return the largest rate that ends no worse than it began, and the next, or infinity."""
        fine = [rate for rate, loss in self.losses.items() if loss <= self.before]
        top = max(fine, default=0.0)
        return top, min((rate for rate in self.losses if rate > top), default=math.inf)

    def suggestions(self) -> list[RateSuggestion]:
        """Return what the predictor says, one a seed."""
        from landscape.advisor import recommend

        return [recommend(evidence) for evidence in self.evidence]


def rows_of(records: Sequence[Record]) -> list[Row]:
    """Return the development losses before and after training, and the evidence, by case.

    The start of a case is that of its model and head, which cases with other masks share.
    """
    starts = [r for r in records if r["method"] == "none"]
    found: dict[tuple[Any, ...], Row] = {}
    for r in records:
        if r["method"] == "none":
            continue
        case, seed, ratio, rate = case_of(r), r["seed"], r["ratio"], r["lr"]
        cell = {"case": case, "seed": seed, "ratio": ratio,
                "optimizer": r["settings"].get("optimizer", "adamw")}  # fmt: skip
        for start in starts:
            if all(start[name] == r[name] for name in ("model", "head", "seed")):
                found["before", case, seed] = {
                    "kind": "before", "case": case, "seed": seed, "dev_losses": start["losses"],
                }  # fmt: skip
        place = (case, seed, ratio, cell["optimizer"])
        if "evidence" in r:
            found["evidence", *place] = {"kind": "evidence", **cell, "measured": r["evidence"]}
        if "losses" in r:
            found["train", *place, rate] = {
                "kind": "train",
                **cell,
                "rate": rate,
                "diverged": r["diverged"],
                "dev_losses": r["losses"],
            }
    return list(found.values())


def grids(rows: Sequence[Row]) -> list[Grid]:
    """Gather the grids, by case in the order of the rows, larger ratios first."""
    from landscape.advisor import RateEvidence

    found: dict[tuple[str, str, float], dict[float, dict[int, list[float]]]] = {}
    before: dict[str, dict[int, list[float]]] = {}
    evidence: dict[tuple[str, str, float], list[RateEvidence]] = {}
    for row in rows:
        place = (row["case"], row.get("optimizer", ""), row.get("ratio", 0.0))
        if row["kind"] == "before":
            before.setdefault(row["case"], {})[row["seed"]] = _losses(row)
        elif row["kind"] == "evidence":
            evidence.setdefault(place, []).append(RateEvidence(**row["measured"]))
        else:
            rates = found.setdefault(place, {})
            rates.setdefault(_on_grid(row), {})[row["seed"]] = _losses(row)
    gathered = [
        _grid(place, rates, before[place[0]], evidence[place]) for place, rates in found.items()
    ]
    order = list(before)
    return sorted(gathered, key=lambda g: (g.optimizer, order.index(g.case), -g.ratio))


def _on_grid(row: Row) -> float:
    """Return the rate; with SGD, whose unit differs between seeds, to the nearest half decade."""
    if row["optimizer"] == "adamw":
        return float(row["rate"])
    return float(10 ** (round(2 * math.log10(row["rate"])) / 2))


def _losses(row: Row) -> list[float]:
    return [math.inf if row.get("diverged") or loss is None else loss for loss in row["dev_losses"]]


def _grid(
    place: tuple[str, str, float], rates: Mapping[float, Mapping[int, list[float]]],
    before: Mapping[int, list[float]], evidence: Sequence[RateEvidence],
) -> Grid:  # fmt: skip
    seeds = sorted(set.intersection(*(set(runs) for runs in rates.values())))
    every = {rate: [x for s in seeds for x in runs[s]] for rate, runs in sorted(rates.items())}
    losses = {rate: fmean(values) for rate, values in every.items()}
    best = min(losses, key=lambda rate: (losses[rate], rate))
    tied = tuple(rate for rate, values in every.items() if _is_tied(values, every[best]))
    start = [x for s in seeds for x in before[s]]
    learnt = not _is_tied(start, every[best]) and losses[best] < fmean(start)
    return Grid(*place, losses, fmean(start), best, tied, learnt, tuple(evidence))


def _is_tied(values: Sequence[float], best: Sequence[float]) -> bool:
    """Say whether paired losses are within Z standard errors of the best's."""
    if not all(map(math.isfinite, values)):
        return False
    gaps = [a - b for a, b in zip(values, best, strict=True)]
    return fmean(gaps) <= Z * stdev(gaps) / math.sqrt(len(gaps))


@dataclass(frozen=True)
class Comparison:
    """Hold one seed of a grid: what a rule starts from, and the grid's best rate."""

    case: str
    reference: float
    best: float


def compared(chosen: Sequence[Grid], rule: str) -> list[Comparison]:
    """Return what a rule starts from on each seed of grids; one of RULES, or "c / ratio"."""
    return [
        Comparison(grid.case, _reference(rule, grid.ratio, evidence), grid.best)
        for grid in chosen for evidence in grid.evidence
    ]  # fmt: skip


def _reference(rule: str, ratio: float, evidence: RateEvidence) -> float:
    from landscape.advisor import matching_step

    if rule == "c / ratio":
        return 1 / ratio
    if rule == RULES["adamw"]:
        return matching_step(evidence)
    assert evidence.eigenvalue is not None
    return 2 / evidence.eigenvalue


def fitted(given: Sequence[Comparison]) -> float:
    """Return the constant with the least mean absolute error in decades: the median ratio.

    A reference that is not a positive number does not count.
    """
    ratios = [math.log10(p.best / p.reference) for p in given if 0 < p.reference < math.inf]
    return 10 ** median(ratios) if ratios else math.nan


def errors(given: Sequence[Comparison], constant: float) -> list[float]:
    """Return log10(predicted / best), infinite where there is no prediction."""
    return [
        math.log10(constant * p.reference / p.best) if 0 < p.reference < math.inf else math.inf
        for p in given
    ]


def held_out_errors(given: Sequence[Comparison]) -> list[float]:
    """Return the errors of each case with the constant fitted to the other cases."""
    found = []
    for case in dict.fromkeys(p.case for p in given):
        others = [p for p in given if p.case != case]
        found += errors([p for p in given if p.case == case], fitted(others or given))
    return found


def summary(found: Sequence[float]) -> dict[str, Any]:
    """Return the mean and largest absolute error, and how many are within half a decade."""
    sizes = [abs(x) for x in found]
    return {"mean": fmean(sizes), "largest": max(sizes), "n": len(sizes),
            "half": sum(x <= HALF + EDGE for x in sizes)}  # fmt: skip


def predicted_errors(chosen: Sequence[Grid]) -> list[float]:
    """Return log10(suggested / best) of the predictor as it is shipped, one a grid and seed."""
    return [math.log10(s.good / c.best) for c in chosen for s in c.suggestions()]
