"""A data file's rows as mappings, each with its place, in any of the formats of data sets."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from landscape.errors import UserError
from landscape.tasks.files.table import PACKED, read_csv, read_text, read_tsv, records

Column: TypeAlias = str | tuple[str, ...]
"""A column's name, or its names in several layouts, of which the first that is there is taken."""


class Row(NamedTuple):
    """Hold a row: column -> value, and where it stands, for sentences ("train.tsv, line 3")."""

    values: Mapping[str, Any]
    where: str

    def get(self, column: Column) -> Any:
        """Return a column's value.

        Raises:
            UserError: there is no such column; the sentence names those that are there.
        """
        names = (column,) if isinstance(column, str) else column
        for name in names:
            if name in self.values:
                return self.values[name]
        raise UserError(
            f"expected a column {' or '.join(map(repr, names))} in {self.where}, got the columns "
            f"{', '.join(self.values)}; check that the file is the task's official one"
        )

    def text(self, column: Column) -> str:
        """Return a column's value, which must be a text.

        Raises:
            UserError: it is missing, or something else.
        """
        value = self.get(column)
        if not isinstance(value, str):
            raise self._wrong("a text", column, value)
        return value

    def sentence(self, column: Column) -> str:
        """Return a column's value, which must be a text that is not blank.

        Raises:
            UserError: it is missing, blank, or something else.
        """
        value = self.text(column)
        if not value.strip():
            raise self._wrong("a text that is not blank", column, value)
        return value

    def texts(self, column: Column) -> list[str]:
        """Return a column's value, which must be a list of texts.

        Raises:
            UserError: it is missing, or something else.
        """
        value = self.get(column)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong("a list of texts", column, value)
        return value

    def whole(self, column: Column) -> int:
        """Return a column's value, which must be a whole number of at least 0.

        Raises:
            UserError: it is missing, or something else.
        """
        value = self.get(column)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong("a whole number of at least 0", column, value)
        return value

    def number(self, column: Column, *, least: float, most: float) -> float:
        """Return a column's value, a number or the text of one, from ``least`` to ``most``.

        Raises:
            UserError: it is missing, something else, or out of range.
        """
        value = self.get(column)
        try:
            found = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            found = math.nan
        if not least <= found <= most:
            raise self._wrong(f"a number from {least:g} to {most:g}", column, value)
        return found

    def choice(self, column: Column, labels: Mapping[str, int]) -> int:
        """Return the number of a column's value among labels.

        Args:
            column: name.
            labels: str(value) -> number.

        Raises:
            UserError: the column is missing, or its value is no label.
        """
        value = str(self.get(column))
        if value not in labels:
            raise UserError(
                f"expected a label among {', '.join(labels)} in {self.where}, got {value!r}; "
                "the verbaliser has no word for it: correct the row or remove it"
            )
        return labels[value]

    def part(self, column: str) -> Row:
        """Return a column's value, which must be an object, as a row of its own.

        Raises:
            UserError: it is missing, or something else.
        """
        value = self.get(column)
        if not isinstance(value, Mapping):
            raise self._wrong("an object", column, value)
        return Row(value, f"{self.where}, {column}")

    def parts(self, column: str) -> list[Row]:
        """Return a column's value, which must be a list of objects, as rows of their own.

        Raises:
            UserError: it is missing, or something else.
        """
        value = self.get(column)
        if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
            raise self._wrong("a list of objects", column, value)
        return [Row(item, f"{self.where}, {column}[{i}]") for i, item in enumerate(value)]

    def _wrong(self, kind: str, column: Column, value: object) -> UserError:
        name = column if isinstance(column, str) else column[0]
        return UserError(
            f"expected {kind} in the column {name!r} of {self.where}, got {value!r:.60}; "
            "correct the row or remove it"
        )


def format_of(path: Path) -> str:
    """Return the ending of a file's name that tells its format, whether it is packed or not.

    >>> format_of(Path("train.JSON.gz"))
    '.json'
    """
    plain = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return plain.suffix.lower()


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a csv, tsv, jsonl, json or parquet file, packed or not, in its order.

    A json file holds a list of objects, or an object a line. Values are texts in csv and tsv, and
    of json's and parquet's own types in the others.

    Raises:
        UserError: no such file, another format, or a malformed row; the sentence names the line.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "none"
        raise UserError(f"expected a file at {path}, got {found}; check the path")
    suffix = format_of(path)
    if suffix not in READERS:
        raise UserError(
            f"expected a file ending in {', '.join(READERS)}, got {path.name}; rename it, or "
            "convert it"
        )
    return READERS[suffix](path)


def _csv(path: Path) -> Iterator[Row]:
    for line, values in records(read_csv(path), path):
        yield Row(values, f"{path.name}, line {line}")


def _tsv(path: Path) -> Iterator[Row]:
    for line, values in records(read_tsv(path), path):
        yield Row(values, f"{path.name}, line {line}")


def _jsonl(path: Path) -> Iterator[Row]:
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if text.strip():
            yield _object(path, text, f"line {line}")


def _json(path: Path) -> Iterator[Row]:
    """Yield the objects of a list; or, as some releases end their names so, those of each line."""
    try:
        found = _parsed(path)
    except UserError:
        if not read_text(path).lstrip().startswith("{"):
            raise
        yield from _jsonl(path)
        return
    if not isinstance(found, list):
        raise UserError(
            f"expected a list of objects in {path.name}, got {type(found).__name__}; give one "
            "object a row"
        )
    for number, values in enumerate(found, start=1):
        yield _checked(path, values, f"row {number}")


def read_object(path: Path) -> Row:
    """Read a file that holds one object, as a row whose values may hold rows of their own.

    Raises:
        UserError: text in no known encoding, or what is no JSON object.
    """
    found = _parsed(path)
    if not isinstance(found, dict):
        raise UserError(
            f"expected an object in {path.name}, got {type(found).__name__}; check that the file "
            "is the official one"
        )
    return Row(found, path.name)


def _parsed(path: Path) -> object:
    try:
        return _loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"expected JSON in {path.name}, got what is none ({error}); fetch the file again"
        ) from error


def _loads(text: str) -> object:
    """Read JSON; half of a pair of surrogates, which no tokenizer reads, is a ValueError."""
    found = json.loads(text)
    if "\\ud" in text.lower():
        json.dumps(found, ensure_ascii=False).encode()
    return found


def _object(path: Path, text: str, place: str) -> Row:
    try:
        values = _loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"expected a JSON object in {path.name}, {place}, got what is none ({error}); correct "
            "the line or remove it"
        ) from error
    return _checked(path, values, place)


def _checked(path: Path, values: object, place: str) -> Row:
    if not isinstance(values, dict):
        raise UserError(
            f"expected an object in {path.name}, {place}, got {type(values).__name__}; correct it "
            "or remove it"
        )
    return Row(values, f"{path.name}, {place}")


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(
            f"expected a parquet file, got {path.name}, which cannot be read ({error}); fetch it "
            "again"
        ) from error
    for number, values in enumerate(table.to_pylist(), start=1):
        yield Row(values, f"{path.name}, row {number}")


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".json": _json, ".parquet": _parquet,
}  # fmt: skip
