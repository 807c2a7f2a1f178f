"""Rows as a file: csv, tsv, jsonl, json or parquet, whole or not at all."""

from __future__ import annotations

import csv
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from landscape import checks
from landscape.errors import UserError
from landscape.folders import finite, write_whole
from landscape.tasks.files.rows import READERS


def check_output(path: str | Path, source: str | Path) -> None:
    """Refuse a file that `write_rows` cannot write, or that would replace the rows it is made of.

    Raises:
        UserError: its name ends in no known format, or it is the source.
    """
    place = Path(checks.new_file("output", path))
    if place.suffix.lower() not in READERS:
        raise UserError(
            f"expected a file ending in {', '.join(READERS)} to write, got {place.name}; rename it"
        )
    if place.exists() and place.samefile(source):
        raise UserError(
            f"expected another file to write than the one that is read, got {place} for both; "
            "name another"
        )


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows with the columns of all, in the order in which they first appear.

    Args:
        path: the file; its ending names the format.
        rows: at least one; None is an empty value, in csv and tsv nothing between two marks.

    Returns:
        The path.

    Raises:
        UserError: another format, or a value with a tab or a new line in a tsv file.
    """
    target, whole = Path(path).expanduser(), with_all_columns(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    kind = target.suffix.lower()
    if kind == ".parquet":
        write_whole(target, lambda place: _parquet(place, whole))
    elif kind == ".jsonl":
        text = json_lines(whole)
        write_whole(target, lambda place: place.write_text(text, encoding="utf-8", newline=""))
    elif kind == ".json":
        text = json.dumps(plain(whole), ensure_ascii=False, indent=1) + "\n"
        write_whole(target, lambda place: place.write_text(text, encoding="utf-8", newline=""))
    else:
        table = [columns, *([_written(value) for value in row.values()] for row in whole)]
        if kind == ".tsv":
            _refuse_marks(table, target.name)
        write_whole(target, lambda place: _table(place, table, tabs=kind == ".tsv"))
    return target


def with_all_columns(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows that have the columns of all, in the order in which they first appear."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return [{column: row.get(column) for column in columns} for row in rows]


def json_lines(rows: Sequence[Mapping[str, Any]], *, ascii: bool = False) -> str:
    """Return rows as jsonl has them, one a line; ``ascii`` writes other letters as numbers."""
    return "".join(json.dumps(row, ensure_ascii=ascii) + "\n" for row in plain(rows))


def plain(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of values that JSON has: dates as ISO writes them, what else it lacks as a text.

    >>> plain([{"on": datetime.date(2024, 5, 1), "size": float("inf")}])
    [{'on': '2024-05-01', 'size': None}]
    """
    found: list[dict[str, Any]] = json.loads(json.dumps(finite(rows), default=_as_text))
    return found


def _as_text(value: object) -> str:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _table(place: Path, table: Sequence[Sequence[str]], *, tabs: bool) -> None:
    with place.open("w", encoding="utf-8", newline="") as stream:
        if tabs:
            stream.writelines("\t".join(row) + "\n" for row in table)
        else:
            csv.writer(stream, lineterminator="\n").writerows(table)


def _written(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _refuse_marks(table: Sequence[Sequence[str]], name: str) -> None:
    for number, row in enumerate(table, start=1):
        for value in row:
            if "\t" in value or "\n" in value or "\r" in value:
                raise UserError(
                    f"expected values without tabs and new lines for {name}, got {value[:60]!r} in "
                    f"row {number - 1}; write a csv, jsonl or parquet file"
                )


def _parquet(place: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), place)
