"""Examples: what a model is shown and what is right, one kind for each way to answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import ClassVar, TypeAlias

from landscape import checks
from landscape.errors import UserError


@dataclass(frozen=True)
class Example:
    """Hold one prompt, the texts that may follow it, and which of them is right.

    Args:
        prompt: text before the candidates.
        candidates: texts appended to the prompt, each with its leading space or newline.
        label: index of the right candidate, 0 <= label < len(candidates).
        group: what must not be shared by two splits (the film of a review); "" if nothing.
        also_right: indices of the other right candidates, where there are several: an answer
            among them counts as right, while training takes ``label`` alone.

    Raises:
        UserError: a prompt or candidate that is no text, no candidate, or a label that is not the
            index of one.
    """

    prompt: str
    candidates: tuple[str, ...]
    label: int
    group: str = ""
    also_right: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        checks.text("prompt", self.prompt)
        checks.text("group", self.group)
        # a list becomes the tuple, numpy's integer the int, that they are said to be
        object.__setattr__(self, "candidates", checks.texts("candidates", self.candidates))
        _index_of("label", self, self.candidates, f"for the prompt {self.prompt[:60]!r}")
        checks.instance("also_right", self.also_right, (tuple, list), "give the other indices")
        others = tuple(_index("each of also_right", i) for i in self.also_right)
        object.__setattr__(self, "also_right", others)
        every = set(range(len(self.candidates))) - {self.label}
        if len(set(others)) < len(others) or not set(others) <= every:
            raise UserError(
                f"expected also_right to hold other indices of the {len(self.candidates)} "
                f"candidates than label {self.label}, each once, got {list(self.also_right)} for "
                f"the prompt {self.prompt[:60]!r}; correct them"
            )

    @property
    def shown(self) -> str:
        """All that a model is shown: the texts by which a leak between splits is found."""
        return "\n".join((self.prompt, *self.candidates))

    @property
    def answer(self) -> str:
        """The right answer, as a text."""
        return self.candidates[self.label].strip()

    @property
    def num_labels(self) -> int:
        """Labels that the head of a classifier needs for it."""
        return len(self.candidates)


@dataclass(frozen=True)
class Completion:
    """Hold one prompt and the texts that are right to generate after it.

    Args:
        prompt: text before the answer.
        answers: right answers, at least one, without the space before them; training takes the
            first.
        written: what training appends to the prompt; by default a space, the first answer and a
            newline. The tokenizer's end-of-text token follows what ends with no newline.
        group: as of `Example`.

    Raises:
        UserError: a prompt or answer that is no text, or no answer.
    """

    prompt: str
    answers: tuple[str, ...]
    written: str = ""
    group: str = ""
    num_labels: ClassVar[int] = 0  # no classifier's head can answer it

    def __post_init__(self) -> None:
        for name in ("prompt", "written", "group"):
            checks.text(name, getattr(self, name))
        object.__setattr__(self, "answers", checks.texts("answers", self.answers))
        if not self.answers:
            raise UserError(
                f"expected at least one right answer, got none for the prompt {self.prompt[:60]!r}"
                "; give one, or leave the example out"
            )
        if not self.written:
            object.__setattr__(self, "written", f" {self.answers[0]}\n")

    @property
    def shown(self) -> str:
        """As of `Example`."""
        return self.prompt

    @property
    def answer(self) -> str:
        """As of `Example`."""
        return self.answers[0]


class _Classed:
    """What examples for a head have in common: their classes are the head's labels."""

    classes: tuple[str, ...]

    @property
    def num_labels(self) -> int:
        """As of `Example`; 1 for a number."""
        return len(self.classes) or 1


