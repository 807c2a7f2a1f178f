"""An artefact: a figure or table as a view of runs; which, how it looks, what it states.

An artefact's module imports nothing heavy at its top, so that listing them all takes no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.kit.columns import Lines, Table
from experiments.kit.comparisons import Compared, judged
from experiments.kit.judge import Finding
from experiments.kit.missing import missing
from experiments.kit.panels import Panel
from experiments.kit.records import Record, Row, is_whole, record, rows_of, runs
from experiments.kit.statements import Statement
from experiments.kit.statistics import family
from landscape.errors import UserError
from landscape.shown import counted
from landscape.sweep.grid import Grid
from landscape.sweep.naming import known

PRESETS = ("smoke", "local", "paper")
_NAMED = 4
"""Most cells that lack runs that are named."""


def _nothing(record: Record) -> Mapping[str, Any]:
    return {}


def _none(records: Sequence[Record]) -> Sequence[Finding]:
    return ()


@dataclass(frozen=True)
class Artefact:
    """Describe a figure or table of a paper, or one of ours.

    Args:
        name: on the command line.
        title: one sentence.
        source: paper and number, or "ours".
        grids: ``grids(preset)`` lists the grids of runs, data alone; a preset is "smoke" (offline
            on a CPU within minutes), "local" (the largest honest one run here) or "paper" (the
            paper's own setting).
        tables: heading -> table.
        statements: short name -> statement; claims of the ledger name them.
        panels: of the figure, or what makes them of the records.
        lead: the page's first paragraphs, plain text, told apart by an empty line.
        caption: of the figure.
        differences: (how the setting differs from the paper's, what that may cause); a name in
            braces is filled with the records' values of it.
        further: ``further(records)`` gives more findings, where their number depends on them.
        derive: ``derive(record)`` gives further values of a record, or other ones: ``arm`` for
            instance, which is the method and its schedule otherwise.
        columns: panels side by side.
        presets: those that `grids` knows.
        needs: modules of optional packages without which it cannot run.
    """

    name: str
    title: str
    source: str
    grids: Callable[[str], Sequence[Grid]]
    tables: Mapping[str, Table | Lines]
    statements: Mapping[str, Statement]
    panels: Sequence[Panel] | Callable[[Sequence[Record]], Sequence[Panel]]
    lead: str
    caption: str
    differences: tuple[tuple[str, str], ...] = ()
    further: Callable[[Sequence[Record]], Sequence[Finding]] = _none
    derive: Callable[[Record], Mapping[str, Any]] = _nothing
    columns: int = 3
    presets: Sequence[str] = PRESETS
    needs: tuple[str, ...] = ()

    def of(self, preset: str) -> Sequence[Grid]:
        """Return the grids of a preset.

        Raises:
            UserError: it has no such preset.
        """
        return self.grids(known(f"a preset of {self.name}", preset, self.presets))

    def records(self, rows: Iterable[Row], grids: Sequence[Grid]) -> list[Record]:
        """Return the records of the runs of some grids that have a row, in the grids' order.

        Raises:
            UserError: none has.
        """
        found = [record(run) for run in runs(rows, grids) if run.row is not None]
        if not found:
            raise UserError(f"expected runs of {self.name} among the rows, got none; run it first")
        return [r | dict(self.derive(r)) for r in found]

    def findings(self, records: Sequence[Record]) -> dict[str, Finding]:
        """Judge every statement; those of differences are a family, adjusted by Holm.

        Thresholds, exponents, agreements, several statements at once and cases are none of it;
        `experiments.kit.correction` says so beside them.

        Findings whose number depends on the records have their own sentences as names.
        """
        found = {name: s.judge(records) for name, s in self.statements.items()}
        tested = {
            name: f
            for name, f in found.items()
            if isinstance(f, Compared) and f.kind == "difference"
        }
        if len(tested) > 1:
            adjusted = family({name: f.difference for name, f in tested.items()})
            found |= {
                name: judged(f.statement, f.label, adjusted[name]) for name, f in tested.items()
            }
        return found | {f.statement: f for f in self.further(records)}

    def drawn(self, records: Sequence[Record]) -> Sequence[Panel]:
        """Return the panels of the figure."""
        return self.panels(records) if callable(self.panels) else self.panels

    def lines(self, records: Sequence[Record]) -> dict[str, list[dict[str, str]]]:
        """Return the lines of every table that has one."""
        tables = {heading: table.lines(records) for heading, table in self.tables.items()}
        return {heading: lines for heading, lines in tables.items() if lines}

    def unfinished(self, rows: Iterable[Row], preset: str) -> str:
        """Say how many of a preset's runs are there with all that is measured on them.

        Nothing where all are. The first cells that lack runs are named, with how many they lack.
        """
        there, expected = self.there(rows, preset)
        if there == expected:
            return ""
        said = f"unfinished: {there} of {expected} runs at chosen rates"
        lacking = missing(runs(rows, self.of(preset)), lambda r: (r | dict(self.derive(r)))["arm"])
        if len(lacking) > _NAMED:
            lacking[_NAMED:] = [f"and {counted(len(lacking) - _NAMED, 'more cell')}"]
        return f"{said}; missing: {'; '.join(lacking)}"

    def there(self, rows: Iterable[Row], preset: str) -> tuple[int, int]:
        """Count a preset's runs that are there with all that is measured, and all it has."""
        whole = [is_whole(run) for run in runs(rows, self.of(preset))]
        return sum(whole), len(whole)

    def used(self, rows: Iterable[Row], preset: str) -> list[Row]:
        """Return the rows that a preset needs, also those at rates not chosen."""
        return rows_of(rows, self.of(preset))
