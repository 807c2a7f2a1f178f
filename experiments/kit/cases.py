"""One panel and one finding a case: a mean over models and tasks hides of which of them it is true.

A case is a model and task. Which there are the records say, so that a preset that has other cases,
or a store in which some are not run yet, shows what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from experiments.kit.columns import written
from experiments.kit.comparisons import CELL
from experiments.kit.judge import Finding
from experiments.kit.panels import Panel
from experiments.kit.records import Record, grouped
from experiments.kit.statements import Statement

Place = tuple[Any, ...]


def apart(
    *panels: Panel, by: Sequence[str] = CELL
) -> Callable[[Sequence[Record]], list[Panel]]:  # fmt: skip
    """Return what draws some panels for every case among the records, for an artefact's `panels`.

    Args:
        panels: of one case; the values by which it differs from others join the title.
        by: the coordinates that tell cases apart. A record that lacks one, such as full
            fine-tuning without a budget, is drawn in every case that agrees with it otherwise.

    >>> drawn = apart(Panel("Accuracy", print), by=("model", "task"))
    >>> [p.title for p in drawn([{"model": "m", "task": "sst2"}, {"model": "m", "task": "rte"}])]
    ['Accuracy, sst2', 'Accuracy, rte']
    """

    def drawn(records: Sequence[Record]) -> list[Panel]:
        every = list(grouped(records, *by))
        places = [at for at in every if not any(_within(at, other) for other in every)]
        return [
            replace(p, title=_joined(p.title, _name(at, places, by)),
                    where={**p.where, **dict(zip(by, at, strict=True))})
            for at in places for p in panels
        ]  # fmt: skip

    return drawn


def case_by_case(
    *statements: Statement, by: Sequence[str] = CELL
) -> Callable[[Sequence[Record]], list[Finding]]:
    """Return what judges statements in every case by itself, for an artefact's `further`.

    A statement averages over cases within a seed: these findings say in which it is true. They are
    read beside it, and their p-values are adjusted for nothing. One case has none of its own.
    """

    def further(records: Sequence[Record]) -> list[Finding]:
        cases = grouped(records, *by)
        if len(cases) < 2:
            return []
        found = [(at, s.judge(own)) for s in statements for at, own in cases.items()]
        return [
            replace(f, statement=f"{_name(at, list(cases), by)}: {f.statement}", kind="case")
            for at, f in found
        ]

    return further


def _within(at: Place, other: Place) -> bool:
    """Tell whether the records of one place are drawn in another, which says more."""
    return at != other and all(a in (None, b) for a, b in zip(at, other, strict=True))


def _name(at: Place, places: Sequence[Place], by: Sequence[str]) -> str:
    """Name a case by what differs among them; nothing of an only one."""
    columns = zip(by, at, zip(*places, strict=True), strict=True)
    return ", ".join(
        f"{written(value)} weights" if name == "budget" and value is not None else written(value)
        for name, value, values in columns if len(set(values)) > 1
    )  # fmt: skip


def _joined(title: str, name: str) -> str:
    return ", ".join(filter(None, (title, name)))
