"""Recipes: how a row becomes an example, as data that a delta can keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from landscape import checks
from landscape.errors import UserError
from landscape.tasks.example import (
    AnyExample,
    Completion,
    Example,
    ImageExample,
    TextExample,
)
from landscape.tasks.files.row import Row
from landscape.tasks.own.naming import listed, nearest
from landscape.tasks.own.rows import IMAGE, Rows
from landscape.tasks.own.template import fields as columns_of
from landscape.tasks.own.template import fill
from landscape.tasks.own.values import answers_of, cell, empty, group_of, label_of, number_of

Kind = Literal["candidates", "classes", "number", "answers", "images"]
"""What is asked of a model: the best of a class's words, or a class or number of a head, or a text
that it generates, or an image's class."""

_ANY = 0
"""The label of a row whose label is not known, which is not looked at."""


@dataclass(frozen=True)
class Recipe:
    """Say how a row becomes an example.

    Args:
        kind: of the question.
        texts: of "classes" and "number", the one or two columns that a head reads, where there is
            no prompt.
        prompt: a template over the columns.
        label: the column with the class, the number, or the answer; "" where rows have none.
        classes: values of that column, in the order of the labels.
        words: of "candidates", what follows the prompt for each class, as the model reads it.
        separator: of "answers", what stands between several answers in one text; "" for none.
    """

    kind: Kind
    texts: tuple[str, ...] = ()
    prompt: str = ""
    label: str = ""
    classes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    separator: str = ""

    @classmethod
    def of(cls, stored: Mapping[str, Any], where: str) -> Recipe:
        """Read a recipe that was kept as JSON, field by field.

        Args:
            stored: what `as_dict` returned.
            where: what a sentence calls its file.

        Raises:
            UserError: a field is unknown, or of another type.
        """
        names = [field.name for field in fields(cls)]
        several = ("texts", "classes", "words")
        legal = stored.keys() <= set(names) and stored.get("kind") in get_args(Kind)
        for name, value in stored.items():
            items = value if name in several and isinstance(value, list | tuple) else [value]
            legal = legal and all(isinstance(item, str) for item in items)
            legal = legal and isinstance(value, str) != (name in several)
        given: Any = {n: tuple(v) if n in several else v for n, v in stored.items()}
        found = cls(**given) if legal else None
        if found is None or not found._whole():
            raise UserError(
                f"expected {where} to say how a row becomes an example, got "
                f"{checks.shown(dict(stored))}; save it again"
            )
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON, without what is empty."""
        return {key: list(value) if isinstance(value, tuple) else value
                for key, value in asdict(self).items() if value}  # fmt: skip

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a row needs, its label left out."""
        if self.kind == "images":
            return (IMAGE,)
        return columns_of(self.prompt) if self.prompt else self.texts

    def example(self, row: Row, *, labelled: bool = True, group: str = "") -> AnyExample:
        """Make the example of a row.

        Args:
            row: with the columns that the recipe names.
            labelled: whether its label is wanted; without, it is any.
            group: of the row.

        Raises:
            UserError: an empty text, a missing or unknown label, or a value of another type; the
                sentence names the row's place.
        """
        if self.kind == "answers":
            answers = answers_of(row, self.label, self.separator) if labelled else ("",)
            return Completion(fill(self.prompt, row), answers, group=group)
        if self.kind == "number":
            value = number_of(row, self.label) if labelled else 0.0
            return TextExample(self._texts(row), value, group=group)
        label = self._label(row) if labelled else _ANY
        if self.kind == "images":
            return ImageExample(row.values[IMAGE], label, self.classes, group)
        if self.kind == "classes":
            return TextExample(self._texts(row), label, self.classes, group)
        return Example(fill(self.prompt, row), self.words, label, group)

    def examples(
        self, rows: Rows, *, labelled: bool = True, group: str | None = None, name: str = "data"
    ) -> list[AnyExample]:
        """Make the examples of all rows, in their order.

        Args:
            rows: of a source.
            labelled: whether their labels are wanted.
            group: the column that says which belong together.
            name: what a sentence calls the argument with the rows.

        Raises:
            UserError: a column that the rows lack, or as `example`.
        """
        for column in (*self.columns, *([self.label] if labelled else ())):
            rows.check(f"what {name} shows", column)
        if group is not None:
            rows.check("group", group)
        return [
            self.example(row, labelled=labelled, group=group_of(row, group) if group else "")
            for row in rows.rows
        ]

    def _texts(self, row: Row) -> tuple[str, ...]:
        if self.prompt:
            return (fill(self.prompt, row),)
        found = tuple(cell(row, column) for column in self.texts)
        for column, text in zip(self.texts, found, strict=True):
            if not text.strip():
                empty(row, column)
        return found

    def _label(self, row: Row) -> int:
        found = label_of(row, self.label)
        if found not in self.classes:
            raise UserError(
                f"expected a label among {listed(self.classes)} in {row.where}, got {found!r}; "
                f"{nearest(found, self.classes)}"
            )
        return self.classes.index(found)

    def _whole(self) -> bool:
        """Tell whether nothing that the kind needs is missing."""
        reads = bool(self.prompt) != (len(self.texts) in (1, 2))
        if self.kind == "candidates":
            return bool(self.prompt) and 2 <= len(self.classes) == len(self.words)
        if self.kind == "answers":
            return bool(self.prompt)
        return self.kind == "images" or reads
