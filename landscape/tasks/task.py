"""A task: prompts with scored candidates, in three splits, with the way to train and to judge."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from numbers import Integral
from typing import Any, Literal, get_args

from landscape import checks
from landscape.errors import UserError
from landscape.tasks.metrics import METRICS

Loss = Literal["classification", "language modelling"]
SplitName = Literal["train", "dev", "test"]
_SPLITS = get_args(SplitName)

SHARED = 0.01
"""Share of a split's examples that may be in another: GLUE's own files repeat a few texts."""


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
        object.__setattr__(self, "label", _index("label", self.label))
        checks.instance("also_right", self.also_right, (tuple, list), "give the other indices")
        others = tuple(_index("each of also_right", i) for i in self.also_right)
        object.__setattr__(self, "also_right", others)
        right = (self.label, *self.also_right)
        if len(set(right)) < len(right) or not all(
            0 <= i < len(self.candidates) for i in right[1:]
        ):
            raise UserError(
                f"expected also_right to hold other indices of the {len(self.candidates)} "
                f"candidates than label {self.label}, each once, got {list(self.also_right)} for "
                f"the prompt {self.prompt[:60]!r}; correct them"
            )
        if not 0 <= self.label < len(self.candidates):
            raise UserError(
                f"expected a label from 0 to {len(self.candidates) - 1} for the candidates "
                f"{list(self.candidates)}, got {self.label} for the prompt {self.prompt[:60]!r}; "
                "correct the label or add its candidate"
            )


@dataclass(frozen=True)
class Task:
    """Hold the examples of a task in three disjoint splits.

    Args:
        name: the name that ``load_task`` knows it by.
        train: examples to fit.
        dev: examples to choose a learning rate and a checkpoint.
        test: examples to report.
        metric: what ``evaluate`` judges by; a name of ``landscape.tasks.metrics.METRICS``.
        loss: "classification" (cross-entropy over the candidates' scores) or "language modelling"
            (cross-entropy of the right candidate's tokens).
        source: where the examples come from: package or hub name, version or revision, SHA-256 of
            the files, seed, sizes.

    Raises:
        UserError: another metric or loss, a split that is empty or holds what is no `Example`, or
            a group that is in two splits.

    Warns, with their number, of examples of a split that are in another too.
    """

    name: str
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    metric: str = "accuracy"
    loss: Loss = "classification"
    source: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.text("name", self.name)
        checks.choice("metric", self.metric, METRICS)
        checks.choice("loss", self.loss, get_args(Loss))
        groups: dict[str, str] = {}
        for name in _SPLITS:
            object.__setattr__(self, name, _examples(name, getattr(self, name)))
            examples = self.split(name)
            if not examples:
                raise UserError(
                    f"expected at least one example in the {name} split of {self.name}, got none; "
                    f"ask for a size of at least 1, or check the data source"
                )
            for example in examples:
                if example.group and groups.setdefault(example.group, name) != name:
                    raise UserError(
                        f"expected every group of {self.name} in one split, got {example.group!r} "
                        f"in {groups[example.group]} and in {name}; split by group"
                    )
        self._warn_of_shared()

    def _warn_of_shared(self) -> None:
        held = {name: [(e.prompt, e.candidates) for e in self.split(name)] for name in _SPLITS}
        found = []
        for first, second in combinations(held, 2):
            known = set(held[first])
            count = sum(text in known for text in held[second])
            if count > SHARED * len(held[second]):
                found.append(f"{count:,} of the {len(held[second]):,} in {second} are in {first}")
        if found:
            warnings.warn(
                f"expected splits of {self.name} without common examples, but "
                f"{' and '.join(found)}: scores on them say little of new text; split anew",
                stacklevel=4,
            )

    def split(self, name: str) -> tuple[Example, ...]:
        """Return the examples of the split "train", "dev" or "test".

        Raises:
            UserError: another name.
        """
        if name not in _SPLITS:
            checks.refuse("split", f"one of {', '.join(_SPLITS)}", name, "check the spelling")
        examples: tuple[Example, ...] = getattr(self, name)
        return examples


def _index(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        checks.refuse(name, "the index of a candidate", value, "give a whole number")
    return int(value)


def _examples(name: str, given: Any) -> tuple[Example, ...]:
    checks.instance(name, given, (tuple, list), "give the examples of the split")
    for example in given:
        checks.instance(f"{name}, each", example, Example, "make one of every row")
    return tuple(given)


def label_shares(examples: Iterable[Example]) -> dict[str, float]:
    """Return the share of each right answer: the accuracy of always giving that answer."""
    answers = [example.candidates[example.label].strip() for example in examples]
    return {answer: answers.count(answer) / len(answers) for answer in sorted(set(answers))}
