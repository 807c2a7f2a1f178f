"""CoNLL-2003: words of English news, each with the tag of the entity that it is part of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from landscape.errors import UserError
from landscape.tasks.dataset import Dataset, Hub
from landscape.tasks.example import TaggedExample
from landscape.tasks.files.row import Row
from landscape.tasks.files.rows import by_format, read_rows
from landscape.tasks.files.table import read_text

CLASSES = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
"""The tags in the order of a head's labels, which is that of the numbers on the hub."""

COLUMNS = "word, part of speech, phrase, entity"
_DOCUMENT = "-DOCSTART-"


def iob2(tags: Sequence[str]) -> tuple[str, ...]:
    """Return tags with B- at the first word of every entity, whichever of two ways they use.

    The release (IOB1) has B- only at an entity that follows another of its type at once. Tags that
    have B- everywhere (IOB2) come back unchanged.

    >>> iob2(["I-PER", "I-PER", "B-PER", "O", "I-ORG", "I-LOC"])
    ('B-PER', 'I-PER', 'B-PER', 'O', 'B-ORG', 'B-LOC')
    """
    found = []
    for before, tag in zip(("O", *tags), tags):
        begins = tag.startswith("I-") and before[2:] != tag[2:]
        found.append(f"B-{tag[2:]}" if begins else tag)
    return tuple(found)


def read_conll(path: Path) -> Iterator[Row]:
    """Yield the sentences of a file of the release.

    Args:
        path: lines of a word, its part of speech, its phrase and its entity; a blank line ends a
            sentence, and lines that begin a document are left out.

    Raises:
        UserError: a line of other columns, or another tag; the sentence names the line.
    """
    words: list[str] = []
    tags: list[str] = []
    first = 0
    for number, line in enumerate([*read_text(path).split("\n"), ""], start=1):
        columns = re.split(r"[ \t]+", line.strip())
        if columns[0] and columns[0] != _DOCUMENT:
            word, tag = _word(columns, f"{path.name}, line {number}")
            first = first if words else number
            words.append(word)
            tags.append(tag)
        elif words:
            yield Row({"tokens": words, "ner_tags": tags}, f"{path.name}, line {first}")
            words, tags = [], []


def _word(columns: list[str], where: str) -> tuple[str, str]:
    if len(columns) != 4:
        raise UserError(
            f"expected 4 columns ({COLUMNS}) in {where}, got {len(columns)}; correct the line, or "
            "fetch the file again"
        )
    _check_tag(columns[3], where)
    return columns[0], columns[3]


def _check_tag(tag: str, where: str) -> None:
    if tag not in CLASSES:
        raise UserError(
            f"expected an entity's tag among {', '.join(CLASSES)} in {where}, got {tag!r}; correct "
            "it"
        )


def _tagged(row: Row) -> Iterator[TaggedExample]:
    words, tags = row.get("tokens"), row.get("ner_tags")
    if not isinstance(words, list) or not isinstance(tags, list) or len(words) != len(tags):
        raise UserError(
            f"expected a tag for each word in {row.where}, got {words!r:.60} and {tags!r:.60}; "
            "correct the row or remove it"
        )
    names = []
    for tag in tags:
        known = isinstance(tag, int) and 0 <= tag < len(CLASSES)
        names.append(CLASSES[tag] if known else str(tag))
        _check_tag(names[-1], row.where)
    if words:  # the hub has rows without any
        yield TaggedExample(tuple(words), iob2(names), CLASSES)


CONLL = (
    Dataset(
        "conll2003", "people, places and organisations in news (CoNLL-2003, English)",
        None, _tagged,
        ("train.txt", "eng.train", "train.parquet"),
        ("valid.txt", "eng.testa", "validation.parquet"),
        Hub("eriktks/conll2003", revision="refs/convert/parquet"),
        read=by_format({".parquet": read_rows}, read_conll), metric="entity_f1",
    ),
)  # fmt: skip
"""CoNLL-2003, judged by the F1 of whole entities on its validation file."""
