"""The papers' tables as data: one number by its place, or a table's numbers one by one.

Names are this project's: tasks, models and methods as a run's configuration has them; the papers'
own are in each file's "names". Scores are shares of one, where the papers print per cent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from landscape.errors import UserError
from landscape.sweep.naming import known

PAPERS = {
    "random_masking": "Xu & Zhang 2024",
    "id3": "Agarwal et al. 2024",
}
#: what a row holds beside its place, task -> number
VALUES = ("score", "std", "lr", "epochs", "eval_steps", "length", "train", "dev", "test")
Place = str | float


def printed(paper: str, table: str, *, value: str = "score", **place: Place) -> float:
    """Return one printed number.

    Args:
        paper: "random_masking" or "id3".
        table: its number, such as "table 5".
        value: "score" (a share of one), "std" of runs, "lr", or another of `VALUES`.
        place: task, and of model, method, ratio, count, rank, on as many as tell the rows apart.

    Raises:
        UserError: a paper, a table or a place that is not there, or several that answer.

    >>> printed("random_masking", "table 5", task="sst2", model="facebook/opt-125m",
    ...     method="random", ratio=1e-3)
    0.873
    >>> printed("id3", "table 1", task="rte", method="id3", count=103_000, value="std")
    0.0217
    """
    found = [row for row in rows(paper, table) if _lies_at(row, place) and value in row]
    if len(found) == 1:
        return float(found[0][value])
    at = ", ".join(f"{k} {v}" for k, v in place.items()) or "no place"
    if found:
        raise UserError(
            f"expected a place that {table} of {PAPERS[paper]} has once, got {at}, which it has "
            f"{len(found)} times; name more of {', '.join(_axes(found))}"
        )
    raise UserError(
        f"expected a {value} that {table} of {PAPERS[paper]} prints, got {at}"
        f"{_wrong(rows(paper, table), place)}"
    )


def beside(
    paper: str, table: str, *names: str, value: str = "score", **fixed: Place
) -> Callable[[Mapping[str, Any]], float | None]:
    """Return a function that looks a table's number up for a record; None where it has none.

    Args:
        paper, table, value: as for `printed`.
        names: of the record's values that are part of the place, such as "method" and "ratio".
        fixed: the rest of the place, where the table does not have the record's own: one of the
            paper's models and tasks, beside ours.

    >>> look = beside("random_masking", "table 8", "ratio", model="facebook/opt-125m", task="sst2")
    >>> look({"ratio": 1e-4}), look({"ratio": 2e-4})
    (0.833, None)
    >>> look({"ratio": 1e-4, "model": "facebook/opt-13b", "task": "rte"})
    0.818
    """
    table_rows = rows(paper, table)

    def look(record: Mapping[str, Any]) -> float | None:
        own = {name: record.get(name) for name in fixed}
        there = any(_lies_at(row, own) for row in table_rows)
        named = {name: record[name] for name in names if record.get(name) is not None}
        place = named | (own if there else fixed)
        found = [r for r in table_rows if _lies_at(r, place) and value in r]
        return float(found[0][value]) if len(found) == 1 else None

    return look


def rows(paper: str, table: str) -> Sequence[Mapping[str, Any]]:
    """Return a table as one row a task: its place (model, method, ratio, ..., task) and values.

    Raises:
        UserError: an unknown paper or table.
    """
    tables = source(paper)["tables"]
    return _tidy(paper, known(f"a table of {PAPERS[paper]}", table, tables))


@cache
def source(paper: str) -> Mapping[str, Any]:
    """Return a paper's file: its source, the unit, the papers' names, its tables.

    Raises:
        UserError: an unknown paper.
    """
    known("a paper", paper, PAPERS)
    text = (Path(__file__).parent / f"{paper}.json").read_text(encoding="utf-8")
    read: Mapping[str, Any] = json.loads(text)
    return read


@cache
def _tidy(paper: str, table: str) -> tuple[Mapping[str, Any], ...]:
    return tuple(_one_a_task(source(paper)["tables"][table]))


def _one_a_task(table: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for row in table["rows"]:
        place = table.get("shared", {}) | {k: v for k, v in row.items() if k not in VALUES}
        values = {name: row[name] for name in VALUES if name in row}
        for task in dict.fromkeys(task for by_task in values.values() for task in by_task):
            here = {name: by_task[task] for name, by_task in values.items() if task in by_task}
            yield {**place, "task": task, **here}


def _lies_at(row: Mapping[str, Any], place: Mapping[str, Place | None]) -> bool:
    return all(k in row and _same(row[k], v) for k, v in place.items())


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)


def _axes(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names by which some rows differ."""
    names = dict.fromkeys(k for row in found for k in row if k not in VALUES)
    return [k for k in names if len({row.get(k) for row in found}) > 1]


def _wrong(tidy: Sequence[Mapping[str, Any]], place: Mapping[str, Place]) -> str:
    """Return which part of a place is nowhere in a table, and what is there instead."""
    for name, given in place.items():
        there = list(dict.fromkeys(row[name] for row in tidy if name in row))
        if not any(_same(x, given) for x in there):
            what = ", ".join(f"{x:g}" if isinstance(x, float) else str(x) for x in there)
            return f"; it has {name} {what}" if there else f"; its rows have no {name}"
    return "; it has each of these, but not together"
