"""Tables on disk: their text, whatever wrote it, and their rows, each with its line."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from landscape.errors import UserError
from landscape.tasks.files.row import Row

PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".bz2": bz2.decompress,
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
}
#: the mark that begins a text says how it is encoded; the longer marks first
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}
_FIELD = 2**30
"""Characters that a field may have: more than the `csv` module's own limit, for whole documents."""


def unpacked(path: Path) -> bytes:
    """Return a file's bytes, unpacked if its name ends in .bz2, .gz or .xz.

    Raises:
        UserError: a file that is packed otherwise or truncated.
    """
    raw = path.read_bytes()
    unpack = PACKED.get(path.suffix.lower())
    if unpack is None:
        return raw
    try:
        return unpack(raw)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise UserError(
            f"expected a whole {path.suffix} file, got {path.name}, which cannot be unpacked "
            f"({error}); fetch it again, or name a plain file"
        ) from error


def read_text(path: Path) -> str:
    """Read a text file, unpacked if its name ends in .bz2, .gz or .xz.

    The encoding is the one that the file's byte order mark names, and UTF-8 without a mark.

    Raises:
        UserError: a file that is packed otherwise or truncated, or text in another encoding; the
            sentence names the line.
    """
    raw = unpacked(path)
    encoding = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(
            f"expected text in {encoding.removesuffix('-sig').upper()} in {path.name}, line "
            f"{line}, got the byte 0x{raw[error.start]:02x} ({error.reason}); save the file as "
            f"UTF-8: iconv -f WINDOWS-1252 -t UTF-8 {path.name}, where a Windows program wrote it"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError(
            f"expected text in {path.name}, line {line}, got a NUL byte; save the file as UTF-8, "
            "or check that it is a table"
        )
    return text


def read_csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield a CSV file's rows with the number of their last line, empty lines left out.

    Values are separated by commas; by semicolons or tabs where the first line has these and no
    comma, as spreadsheets write it where a comma is the decimal point. A field may be of any
    length.

    Raises:
        UserError: as `read_text`, or a quote that is never closed, or not where a field begins or
            ends; the sentence names the line in which the row begins.
    """
    text = read_text(path)
    head = text.lstrip("\r\n").partition("\n")[0]
    by = "," if "," in head else next((mark for mark in ";\t" if mark in head), ",")
    usual = csv.field_size_limit(max(_FIELD, csv.field_size_limit()))
    rows, begins, found = (
        csv.reader(io.StringIO(text, newline=""), delimiter=by, strict=True),
        1,
        [],
    )
    try:
        for row in rows:
            if row:
                found.append((rows.line_num, row))
            begins = rows.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"expected values separated by {_NAMES[by]} in {path.name}, line {begins}, got what is "
            f"none ({error}); look for a quote that is not closed"
        ) from error
    finally:
        csv.field_size_limit(usual)
    yield from found


def read_tsv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield a tab-separated file's rows with their line; nothing is quoted in it.

    Raises:
        UserError: as `read_text`.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r").split("\t")


def records(rows: Iterator[tuple[int, list[str]]], path: Path) -> Iterator[Row]:
    """Yield rows as column -> value, each with its line; the first row names the columns.

    Args:
        rows: of `read_csv` or `read_tsv`.
        path: what sentences call the file.

    Raises:
        UserError: no row, a column named twice, or a row of another length than the first.
    """
    first = next(rows, None)
    if first is None:
        raise UserError(f"expected rows in {path.name}, got an empty file; check the file")
    header = first[1]
    if len(set(header)) < len(header):
        raise UserError(
            f"expected columns of different names in {path.name}, line {first[0]}, got "
            f"{', '.join(header)}; rename one"
        )
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(
                f"expected {len(header)} values ({', '.join(header)}) in {path.name}, line {line}, "
                f"got {len(row)}; correct the row or remove it"
            )
        yield Row(dict(zip(header, row)), f"{path.name}, line {line}")
