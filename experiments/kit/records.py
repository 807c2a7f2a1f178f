"""Rows as an artefact sees them: flat records of the runs of its grids, at the rates chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landscape.sweep.config import RunConfig
    from landscape.sweep.grid import Grid

Row = Mapping[str, Any]
Record = dict[str, Any]
"""One run, flat.

All values of its configuration (model, task, method, ratio, lr, seed, options, ...); ``arm``, its
method and schedule; ``dev`` and ``test``, the task's metric there, ``dev_loss``, ``test_loss`` and
``n`` (test examples); ``scored``, the task and that metric; ``device``, that computed it; the rest
of its outcome (count, distance, diverged, correct, train_loss, seconds, ...), the ratio achieved as
``trainable_ratio``; what was measured, as ``sharpness_before``: a name that does not begin with the
measurement's has it in front, as in ``sharpness_converged_after``; ``tried``, the rates among which
`lr` was chosen, and ``edge``, the end of them at which it lies ("" for none); ``scaled``, whether
they were over the ratio; ``every_seed``, whether each seed chose a rate of its own."""


METRICS = {"pearson_spearman": "mean of Pearson and Spearman"}
"""Metrics whose names are not what they are called."""


@dataclass(frozen=True)
class Run:
    """Hold a run of a grid: its configuration, at the rate chosen where that is known, its row."""

    grid: Grid
    config: RunConfig
    row: Row | None
    tried: tuple[float, ...] = ()
    edge: str = ""

    @property
    def every_seed(self) -> bool:
        """Tell whether each seed of the grid chooses a rate of its own."""
        return bool(self.grid.rates and self.grid.rates.every_seed)


def runs(rows: Iterable[Row], grids: Sequence[Grid]) -> list[Run]:
    """List every cell of some grids, in their order, with its row where there is one.

    A run that several grids have is listed once, unless they choose or measure it otherwise, so
    that no seed counts twice.
    """
    from landscape.sweep.plan import chosen

    by_address = {row["address"]: row for row in rows}
    found: list[Run] = []
    places: dict[tuple[Any, ...], list[int]] = {}
    for grid in grids:
        choices = {_open(run): (run, choice) for choice in chosen(grid, by_address)
                   for run in choice.runs}  # fmt: skip
        for cell in grid.cells():
            known = choices if cell.lr is None else {}
            run, choice = known.get(_open(cell), (cell, None))
            given = (choice.tried, choice.edge) if choice else ()
            one = Run(grid, run, by_address.get(run.address), *given)
            same = places.setdefault((run.address, *given, one.every_seed), [])
            for place in same:
                few, many = sorted((found[place], one), key=lambda r: len(r.grid.measure))
                if few.grid.measure.items() <= many.grid.measure.items():
                    found[place] = many
                    break
            else:
                same.append(len(found))
                found.append(one)
    return found


def rows_of(rows: Iterable[Row], grids: Sequence[Grid]) -> list[Row]:
    """Return the rows that some grids need, also those at the rates not chosen, by address."""
    from landscape.sweep.plan import wanted

    by_address = {row["address"]: row for row in rows}
    needed = {job.config.address for job in wanted(list(grids), by_address)}
    return [by_address[address] for address in sorted(needed) if address in by_address]


def is_whole(run: Run) -> bool:
    """Tell whether a run has a row with all that its grid measures."""
    from landscape.sweep.measurements import key

    return run.row is not None and all(
        key(name, options) in run.row["measured"] for name, options in run.grid.measure.items()
    )


def record(run: Run) -> Record:
    """Return a run that has a row as a flat record."""
    from landscape.sweep.measurements import key

    assert run.row is not None
    outcome, found = dict(run.row["outcome"]), dict(run.row["config"])
    for split in ("dev", "test"):
        scores = outcome.pop(split, None) or {}
        found[split] = scores.get(outcome["metric"])
        found[f"{split}_loss"] = scores.get("loss")
        found["n"] = scores.get("n")
    found["scored"] = f"{found['task']} ({named(outcome['metric'])})"
    found |= outcome | {"ratio": run.config.ratio, "trainable_ratio": outcome.get("ratio")}
    found |= {"tried": run.tried, "edge": run.edge, "budget": run.config.count}
    found["scaled"] = bool(run.tried and run.grid.rates and run.grid.rates.over_ratio)
    found["every_seed"] = run.every_seed
    found["device"] = run.row["provenance"].get("device")
    found["arm"] = " ".join(filter(None, (run.config.method, run.config.schedule)))
    for name, options in run.grid.measure.items():
        short = name.rpartition(":")[2].lower()
        for value, measured in run.row["measured"].get(key(name, options), {}).items():
            found[value if value.startswith(short) else f"{short}_{value}"] = measured
    return found


def named(metric: str) -> str:
    """Write a metric's name as readers know it.

    >>> named("token_f1"), named("pearson_spearman")
    ('token f1', 'mean of Pearson and Spearman')
    """
    return METRICS.get(metric, metric.replace("_", " "))


def _open(config: RunConfig) -> str:
    """Return what a run has in common with itself at other rates."""
    return config.replace(lr=None).address


def present(records: Sequence[Record], *values: str) -> list[Record]:
    """Return the records that have some values."""
    return [r for r in records if all(r.get(v) is not None for v in values)]


def matching(records: Sequence[Record], where: Mapping[str, Any]) -> list[Record]:
    """Return the records with some values; a value may be a tuple of several.

    A run to which a coordinate does not apply, such as the ratio of full fine-tuning, has None
    there and matches any value of it.

    >>> matching([{"ratio": 0.1}, {"ratio": 0.2}, {"ratio": None}], {"ratio": 0.1})
    [{'ratio': 0.1}, {'ratio': None}]
    """

    def met(record: Record) -> bool:
        return all(
            record[name] is None or record[name] in (v if isinstance(v, tuple) else (v,))
            for name, v in where.items()
        )

    return [r for r in records if met(r)]


def grouped(records: Sequence[Record], *by: str) -> dict[tuple[Any, ...], list[Record]]:
    """Gather records with the same coordinates, in the order of the first of each group.

    >>> list(grouped([{"a": 1, "n": 1}, {"a": 2, "n": 2}, {"a": 1, "n": 3}], "a"))
    [(1,), (2,)]
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record[name] for name in by), []).append(record)
    return groups
