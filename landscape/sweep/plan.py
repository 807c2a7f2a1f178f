"""The plan of a sweep: which runs are needed, as far as the finished ones tell.

A plan depends on the grids and on finished rows alone: not on what ran when, was stopped or failed.
The same rows make the same plan, so that a sweep can be stopped anywhere, and a grid can grow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from landscape.errors import UserError
from landscape.sweep.config import RunConfig
from landscape.sweep.executors import Job
from landscape.sweep.grid import Grid
from landscape.tasks.metrics import METRICS
from landscape.training.baselines import BASELINES

Rows: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Finished rows by their runs' addresses."""
Edge = Literal["", "lowest", "highest", "only"]


@dataclass(frozen=True)
class Choice:
    """Hold runs that differ in their seeds alone, at the learning rate that they have.

    Args:
        runs: of the grid, the one with the first seed first.
        tried: the rates among which dev chose with the first seed; none where the rate was given.
        edge: the end of those rates at which the chosen one lies, so that a better one may lie
            beyond; "" where it lies between others, or was given.
    """

    runs: tuple[RunConfig, ...]
    tried: tuple[float, ...] = ()
    edge: Edge = ""

    @property
    def lr(self) -> float | None:
        """Return the learning rate of the runs."""
        return self.runs[0].lr


@dataclass(frozen=True)
class _Search:
    """Hold where the search for the rate of cells that belong together stands.

    Args:
        grid, cells: of the search.
        rates: tried so far; none where the rate is given.
        best: of them, or the rate that is given.
        found: whether `best` is final.
        left: rates that may still be added.
    """

    grid: Grid
    cells: Sequence[RunConfig]
    rates: tuple[float, ...]
    best: float | None
    found: bool
    left: int = 0

    def runs(self) -> tuple[RunConfig, ...]:
        """Return the runs at the best rate, once it is found."""
        return tuple(cell.replace(lr=self.best) for cell in self.cells) if self.found else ()


def wanted(grids: Grid | Sequence[Grid], rows: Rows) -> list[Job]:
    """List all jobs that grids are known to need, finished ones included, in the grids' order.

    A run whose rate is given is needed. A cell whose rate is chosen needs every rate tried with the
    first seed; a rate beyond, while the best of them lies on their edge; and then its other seeds
    at the best. Best is the best of the task's metric on dev; ties go to the lower loss there, then
    to the smaller rate; a run that diverged is worse than any other. Cells that differ in `seed`
    and `mask_seed` alone belong together, and the first seed is that of the first.

    Args:
        grids: one or several; runs that they share are one job, unless they are measured by the
            same name with other options.
        rows: finished rows, of these grids or of others, by address.

    Raises:
        UserError: a run without a learning rate, or a mask without one of ratio and count; a rate
            over the ratio where there is none.
    """
    jobs: dict[str, list[Job]] = {}
    for search in _searches(grids, rows):
        tries = [Job(search.cells[0].replace(lr=rate)) for rate in search.rates]
        for job in (*tries, *(Job(run, search.grid.measure) for run in search.runs())):
            _join(jobs.setdefault(job.config.address, []), job)
    return [job for same in jobs.values() for job in same]


def chosen(grids: Grid | Sequence[Grid], rows: Rows) -> list[Choice]:
    """List what cells' learning rates are, in the grids' order; cells still in search are left out.

    Args:
        grids, rows: as for `wanted`.
    """
    return [
        Choice(search.runs(), search.rates, _edge(search))
        for search in _searches(grids, rows) if search.found
    ]  # fmt: skip


def at_most(grids: Grid | Sequence[Grid], rows: Rows) -> int:
    """Return how many runs grids can come to, if every search is widened as often as it may be.

    Args:
        grids, rows: as for `wanted`.
    """
    known = {job.config.address for job in wanted(grids, rows)}
    open_ = [search for search in _searches(grids, rows) if not search.found]
    return len(known) + sum(search.left + len(search.cells) - 1 for search in open_)


def _searches(grids: Grid | Sequence[Grid], rows: Rows) -> Iterator[_Search]:
    for grid in [grids] if isinstance(grids, Grid) else grids:
        for cells in _together(grid):
            yield _search(grid, cells, rows)


