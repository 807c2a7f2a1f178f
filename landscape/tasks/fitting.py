"""Whether a model answers a task's kind of examples, and has a label for each of its classes."""

from __future__ import annotations

from torch import nn

from landscape.errors import UserError
from landscape.models.kinds import CLASSIFIERS, Kind, kind, labels_of, without_wrappers
from landscape.tasks.example import (
    AnyExample,
    Completion,
    Example,
    ImageExample,
    TaggedExample,
    TextExample,
)
from landscape.tasks.task import Task

_GENERATE: tuple[Kind, ...] = ("causal language model", "encoder-decoder language model")
#: kind of examples -> what they are in a sentence, the kinds of models that answer them, and how
#: such a model is loaded
_ANSWERED: dict[type[AnyExample], tuple[str, tuple[Kind, ...], str]] = {
    Example: ("candidates", (*_GENERATE, "sequence classifier"), "load a language model"),
    Completion: ("completions", _GENERATE, "load a language model, without num_labels"),
    TextExample: ("texts with a label", ("sequence classifier",), "load it with num_labels={}"),
    TaggedExample: (
        "tagged words", ("token classifier",), "load it with num_labels={} and head='tokens'"
    ),
    ImageExample: (
        "images", ("image classifier",),
        "load a model of images with num_labels={}, or CLIP with classes=",
    ),
}  # fmt: skip


def refuse_unfit(model: nn.Module, task: Task) -> None:
    """Refuse a model of another kind than a task's examples need, or with other labels.

    A model of a kind that is not known, such as one of your own, passes: it may well answer.

    Args:
        model: masked or not, wrapped or not.
        task: what it is trained or judged on.

    Raises:
        UserError: with what the model is, and how to load one that fits.
    """
    found = kind(model)
    what, answers, how = _ANSWERED[type(task.train[0])]
    labels, base = task.num_labels, type(without_wrappers(model)).__name__
    if found is not None and found not in answers:
        raise UserError(
            f"expected a {' or '.join(answers)} for the {what} of {task.name}, got {base}, "
            f"which is a model of another kind ({found}); {how.format(labels)}"
        )
    if found in CLASSIFIERS and labels_of(model) != labels:
        raise UserError(
            f"expected a head with {labels} label{'s' * (labels != 1)} for the {what} of "
            f"{task.name}, got {labels_of(model)} in {base}; load the model with "
            f"num_labels={labels}"
        )
