"""A task: prompts with scored candidates, in three splits, with the way to train and to judge."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from landscape.errors import UserError

Loss = Literal["classification", "language modelling"]
SplitName = Literal["train", "dev", "test"]


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
        UserError: no candidate, or a label that is not the index of one.
    """

    prompt: str
    candidates: tuple[str, ...]
    label: int
    group: str = ""
    also_right: tuple[int, ...] = ()

    def __post_init__(self) -> None:
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
        metric: name of the number that ``evaluate`` returns.
        loss: "classification" (cross-entropy over the candidates' scores) or "language modelling"
            (cross-entropy of the right candidate's tokens).
        source: where the examples come from: package or hub name, version or revision, SHA-256 of
            the files, seed, sizes.

    Raises:
        UserError: an empty split, or a group that is in two splits.
    """

    name: str
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    metric: str = "accuracy"
    loss: Loss = "classification"
    source: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        groups: dict[str, str] = {}
        for name in get_args(SplitName):
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

    def split(self, name: str) -> tuple[Example, ...]:
        """Return the examples of the split "train", "dev" or "test".

        Raises:
            UserError: another name.
        """
        if name not in get_args(SplitName):
            raise UserError(
                f"expected a split among {', '.join(get_args(SplitName))}, got {name!r}"
            )
        examples: tuple[Example, ...] = getattr(self, name)
        return examples


def check_sizes(**sizes: int) -> None:
    """Refuse split sizes below one.

    Raises:
        UserError: naming the size that is too small.
    """
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"expected {name} of at least 1, got {size}; ask for more examples")


def label_shares(examples: Iterable[Example]) -> dict[str, float]:
    """Return the share of each right answer: the accuracy of always giving that answer."""
    answers = [example.candidates[example.label].strip() for example in examples]
    return {answer: answers.count(answer) / len(answers) for answer in sorted(set(answers))}
