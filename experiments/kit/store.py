"""An artefact's rows on disk: one line a row, appended as it is computed, read without a trace."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from landscape.errors import UserError

Row = dict[str, Any]
RESULTS = Path(__file__).parent.parent / "results"


class Store:
    """Hold an artefact's rows in ``rows.jsonl``, one line a row, appended as they are computed."""

    def __init__(self, folder: Path) -> None:
        from landscape.folders import provenance

        self.folder = folder
        self._path = folder / "rows.jsonl"
        self._rows: dict[str, Row] = {row["key"]: row for row in read_rows(folder)}
        _end_at_a_whole_row(self._path)
        self._provenance = provenance()

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __getitem__(self, key: str) -> Row:
        return self._rows[key]

    def compute(self, key: str, function: Callable[[], Mapping[str, Any]]) -> Row:
        """Return the row of a key, computing and appending it where it is missing."""
        from landscape.folders import peak_memory

        if key not in self._rows:
            self.say(key)
            start = time.perf_counter()
            values = dict(function())
            row: Row = {
                "key": key,
                **values,
                "seconds": time.perf_counter() - start,
                "peak_memory": peak_memory(),
                "provenance": self._provenance,
            }
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self._rows[key] = row
        return self._rows[key]

    @staticmethod
    def say(text: str) -> None:
        """Tell the user what happens next."""
        print(text, flush=True)


def read_rows(folder: Path) -> list[Row]:
    """Read the whole rows of a folder, and leave the file as it is.

    A last line without an end is left out: a kill truncated it, or a run is writing it now.

    Raises:
        UserError: a line before the last is damaged.
    """
    from landscape.folders import json_object

    path = folder / "rows.jsonl"
    if not path.exists():
        return []
    rows = []
    text = path.read_text(encoding="utf-8", errors="replace")  # in a text it spoils one row
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            row = json_object(line, f"line {number}")
            reason = "no row with a key"
        except UserError as error:
            row, reason = {}, str(error).split(";")[0]
        if "\ufffd" in line or not isinstance(row.get("key"), str):
            raise UserError(
                f"expected rows in {path}, got the damaged line {number} ({reason}); remove it"
            )
        rows.append(row)
    return rows


def _end_at_a_whole_row(path: Path) -> None:
    """Drop a row that a kill truncated, so that what is appended starts a fresh line."""
    if path.exists() and not (data := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)