def _together(grid: Grid) -> list[list[RunConfig]]:
    """Gather the cells that share a rate, each cell once, in the order of their first ones."""
    found: dict[str, dict[str, RunConfig]] = {}
    for cell in grid.cells():
        _refuse_incomplete(cell, grid)
        own = grid.rates is not None and grid.rates.every_seed
        key = cell.replace(seed=cell.seed if own else 0, mask_seed=None).address
        found.setdefault(key, {}).setdefault(cell.address, cell)
    return [list(cells.values()) for cells in found.values()]


def _refuse_incomplete(cell: RunConfig, grid: Grid) -> None:
    """Refuse a run without a learning rate, or with a mask of no size or of two."""
    if cell.lr is None and cell.method != "none" and grid.rates is None:
        raise UserError(
            "expected a learning rate for every run, got none on the axis lr, in shared, or as "
            "rates; name it in one of these"
        )
    pattern = ":" in str(cell.options.get("granularity", ""))  # n:m is a budget of its own
    sizes = sum(size is not None for size in (cell.ratio, cell.count, pattern or None))
    if cell.method not in ("none", *BASELINES) and sizes != 1:
        got = "both" if sizes else "neither"
        raise UserError(
            f"expected ratio or count, one of the two, for the mask of every run, got {got} for "
            f"method {cell.method}; name it in shared or on an axis"
        )


def _search(grid: Grid, cells: Sequence[RunConfig], rows: Rows) -> _Search:
    """Follow the search for the rate of cells that belong together as far as its rows go."""
    first, rates = cells[0], grid.rates
    if first.lr is not None or first.method == "none" or rates is None:
        return _Search(grid, cells, (), first.lr, found=True)
    tried = rates.start(first.ratio)
    left = rates.widen if len(rates.tried) > 1 else 0
    if len(tried) == 1 and not left:  # nothing to choose: the run is measured as it trains
        return _Search(grid, cells, tried, tried[0], found=True)
    while True:
        runs = [first.replace(lr=rate).address for rate in tried]
        if not all(run in rows for run in runs):
            return _Search(grid, cells, tried, None, found=False, left=left)
        # of equals, max takes the first: the smallest rate
        best = max(zip(tried, runs, strict=True), key=lambda pair: _worth(rows[pair[1]]))[0]
        beyond = rates.beyond(tried, best) if left else None
        if beyond is None:
            return _Search(grid, cells, tried, best, found=True)
        tried, left = tuple(sorted((*tried, beyond))), left - 1


def _edge(search: _Search) -> Edge:
    """Name the end of the rates tried at which the best lies."""
    if search.best not in (*search.rates[:1], *search.rates[-1:]):
        return ""
    if len(search.rates) == 1:
        return "only"
    return "lowest" if search.best == search.rates[0] else "highest"


def _worth(row: Mapping[str, Any]) -> tuple[bool, float, float]:
    """Return what a run is worth to the choice of a rate; larger is better."""
    outcome = row["outcome"]
    if outcome["diverged"]:
        return False, -math.inf, -math.inf
    dev, metric = outcome["dev"], outcome["metric"]
    if dev is None and outcome.get("evaluations"):  # none of them was a number
        return False, -math.inf, -math.inf
    if dev is None:
        raise UserError(
            f"expected dev examples, by which a learning rate is chosen, got none for the run "
            f"{row['address']} of {row['config']['task']}; give the rate, or a task with such"
        )
    lower = metric in METRICS and not METRICS[metric].larger_is_better
    value, loss = dev[metric], dev["loss"]
    return True, _or_worst(-value if lower and value else value), _or_worst(loss and -loss)


def _or_worst(value: float | None) -> float:
    """Return a number, or the worst where there is none: rows have null for what is not finite."""
    return -math.inf if value is None else value


def _join(same: list[Job], job: Job) -> None:
    """Add a job to those of the same run, within one of them unless their options differ."""
    for place, other in enumerate(same):
        if all(other.measure.get(name, how) == how for name, how in job.measure.items()):
            both = {**other.measure, **job.measure}
            same[place] = dataclasses.replace(other, measure=both)
            return
    same.append(job)
