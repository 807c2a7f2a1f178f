"""Rows in groups, one a line of a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from experiments.kit.intervals import mean_std
from experiments.kit.store import Row

#: what stands in a table for the rows of one group
Column = Callable[[Sequence[Row]], str]


def grouped(rows: Sequence[Row], *by: str) -> list[list[Row]]:
    """Gather rows with the same coordinates, in the order of the first of each group.

    >>> grouped([{"a": 1, "n": 1}, {"a": 2, "n": 2}, {"a": 1, "n": 3}], "a")
    [[{'a': 1, 'n': 1}, {'a': 1, 'n': 3}], [{'a': 2, 'n': 2}]]
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    return list(groups.values())


def lines(groups: Sequence[Sequence[Row]], columns: Mapping[str, Column]) -> list[dict[str, str]]:
    """Return one line a group, with the text of each column."""
    return [{name: write(group) for name, write in columns.items()} for group in groups]


def first(value: str, form: str = "") -> Column:
    """Write what all rows of a group have in common."""
    return lambda group: f"{group[0][value]:{form}}"


def spread(value: str, form: str = ".3g") -> Column:
    """Write the mean of a value and its standard deviation."""
    return lambda group: mean_std([row[value] for row in group], form)


def seeds(group: Sequence[Row]) -> str:
    """Write over how many rows the others are taken."""
    return str(len(group))


def paper(values: Mapping[str, Mapping[float, float]], axis: str, form: str = ".3f") -> Column:
    """Write the paper's number, given in per cent by arm and ratio, as a share.

    >>> paper({"random": {1e-2: 87.6}}, "mask")([{"mask": "random", "ratio": 0.01}])
    '0.876'
    """

    def write(group: Sequence[Row]) -> str:
        ours = group[0]
        found = [v for p, v in values[ours[axis]].items() if math.isclose(p, ours["ratio"])]
        return f"{found[0] / 100:{form}}" if found else "-"

    return write
