"""Rows of anybody's own: a file, a frame, a list of dicts, or a folder of images by class."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from landscape import checks
from landscape.errors import UserError
from landscape.sources.carriers import sha256
from landscape.tasks.files.image import check_image
from landscape.tasks.files.row import Row
from landscape.tasks.files.rows import read_rows
from landscape.tasks.own.naming import nearest

if TYPE_CHECKING:
    from pandas import DataFrame

Own: TypeAlias = "str | Path | DataFrame | Iterable[Mapping[str, Any]]"
"""What rows may come from."""

IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
FILE, LABEL, IMAGE = "file", "label", "image"
"""Columns of a folder of images: the path below the folder, the class, the file's bytes."""


@dataclass(frozen=True)
class Rows:
    """Hold all rows of a source.

    Args:
        name: what sentences call the source.
        rows: at least one, each with its place.
        columns: their names, in the order in which they first appear.
        sha256: of the file, or of what the rows hold.
    """

    name: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    sha256: str

    @property
    def images(self) -> bool:
        """Whether they are the files of a folder of images."""
        return self.columns == (FILE, LABEL, IMAGE)

    def check(self, name: str, column: object, what: str = "to be a column") -> str:
        """Return the name of a column that is there.

        Args:
            name: of the argument, for the sentence.
            column: its name.
            what: what the sentence says of it.

        Raises:
            UserError: there is none of this name; the sentence offers the nearest.
        """
        found = checks.text(name, column)
        if found not in self.columns:
            raise UserError(
                f"expected {name} {what} of {self.name}, got {found!r}, which is none; "
                f"{nearest(found, self.columns)}"
            )
        return found


def read_own(data: Own, name: str = "data") -> Rows:
    """Read all rows of a source before any is used.

    Args:
        data: the path of a csv, tsv, jsonl, json or parquet file, packed or not; of a folder of
            images, in folders named by their class or in none; a pandas frame; or mappings from
            column to value, a row each.
        name: of the argument, for sentences.

    Raises:
        UserError: none of these, no row, or one that is malformed; the sentence names its place.
    """
    if isinstance(data, str | Path):
        path = Path(checks.path(name, data))
        if path.is_dir():
            return _folder(path)
        return _found(path.name, list(read_rows(path)), sha256(path))
    if hasattr(data, "to_dict") and hasattr(data, "columns"):
        columns = [str(column) for column in data.columns]
        if len(set(columns)) < len(columns):
            _refuse(name, "columns of different names", ", ".join(columns), "rename one")
        data = [dict(zip(columns, row.values(), strict=True)) for row in data.to_dict("records")]
    elif isinstance(data, Mapping) or not isinstance(data, Iterable):
        _refuse(name, "the path of a file, a frame or a list of dicts", checks.shown(data),
                "give one of them")  # fmt: skip
    rows = []
    for number, values in enumerate(data, start=1):
        if not isinstance(values, Mapping):
            _refuse(f"{name}, row {number},", "a dict from column to value", checks.shown(values),
                    "make one of every row")  # fmt: skip
        plain = {str(column): _plain(value) for column, value in values.items()}
        rows.append(Row(plain, f"{name}, row {number}"))
    text = json.dumps([row.values for row in rows], sort_keys=True, default=str)
    return _found(name, rows, hashlib.sha256(text.encode()).hexdigest())


def _folder(folder: Path) -> Rows:
    """List the images of a folder: in folders named by their class, or, without classes, in it."""
    files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in IMAGES and p.is_file()]
    rows = []
    for path in files:
        place = path.relative_to(folder)
        if any(part.startswith(".") for part in place.parts):
            continue
        if len(place.parts) > 2:
            raise UserError(
                f"expected images in {folder.name}/CLASS/, got {place.as_posix()} deeper in it; "
                f"give the folder of one split, such as {(folder / place.parts[0]).as_posix()}"
            )
        values = {
            FILE: place.as_posix(),
            LABEL: place.parts[0] if len(place.parts) == 2 else None,
            IMAGE: path.read_bytes(),
        }
        rows.append(Row(values, f"{folder.name}/{place.as_posix()}"))
        check_image(rows[-1].values[IMAGE], rows[-1].where)
    if not rows:
        raise UserError(
            f"expected images ({', '.join(IMAGES)}) in the folder {folder}, in a folder for every "
            "class, got none; give such a folder, or a file with a row for every example"
        )
    held = [(row.values[FILE], hashlib.sha256(row.values[IMAGE]).hexdigest()) for row in rows]
    digest = hashlib.sha256(json.dumps(held).encode()).hexdigest()
    return Rows(folder.name, tuple(rows), (FILE, LABEL, IMAGE), digest)


def _found(name: str, rows: list[Row], digest: str) -> Rows:
    if not rows:
        raise UserError(
            f"expected rows in {name}, got none; give a row for every example, the first line of "
            "a table naming its columns"
        )
    columns = tuple(dict.fromkeys(column for row in rows for column in row.values))
    return Rows(name, tuple(rows), columns, digest)


def _plain(value: Any) -> Any:
    """Return numpy's and pandas' scalars as Python's own, and what they mark as missing as None."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is not None and type(value).__name__ in ("NAType", "NaTType"):
        return None
    return None if isinstance(value, float) and math.isnan(value) else value


def _refuse(name: str, kind: str, got: str, do: str) -> NoReturn:
    raise UserError(f"expected {name} to be {kind}, got {got}; {do}")
