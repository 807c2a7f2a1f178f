"""Tables as values: which lines, and what stands in each column; a column is records -> text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from experiments.kit.records import Record, grouped, matching, present

Column = Callable[[Sequence[Record]], str]
"""What stands in a cell of a table for the records of its line; "-" where there is nothing."""
Lookup = Callable[[Record], float | None]
"""The paper's number for a record, in the unit of ours; None where the paper has none."""
NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """Describe a table: one line a group of records.

    Args:
        by: coordinates of a group; each is a column of its own, in front.
        columns: heading -> what stands there.
        across: a coordinate whose values lie side by side: every column is there for each of them,
            under a heading such as "sst2" or "ratio 0.01", or "sst2, accuracy" where there are
            several.
        where: values of the records that take part.
    """

    by: Sequence[str]
    columns: Mapping[str, Column]
    across: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)

    def lines(self, records: Sequence[Record]) -> list[dict[str, str]]:
        """Return one line a group, in the order of the groups' first records."""
        chosen = matching(records, self.where)
        sides = list(grouped(chosen, self.across)) if self.across else [()]
        return [
            {name: written(value) for name, value in zip(self.by, at, strict=True)}
            | {
                self._heading(side, name): column(group) if group else NOTHING
                for side in sides
                for name, column in self.columns.items()
                for group in [_beside(own, self.across, side)]
            }
            for at, own in grouped(chosen, *self.by).items()
        ]

    def _heading(self, side: tuple[Any, ...], name: str) -> str:
        if not side:
            return name
        (value,) = side
        number = f"{spoken(self.across)} " if isinstance(value, int | float) else ""
        heading = f"{number}{written(value)}"
        return heading if len(self.columns) == 1 else f"{heading}, {name}"


@dataclass(frozen=True)
class Lines:
    """Describe a table that is made otherwise: ``lines(records)`` returns its lines."""

    lines: Callable[[Sequence[Record]], list[dict[str, str]]]


def _beside(own: Sequence[Record], across: str, side: tuple[Any, ...]) -> list[Record]:
    return [r for r in own if not side or (r[across],) == side]


def written(value: object) -> str:
    """Write a coordinate.

    >>> [written(v) for v in (1e-05, "random", None, 13452)]
    ['1e-05', 'random', '-', '13,452']
    """
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def spoken(name: str) -> str:
    """Write the name of a record's value in words.

    >>> spoken("sharpness_before")
    'sharpness before'
    """
    return name.replace("_", " ")


def mean_std(value: str, form: str = ".3f") -> Column:
    """Write mean ± standard deviation; a diverged run counts as what it scored.

    Of how many runs it is, is said where some of the line's lack the value.

    >>> mean_std("test")([{"test": 0.8}, {"test": 0.9}]), mean_std("test")([{"test": 0.8}])
    ('0.850 ± 0.071', '0.800')
    >>> mean_std("test")([{"test": 0.8}, {"test": None}])
    '0.800 (1 of 2)'
    """

    def write(group: Sequence[Record]) -> str:
        values = [r[value] for r in present(group, value)]
        if not values:
            return NOTHING
        deviation = f" ± {stdev(values):{form}}" if len(values) > 1 else ""
        return f"{fmean(values):{form}}{deviation}{_of(values, group)}"

    return write


def geometric(value: str, form: str = ".3g") -> Column:
    """Write the geometric mean of magnitudes and, as a factor, their geometric deviation.

    For what scatters over decades, such as a sharpness. A magnitude of zero has no logarithm and is
    named.

    >>> geometric("sharpness")([{"sharpness": 1.0}, {"sharpness": -100.0}])
    '10 ×÷ 26'
    """

    def write(group: Sequence[Record]) -> str:
        values = [abs(r[value]) for r in present(group, value)]
        logs = [math.log(v) for v in values if v > 0]
        if not logs:
            return NOTHING if not values else "0"
        factor = f" ×÷ {math.exp(stdev(logs)):.2g}" if len(logs) > 1 else ""
        zeros = f" ({len(values) - len(logs)} of them 0)" if len(logs) < len(values) else ""
        return f"{math.exp(fmean(logs)):{form}}{factor}{zeros}{_of(values, group)}"

    return write


def _of(values: Sequence[float], group: Sequence[Record]) -> str:
    """Say over how many of a line's runs a mean is taken, where some lack the value."""
    return "" if len(values) == len(group) else f" ({len(values)} of {len(group)})"


def first(value: str, form: str = "") -> Column:
    """Write what all records of a line have in common; several values are listed."""

    def write(group: Sequence[Record]) -> str:
        found = dict.fromkeys(r[value] for r in present(group, value))
        return ", ".join(f"{v:{form}}" if form else written(v) for v in found) or NOTHING

    return write


def count() -> Column:
    """Write the number of trainable weights, the mean where masks differ."""
    return lambda group: f"{fmean(r['count'] for r in group):,.0f}"


def rate() -> Column:
    """Write the learning rate, with a star where it lies at the edge of those tried."""

    def write(group: Sequence[Record]) -> str:
        found = [f"{r['lr']:g}{'*' if r['edge'] else ''}" for r in present(group, "lr")]
        return ", ".join(dict.fromkeys(found)) or NOTHING

    return write


def seeds() -> Column:
    """Write how many runs a line has; a mean over fewer says so itself."""
    return lambda group: str(len(group))


def share(value: str) -> Column:
    """Write how many records of a line have a value that is true, of all that have it."""

    def write(group: Sequence[Record]) -> str:
        found = present(group, value)
        return f"{sum(bool(r[value]) for r in found)} of {len(found)}" if found else NOTHING

    return write


def paper(lookup: Lookup, form: str = ".3f") -> Column:
    """Write the paper's number for a line.

    >>> paper(lambda r: 0.876)([{"method": "random"}]), paper(lambda r: None)([{}])
    ('0.876', '-')
    """

    def write(group: Sequence[Record]) -> str:
        found = lookup(group[0])
        return NOTHING if found is None else f"{found:{form}}"

    return write
