"""Values of a row as what an example takes: texts, labels, numbers, answers."""

from __future__ import annotations

import math
from typing import NoReturn

from landscape import checks
from landscape.errors import UserError
from landscape.tasks.files.row import Row

_EXACT = 2.0**53
"""Below it every whole number is a float, and is written with all of its digits."""


def cell(row: Row, column: str) -> str:
    """Return a value of a row as a text; "" where it is missing.

    Raises:
        UserError: it is a list, an object or bytes.
    """
    value = row.values.get(column)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        whole = isinstance(value, float) and value.is_integer() and abs(value) < _EXACT
        return f"{value:.0f}" if whole else str(value)
    raise UserError(
        f"expected a text in the column {column!r} of {row.where}, got {checks.shown(value)}; make "
        "one text of it"
    )


def empty(row: Row, *columns: str) -> NoReturn:
    """Refuse a row without text.

    Raises:
        UserError: always.
    """
    raise UserError(
        f"expected a text in the column {' or '.join(map(repr, columns))} of {row.where}, got an "
        "empty one; fill it in or remove the row"
    )


def label_of(row: Row, column: str) -> str:
    """Return a row's label as a text.

    Raises:
        UserError: it is missing.
    """
    found = cell(row, column).strip()
    if not found:
        raise UserError(
            f"expected a label in the column {column!r} of {row.where}, got an empty one; fill it "
            "in or remove the row"
        )
    return found


def group_of(row: Row, column: str) -> str:
    """Return the group that a row belongs to as a text.

    Raises:
        UserError: it is missing.
    """
    found = cell(row, column).strip()
    if not found:
        raise UserError(
            f"expected a group in the column {column!r} of {row.where}, got an empty one; fill it "
            "in: rows without one would all be taken for unrelated"
        )
    return found


def number_of(row: Row, column: str) -> float:
    """Return a row's number.

    Raises:
        UserError: it is none, or not finite.
    """
    written = label_of(row, column)
    try:
        value = float(written)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(
            f"expected a finite number in the column {column!r} of {row.where}, got "
            f"{written[:60]!r}; correct it, or leave regression out to take labels for classes"
        )
    return value


def answers_of(row: Row, column: str, separator: str) -> tuple[str, ...]:
    """Return a row's right answers: a list, or a text, of one line each.

    Raises:
        UserError: there is none, or one of several lines, where generating would stop.
    """
    held = row.values.get(column)
    if isinstance(held, list | tuple):
        found = [cell(Row({column: item}, row.where), column) for item in held]
    else:
        written = cell(row, column)
        found = written.split(separator) if separator else [written]
    found = [answer.strip() for answer in found if answer.strip()]
    if not found:
        raise UserError(
            f"expected an answer in the column {column!r} of {row.where}, got an empty one; fill "
            "it in or remove the row"
        )
    if several := [answer for answer in found if "\n" in answer]:
        raise UserError(
            f"expected answers of one line in {row.where}, got {several[0][:60]!r}: what is "
            "generated ends with its line; write it in one"
        )
    return tuple(dict.fromkeys(found))
