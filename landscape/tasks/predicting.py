"""Predictions of a model, an example each, with what it gives to every class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape import checks
from landscape.errors import UserError
from landscape.tasks.encoding import Bos, length_limit
from landscape.tasks.evaluation import judge
from landscape.tasks.example import (
    KINDS,
    AnyExample,
    Completion,
    Example,
    TaggedExample,
    TextExample,
)
from landscape.tasks.forms.form import Encoding, Judging
from landscape.tasks.metrics import METRICS, Prediction
from landscape.tasks.task import Generation


@dataclass(frozen=True)
class Predicted:
    """Hold what a model says of one example.

    Args:
        answer: the candidate's text without outer spaces, the name of the class, the generated
            text, the tags, or the number; None where the model's outputs are NaN.
        label: the index of the candidate or class; None where there is none.
        probabilities: of each candidate or class, in their order, summing to 1: the softmax of the
            scores that the classification loss takes. () where there are none.
    """

    answer: str | float | tuple[str, ...] | None
    label: int | None = None
    probabilities: tuple[float, ...] = ()


@torch.no_grad()
def predict(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[AnyExample],
    *,
    batch_size: int = 32,
    max_length: int | None = None,
    bos: Bos = "tokenizer",
    generation: Generation | None = None,
    progress: bool = False,
) -> list[Predicted]:
    """Return what a model says of examples, in their order; their labels are not looked at.

    Args:
        model: of the examples' kind, masked or not; in eval mode meanwhile.
        tokenizer: of the model; the image processor of one that sees images.
        examples: at least one, all of one kind, such as ``task.test``.
        batch_size: examples a forward, >= 1; it changes the speed, and the values by rounding.
        max_length: most tokens of a row, at least 2; 2048 if absent, and never more than the
            model takes.
        bos: what rows start with; see ``landscape.tasks.encoding.encode``.
        generation: how completions are generated; pass ``task.generation``.
        progress: show a progress bar on standard error, if that is a terminal.

    Returns:
        One prediction an example.

    Raises:
        UserError: no examples, several kinds of them, or a size that is too small.
    """
    checks.model(model)
    checks.tokenizer(tokenizer)
    checks.several("examples", examples, "examples")
    kinds = {type(example) for example in examples}
    if len(kinds) != 1 or not kinds <= set(KINDS):
        names = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        raise UserError(f"expected examples, all of one kind, got {names}; give some, such as test")
    batch_size = checks.whole("batch_size", batch_size, least=1)
    if generation is None:
        generation = Generation()
    checks.instance("generation", generation, Generation, "make one, or leave it out")
    metric = METRICS[_metric(examples[0])]
    judging = Judging(
        metric, "regression" if metric.needs == "number" else "classification", tokenizer,
        Encoding(length_limit(model, max_length), bos), generation,
    )  # fmt: skip
    said = "predict" if progress else None
    found = judge(model, examples, judging, batch_size=batch_size, said=said)
    return [
        _predicted(example, prediction, scores)
        for example, prediction, scores in zip(
            examples, found.predictions, found.scores, strict=True
        )
    ]


def _metric(example: AnyExample) -> str:
    """Return a metric that needs what examples of this kind are to be predicted as."""
    if isinstance(example, Completion):
        return "exact_match"
    if isinstance(example, TaggedExample):
        return "entity_f1"
    number = isinstance(example, TextExample) and not example.classes
    return "pearson" if number else "accuracy"


def _predicted(
    example: AnyExample, prediction: Prediction | None, scores: Sequence[float]
) -> Predicted:
    if prediction is None:
        return Predicted(None)
    if isinstance(example, Completion):
        return Predicted(str(prediction))
    if isinstance(example, TaggedExample):
        return Predicted(tuple(prediction))  # type: ignore[arg-type]
    if isinstance(example, TextExample) and not example.classes:
        return Predicted(float(prediction))  # type: ignore[arg-type]
    names = example.candidates if isinstance(example, Example) else example.classes
    label = int(prediction)  # type: ignore[arg-type]
    top = max(scores)
    weights = [math.exp(score - top) for score in scores[: len(names)]]
    return Predicted(names[label].strip(), label, tuple(w / sum(weights) for w in weights))
