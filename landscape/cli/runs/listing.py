"""``landscape runs list``."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from numbers import Integral
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from landscape.cli.runs.reading import read, records
from landscape.cli.shared import Outcome
from landscape.shown import counted, size

if TYPE_CHECKING:
    from pandas import DataFrame

_SHORT = 8
"""Digits of an address that a table shows at least."""


def list_runs(chosen: argparse.Namespace) -> Outcome:
    """List the runs that meet the conditions: what varies as a table, the rest once."""
    from landscape.sweep.choosing import chosen as meeting
    from landscape.sweep.choosing import conditions, known
    from landscape.sweep.comparison import differing

    wanted = conditions(chosen.where)
    found = read(chosen.source)
    frame = meeting(found.frame, wanted)
    settings = settings_of(frame)
    varying = differing(frame, settings)
    order = [known(frame, chosen.sort)] if chosen.sort else varying
    frame = frame.sort_values([*order, "address"])
    all_of_them = len(found.frame)
    of = f" of {all_of_them:,}" if wanted else ""
    print(f"{counted(len(frame), 'run')}{of} in {chosen.source}")
    found.tell()
    if len(frame):
        results = results_of(frame, settings)
        same = {*results} - {*scores_of(frame), *differing(frame, results)}
        constant = [
            n for n in (*settings, *results) if n not in varying and n in (*settings, *same)
        ]
        _print_constant(frame, constant)
        _print_table(frame, varying, [n for n in results if n not in same])
    return Outcome({"runs": records(frame), **found.as_dict()})


def settings_of(frame: DataFrame) -> list[str]:
    """Return the columns of a frame of runs that are settings."""
    from landscape.sweep.frame import CONFIG

    return [
        n for n in frame.columns if n in CONFIG or n.startswith(("options.", "settings."))
    ]  # fmt: skip


def results_of(frame: DataFrame, settings: Sequence[str]) -> list[str]:
    """Return the columns that are no settings, without empty ones: what is asked first is first."""
    from landscape.sweep.frame import OUTCOME

    first = [*scores_of(frame), "distance", "diverged"]
    rest = [n for n in frame.columns if n not in ("address", *settings, *first)]
    rest.sort(key=lambda name: name in OUTCOME or name.endswith("_n"))
    told = [n for n in (*first, *rest) if n in frame and not frame[n].isna().all()]
    return [n for n in told if n != "diverged" or frame[n].fillna(False).any()]


def scores_of(frame: DataFrame) -> list[str]:
    """Return the columns of metrics, test's first."""
    return [
        name
        for split in ("test_", "dev_")
        for name in frame.columns
        if name.startswith(split) and not name.endswith(("_n", "_loss"))
    ]


def _print_constant(frame: DataFrame, names: Sequence[str]) -> None:
    first = frame.iloc[0]
    told = {name: written(name, first[name]) for name in names}
    said = ", ".join(f"{n} {value}" for n, value in told.items() if value not in ("", "none"))
    print(textwrap.fill(f"all: {said}", _width(), break_on_hyphens=False))


def _print_table(frame: DataFrame, varying: Sequence[str], results: Sequence[str]) -> None:
    """Print as many columns as the terminal is wide, and say which are not shown."""
    from landscape.figures.table import format_table

    digits = _SHORT
    while frame["address"].str[:digits].nunique() < len(frame):
        digits += 1
    cells = {"address": [address[:digits] for address in frame["address"]]}
    room, left_out = _width() - digits, []
    for name in (*varying, *results):
        column = [written(name, value) for value in frame[name]]
        room -= 2 + max(map(len, (name, *column)))
        if room < 0 and name in results:
            left_out.append(name)
        else:
            cells[name] = column
    rows = [dict(zip(cells, line, strict=True)) for line in zip(*cells.values(), strict=True)]
    words = [name for name in varying if frame[name].dtype.kind not in "iuf"]
    print(format_table(rows, plain=True, left=words))
    if left_out:
        print(textwrap.fill(f"(not shown: {', '.join(left_out)}; --json tells all)", _width()))


def written(name: str, value: object) -> str:
    """Write a value of a column, bytes as a size."""
    from landscape.sweep.choosing import shown

    if name == "peak_memory" and isinstance(value, Integral):
        return size(int(value))
    return shown(value)


def _width() -> int:
    return get_terminal_size(fallback=(200, 24)).columns
