"""What the commands about runs read: rows, their frame, and a word about what is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

    from landscape.sweep import Row, Rows


@dataclass(frozen=True)
class Found:
    """Hold the runs of a source.

    Args:
        source: as it was named.
        rows: by address.
        frame: of `landscape.runs`.
        left_out: a sentence for each run that is damaged, or of a newer version.
        unfinished: addresses of runs that were begun.
    """

    source: str
    rows: Rows
    frame: DataFrame
    left_out: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)

    def tell(self) -> None:
        """Print what is left out."""
        for said in self.left_out:
            print(f"left out: {said}")
        if self.unfinished:
            print(f"{len(self.unfinished)} begun and not finished")

    def as_dict(self) -> dict[str, Any]:
        """Return what is left out, for ``--json``."""
        return {"left_out": self.left_out, "unfinished": self.unfinished}


def read(source: str) -> Found:
    """Read the runs of a store or a file of rows.

    Raises:
        UserError: there is neither.
    """
    from landscape.sweep import RunStore, frame_of, open_rows

    rows, left_out = open_rows(source), list[str]()

    def whole() -> Iterator[Row]:
        for found in rows.examined() if isinstance(rows, RunStore) else rows.rows():
            if isinstance(found, UserError):
                left_out.append(str(found))
            else:
                yield found

    frame = frame_of(whole())
    unfinished = rows.unfinished() if isinstance(rows, RunStore) else []
    return Found(source, rows, frame, left_out, unfinished)


def open_store(folder: str) -> Any:
    """Open a store that is there.

    Raises:
        UserError: there is none.
    """
    from landscape.sweep import RunStore

    if not (Path(folder).expanduser() / "store.json").exists():
        raise UserError(
            f"expected the folder of a sweep, got {folder}, which is none; check the path"
        )
    return RunStore(folder)


def records(frame: DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as JSON has them."""
    columns = {name: [plain(value) for value in frame[name]] for name in frame.columns}
    return [dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True)]


def plain(value: Any) -> Any:
    """Return a value of a column as JSON has it; None where it is missing."""
    from pandas import isna

    if isna(value):
        return None
    return value.item() if hasattr(value, "item") else value
