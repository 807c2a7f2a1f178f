"""Whether a model answers a task's kind of examples, and has a label for each of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def refuse_unfit(model: nn.Module, examples: Sequence[AnyExample]) -> None:
    """Refuse a model of another kind than examples need, or with other labels than they have.

    A model of a kind that is not known, such as one of your own, passes: it may well answer.

    Args:
        model: masked or not, wrapped or not.
        examples: what it is trained or judged on, at least one, all of one kind.

    Raises:
        UserError: with what the model is, and how to load one that fits; or its head has the
            examples' classes in another order, or reads the end of a row, padding or not.
    """
    base: Any = without_wrappers(model)
    what, answers, how = _ANSWERED[type(examples[0])]
    labels, name = max(example.num_labels for example in examples), type(base).__name__
    found: str | None = kind(model)
    if found is None and getattr(base, "get_output_embeddings", lambda: None)() is not None:
        found = "masked language model"
    if found is not None and found not in answers:
        raise UserError(
            f"expected a {' or '.join(answers)} for {what}, got {name}, "
            f"which is a model of another kind ({found}); {how.format(labels)}"
        )
    if found in CLASSIFIERS and labels_of(model) != labels:
        raise UserError(
            f"expected a head with {labels} label{'s' * (labels != 1)} for {what}, got "
            f"{labels_of(model)} in {name}; load the model with num_labels={labels}"
        )
    if found in CLASSIFIERS:
        _refuse_other_order(base, examples[0])
    if found == "sequence classifier" and getattr(base.config, "summary_type", None) == "last":
        raise UserError(
            f"expected a classifier that tells text from padding, got {name}, whose head reads the "
            "last position of a row; take another model"
        )


def _refuse_other_order(base: Any, example: AnyExample) -> None:
    """Refuse a head whose labels have the names of an example's classes, but other numbers.

    Raises:
        UserError: with both orders.
    """
    classes = example.candidates if isinstance(example, Example) else example.classes  # type: ignore[union-attr]
    names = [str(base.config.id2label.get(i, "")) for i in range(len(classes))]
    wanted, held = ([text.strip().casefold() for text in some] for some in (classes, names))
    if wanted != held and sorted(wanted) == sorted(held):
        raise UserError(
            f"expected the labels of {type(base).__name__} in the order of the examples' classes, "
            f"{', '.join(c.strip() for c in classes)}, got {', '.join(names)}; make examples with "
            "that order, or load the model with new_head=True (--new-head) and train it"
        )