@dataclass(frozen=True)
class TextExample(_Classed):
    """Hold a text, or a pair of texts, and its class or number: for a model with a head.

    Args:
        texts: one text, or two, which the tokenizer joins as its model was pretrained.
        label: index of the right class; with no classes, a finite number.
        classes: names of the classes, at least two; () for a number.
        group: as of `Example`.

    Raises:
        UserError: other than one or two texts, a label that is not the index of a class, or no
            finite number.
    """

    texts: tuple[str, ...]
    label: float
    classes: tuple[str, ...] = ()
    group: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", checks.texts("texts", self.texts))
        object.__setattr__(self, "classes", checks.texts("classes", self.classes))
        checks.text("group", self.group)
        if len(self.texts) not in (1, 2):
            raise UserError(
                f"expected one text or a pair, got {len(self.texts)}; join the others to one"
            )
        if self.classes:
            _index_of("label", self, self.classes, f"for the text {self.texts[0][:60]!r}")
        elif not isinstance(self.label, Real) or not math.isfinite(self.label):
            checks.refuse("label", "a finite number", self.label, "give one, or name the classes")
        else:
            object.__setattr__(self, "label", float(self.label))

    @property
    def shown(self) -> str:
        """As of `Example`."""
        return "\n".join(self.texts)

    @property
    def answer(self) -> str:
        """As of `Example`."""
        return self.classes[int(self.label)] if self.classes else f"{self.label:g}"


@dataclass(frozen=True)
class TaggedExample(_Classed):
    """Hold the words of a sentence, each with a tag.

    Args:
        words: at least one.
        tags: one a word, each of ``classes``.
        classes: all tags, in the order of the head's labels.
        group: as of `Example`.

    Raises:
        UserError: no words, unequal numbers of words and tags, or a tag that is no class.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    classes: tuple[str, ...]
    group: str = ""

    def __post_init__(self) -> None:
        for name in ("words", "tags", "classes"):
            object.__setattr__(self, name, checks.texts(name, getattr(self, name)))
        checks.text("group", self.group)
        if not self.words or len(self.words) != len(self.tags):
            raise UserError(
                f"expected words with a tag each, got {len(self.words)} words and "
                f"{len(self.tags)} tags for {' '.join(self.words)[:60]!r}; correct the sentence"
            )
        if unknown := [tag for tag in self.tags if tag not in self.classes]:
            raise UserError(
                f"expected tags among {', '.join(self.classes)}, got {unknown[0]!r} for "
                f"{' '.join(self.words)[:60]!r}; correct it, or add it to the classes"
            )

    @property
    def shown(self) -> str:
        """As of `Example`."""
        return " ".join(self.words)

    @property
    def answer(self) -> str:
        """As of `Example`."""
        return " ".join(self.tags)


@dataclass(frozen=True)
class ImageExample(_Classed):
    """Hold an image and its class.

    Args:
        image: the bytes of an image file (PNG, JPEG), decoded when a batch is made.
        label: index of the right class.
        classes: names of the classes, at least two.
        group: as of `Example`.

    Raises:
        UserError: no bytes, or a label that is not the index of a class.
    """

    image: bytes
    label: int
    classes: tuple[str, ...]
    group: str = ""

    def __post_init__(self) -> None:
        checks.instance("image", self.image, bytes, "read the image file, do not decode it")
        object.__setattr__(self, "classes", checks.texts("classes", self.classes))
        checks.text("group", self.group)
        _index_of("label", self, self.classes, "for an image")

    @property
    def shown(self) -> bytes:
        """As of `Example`: the file's bytes."""
        return self.image

    @property
    def answer(self) -> str:
        """As of `Example`."""
        return self.classes[self.label]


AnyExample: TypeAlias = Example | Completion | TextExample | TaggedExample | ImageExample
"""An example of some kind; those of one task are of one."""

KINDS = (Example, Completion, TextExample, TaggedExample, ImageExample)


def _index(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        checks.refuse(name, "the index of a candidate", value, "give a whole number")
    return int(value)


def _index_of(name: str, example: AnyExample, choices: Sequence[str], where: str) -> None:
    """Make an entry of an example the int that it is said to be, the index of a choice."""
    found = _index(name, getattr(example, name))
    object.__setattr__(example, name, found)
    if not 0 <= found < len(choices):
        raise UserError(
            f"expected a {name} from 0 to {len(choices) - 1} for the candidates "
            f"{list(choices)}, got {found} {where}; correct the label or add its candidate"
        )
