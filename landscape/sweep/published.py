"""Published rows: a file with a line of JSON a run, which a store or an experiment reads."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from landscape import checks
from landscape.errors import UserError
from landscape.folders import write_whole
from landscape.sweep.config import RunConfig
from landscape.sweep.rows import Row, Rows, checked, refuse_moved, same_run
from landscape.sweep.sealed import seal, unseal
from landscape.sweep.store import RunStore


class RowFile:
    """Hold the rows of a published file, of `read_rows`.

    Args:
        path: of the file.
        rows: all of them.
    """

    def __init__(self, path: Path, rows: Iterable[Row]) -> None:
        self.path = path
        self._rows = {row["address"]: row for row in rows}

    def __contains__(self, config: object) -> bool:
        """Tell whether the file has the run of a configuration."""
        return isinstance(config, RunConfig) and config.address in self._rows

    def row(self, config: RunConfig) -> Row:
        """Return the row of a configuration's run."""
        return same_run(self.at(config.address), config, self.path)

    def rows(self) -> Iterator[Row]:
        """Return all rows, by address."""
        return iter(self._rows.values())

    def addresses(self) -> list[str]:
        """Return the addresses of all rows, sorted."""
        return list(self._rows)

    def at(self, address: str) -> Row:
        """Return the row of an address."""
        if address not in self._rows:
            raise UserError(
                f"expected a finished run {address} in {self.path}, got {len(self._rows)} others; "
                "run it, or read another file"
            )
        return self._rows[address]


def write_rows(path: str | Path, rows: Iterable[Row]) -> Path:
    """Publish rows as one file: a line of JSON each, by address, each sealed with its own hash.

    The same rows give the same bytes, packed or not.

    Args:
        path: the file; packed with gzip if its name ends in ``.gz``.
        rows: of a `landscape.RunStore` or another file.

    Raises:
        UserError: two rows of one address, or the file cannot be written.
    """
    target = Path(checks.new_file("path", path))
    text = "".join(f"{seal(row)}\n" for row in _ordered(rows, target))
    data = text.encode()
    if target.name.endswith(".gz"):
        data = gzip.compress(data, 9, mtime=0)
    write_whole(target, lambda temporary: temporary.write_bytes(data))
    return target


def read_rows(path: str | Path) -> RowFile:
    """Read a file of published rows.

    Raises:
        UserError: it cannot be read, a line was altered or is no row, two rows have one address,
            or an address is not that of its configuration.
    """
    source = Path(checks.path("path", path))
    try:
        data = source.read_bytes()
        if source.name.endswith(".gz"):
            data = gzip.decompress(data)
        text = data.decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"expected a file of rows at {source}, could not read it, but got: {error}; check the "
            "path, or fetch the file anew"
        ) from None
    rows: list[Row] = []
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"line {number} of {source}"
        row = checked(unseal(line, where), where)
        refuse_moved(row, where)
        rows.append(row)
    return RowFile(source, _ordered(rows, source))


def open_rows(source: str | Path) -> Rows:
    """Open rows for reading: a store's folder, or a file of `write_rows`.

    Raises:
        UserError: there is neither.
    """
    path = Path(checks.path("source", source))
    if path.is_dir() and (path / "store.json").exists():
        return RunStore(path)
    if not path.is_file():
        found = "a folder that is no store" if path.is_dir() else "nothing there"
        raise UserError(
            f"expected a store of runs or a file of rows at {path}, got {found}; check the path"
        )
    return read_rows(path)


def _ordered(rows: Iterable[Row], path: Path) -> list[Row]:
    """Return rows by address, each address once."""
    found = sorted(rows, key=lambda row: row["address"])
    for one, following in pairwise(found):
        if one["address"] == following["address"]:
            raise UserError(
                f"expected one row an address in {path}, got two of {one['address']}; leave one "
                "of them out"
            )
    return found
