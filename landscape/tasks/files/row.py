"""A row of a data file: its values by their columns, each of the type that is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from landscape.errors import UserError

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
