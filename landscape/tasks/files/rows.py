"""A data file's rows, each with its place, in any of the formats of data sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from landscape.errors import UserError
from landscape.tasks.files.row import Row
from landscape.tasks.files.table import PACKED, read_csv, read_text, read_tsv, records

Reader: TypeAlias = Callable[..., Iterator[Row]]
"""From the paths of a file, or of several that belong together, to their rows."""


def format_of(path: Path) -> str:
    """Return the ending of a file's name that tells its format, whether it is packed or not.

    >>> format_of(Path("train.JSON.gz"))
    '.json'
    """
    plain = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return plain.suffix.lower()


def by_format(readers: Mapping[str, Reader], otherwise: Reader) -> Reader:
    """Return a reader that leaves files to others by the endings of their names.

    Args:
        readers: an ending, as of `format_of` -> what reads such files.
        otherwise: what reads all others.
    """

    def read(*paths: Path) -> Iterator[Row]:
        return readers.get(format_of(paths[0]), otherwise)(*paths)

    return read


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
    return records(read_csv(path), path)


def _tsv(path: Path) -> Iterator[Row]:
    return records(read_tsv(path), path)


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
