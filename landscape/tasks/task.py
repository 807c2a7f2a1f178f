"""A task: examples in three splits, with the way to train on them and to judge them."""

import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal, get_args

from landscape import checks
from landscape.errors import UserError
from landscape.shown import card
from landscape.tasks.example import (
    KINDS,
    AnyExample,
    Completion,
    Example,
    ImageExample,
    TaggedExample,
    TextExample,
)
from landscape.tasks.metrics import METRICS

Loss = Literal["classification", "language modelling", "regression"]
SplitName = Literal["train", "dev", "test"]
_SPLITS = get_args(SplitName)

#: the losses that a kind of example can be trained with, and what a metric of it may need
_ALLOWED: dict[type, tuple[tuple[Loss, ...], tuple[str, ...]]] = {
    Example: (("classification", "language modelling"), ("candidate", "text", "number")),
    Completion: (("language modelling",), ("text",)),
    TextExample: (("classification", "regression"), ("candidate", "number")),
    TaggedExample: (("classification",), ("tags",)),
    ImageExample: (("classification",), ("candidate",)),
}

SHARED = 0.01
"""Share of dev's examples that may be in train too: GLUE's own files repeat a few texts. Of test's
none may be in either."""


@dataclass(frozen=True)
class Generation:
    """Say how a completion is generated: greedily, until a text to stop at, an end or a length.

    Args:
        max_new_tokens: most tokens of it, at least 1; 50 in the papers' protocol of SQuAD, DROP.
        stop: texts at the first of which it ends, none of them part of it. It also ends at the
            tokenizer's end-of-text token.
        stop_by: "text" to end where the text holds one of these, whichever tokens it is made of;
            "token" to end at the last token of one of these alone, as the papers' code does, which
            goes on after a token of two newlines. They agree on a model that writes as it is
            trained.

    Raises:
        UserError: a length below 1, an empty text to stop at, or another way to.
    """

    max_new_tokens: int = 50
    stop: tuple[str, ...] = ("\n",)
    stop_by: Literal["text", "token"] = "text"

    def __post_init__(self) -> None:
        checks.whole("max_new_tokens", self.max_new_tokens, least=1)
        object.__setattr__(self, "stop", checks.texts("stop", self.stop))
        if "" in self.stop:
            checks.refuse("stop", "texts to stop at", '""', "leave the empty one out")
        checks.choice("stop_by", self.stop_by, ("text", "token"))


@dataclass(frozen=True)
class Task:
    """Hold the examples of a task in three disjoint splits.

    Args:
        name: the name that ``load_task`` knows it by.
        train: examples to fit, all of one kind of `landscape.tasks.example`.
        dev: examples to choose a learning rate and a checkpoint.
        test: examples to report.
        metric: what ``evaluate`` judges by; a name of ``landscape.tasks.metrics.METRICS``.
        loss: "classification" (cross-entropy over the candidates' scores, or over a head's
            logits), "language modelling" (cross-entropy of the right text's tokens) or
            "regression" (squared error of a head with one output); by default the first that
            the examples allow.
        source: where the examples come from: package or hub name, version or revision, SHA-256 of
            the files, seed, sizes.
        generation: how completions are generated.

    Raises:
        UserError: another metric or loss, one that the examples do not allow, a split that is
            empty or holds examples of another kind, or a group that is in two splits.

    Warns, with their number, of examples of test whose text is in train or dev too, whatever its
    case and spaces, and of those of dev in train where they are more than one in a hundred.
    """

    name: str
    train: tuple[AnyExample, ...]
    dev: tuple[AnyExample, ...]
    test: tuple[AnyExample, ...]
    metric: str = "accuracy"
    loss: Loss = None  # type: ignore[assignment]  # becomes a name
    source: dict[str, Any] = field(default_factory=dict)
    generation: Generation = Generation()

    def __post_init__(self) -> None:
        checks.text("name", self.name)
        checks.choice("metric", self.metric, METRICS)
        checks.instance("generation", self.generation, Generation, "make one, or leave it out")
        for name in _SPLITS:
            object.__setattr__(self, name, _examples(name, getattr(self, name)))
            if not self.split(name):
                raise UserError(
                    f"expected at least one example in the {name} split of {self.name}, got none; "
                    f"ask for a size of at least 1, or check the data source"
                )
        self._check_kind()
        self._check_groups()
        self._warn_of_shared()

    @property
    def kind(self) -> type:
        """What the examples are: a class of `landscape.tasks.example`."""
        return type(self.train[0])

    @property
    def num_labels(self) -> int:
        """Labels that a classifier's head needs; 1 for a number, 0 where no head can answer."""
        splits = (self.train, self.dev, self.test)
        return max(example.num_labels for examples in splits for example in examples)

    def split(self, name: str) -> tuple[AnyExample, ...]:
        """Return the examples of the split "train", "dev" or "test".

        Raises:
            UserError: another name.
        """
        if name not in _SPLITS:
            checks.refuse("split", f"one of {', '.join(_SPLITS)}", name, "check the spelling")
        examples: tuple[AnyExample, ...] = getattr(self, name)
        return examples

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(self.split(name)):,} {name}" for name in _SPLITS)
        return f"Task({self.name!r}: {sizes}; {self.kind.__name__}, {self.metric}, {self.loss})"

    def _repr_html_(self) -> str:
        shown = {f"{name}, the first": self.split(name)[0] for name in _SPLITS}
        return card(repr(self), shown)

    def _check_kind(self) -> None:
        """Make the loss the default of the examples' kind, and check that it and all else fit."""
        kinds = {type(example) for name in _SPLITS for example in self.split(name)}
        if len(kinds) > 1:
            names = " and ".join(sorted(kind.__name__ for kind in kinds))
            raise UserError(
                f"expected examples of one kind in {self.name}, got {names}; make them alike"
            )
        losses, needs = _ALLOWED[self.kind]
        if self.kind is TextExample:
            losses = ("classification",) if self.train[0].classes else ("regression",)  # type: ignore[union-attr]
        if self.loss is None:
            object.__setattr__(self, "loss", losses[0])
        checks.choice("loss", self.loss, get_args(Loss))
        what = f"examples of the kind {self.kind.__name__}"
        if self.loss not in losses:
            raise UserError(
                f"expected the loss {' or '.join(losses)} for {what}, got {self.loss!r}; choose "
                "it, or make other examples"
            )
        if METRICS[self.metric].needs not in needs:
            judges = [name for name, metric in METRICS.items() if metric.needs in needs]
            raise UserError(
                f"expected a metric among {', '.join(judges)} for {what}, got {self.metric!r}; "
                "choose one of them"
            )

    def _check_groups(self) -> None:
        groups: dict[str, str] = {}
        for name in _SPLITS:
            for example in self.split(name):
                if example.group and groups.setdefault(example.group, name) != name:
                    raise UserError(
                        f"expected every group of {self.name} in one split, got {example.group!r} "
                        f"in {groups[example.group]} and in {name}; split by group"
                    )

    def _warn_of_shared(self) -> None:
        held = {name: [normal(e.shown) for e in self.split(name)] for name in _SPLITS}
        found = []
        for first, second in combinations(held, 2):
            known = set(held[first])
            count = sum(text in known for text in held[second])
            allowed = 0 if second == "test" else SHARED * len(held[second])
            if count > allowed:
                found.append(f"{count:,} of the {len(held[second]):,} in {second} are in {first}")
        if found:
            warnings.warn(
                f"expected splits of {self.name} without common examples, but "
                f"{' and '.join(found)}: scores on them say little of new text; split anew",
                stacklevel=4,
            )


def normal(shown: str | bytes) -> str | bytes:
    """Return a text as a leak is looked for: without case, and with single spaces.

    >>> normal(" The  film\\nwas Great")
    'the film was great'
    """
    if isinstance(shown, bytes):
        return shown
    return " ".join(unicodedata.normalize("NFKC", shown).casefold().split())


def _examples(name: str, given: Sequence[AnyExample]) -> tuple[AnyExample, ...]:
    checks.instance(name, given, (tuple, list), "give the examples of the split")
    for example in given:
        if not isinstance(example, KINDS):
            checks.refuse(f"{name}, each", "an Example", example, "make one of every row")
    return tuple(given)


def label_shares(examples: Iterable[AnyExample]) -> dict[str, float]:
    """Return the share of each right answer: the accuracy of always giving that answer."""
    answers = [example.answer for example in examples]
    return {answer: answers.count(answer) / len(answers) for answer in sorted(set(answers))}
