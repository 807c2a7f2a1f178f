"""A form: how examples of one kind become tokens, batches, and judged predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from landscape.tasks.encoding import Bos
from landscape.tasks.metrics import Metric, Prediction
from landscape.tasks.padding import Batch
from landscape.tasks.task import Generation, Loss


class AnyEncoded(Protocol):
    """An example as a model reads it."""

    @property
    def length(self) -> int:
        """Tokens of its longest row, by which a batch is sorted."""

    @property
    def truncated(self) -> bool:
        """Whether it has lost tokens to the longest length of a row."""

    @property
    def contents(self) -> tuple[Any, ...]:
        """What orders examples of one length."""


@dataclass(frozen=True)
class Encoding:
    """Say how rows are made: see `landscape.tasks.encoding.encode`."""

    max_length: int
    bos: Bos = "tokenizer"


@dataclass(frozen=True)
class Judging:
    """Say what predictions are wanted for: beside the model, all that they depend on.

    Args:
        metric: whose kind of predictions to make.
        loss: of the task.
        tokenizer: of the model.
        encoding: how the rows were made.
        generation: how completions are generated.
    """

    metric: Metric
    loss: Loss
    tokenizer: PreTrainedTokenizerBase
    encoding: Encoding
    generation: Generation


@dataclass(frozen=True)
class Judged:
    """Hold what a model said of some examples.

    Args:
        predictions: one an example, None where the model's outputs are NaN.
        losses: summing to the loss of all examples.
        terms: the number of loss terms.
        scores: of each example, the mean log-probability of each candidate, or the log-probability
            of each class of a head; empty where the examples have neither.
    """

    predictions: Sequence[Prediction | None]
    losses: list[float]
    terms: int
    scores: list[list[float]] = field(default_factory=list)


def best_of(scores: Float[Tensor, "b c"]) -> list[int | None]:
    """Return the index of the highest score in each row (b, c), None where one is NaN.

    >>> import torch
    >>> best_of(torch.tensor([[1.0, 3.0], [float("nan"), 0.0]]))
    [1, None]
    """
    lost = scores.isnan().any(1).tolist()
    best = scores.argmax(1).tolist()
    return [None if nan else i for nan, i in zip(lost, best, strict=True)]


@dataclass(frozen=True)
class Form:
    """Say how examples of one kind are read, trained on and judged.

    Args:
        kind: of the examples.
        encode: (examples, tokenizer, encoding) -> one encoded example each, in order.
        collate: (encoded, tokenizer, loss) -> a batch, which `landscape.task_loss` takes.
        judge: (model, encoded, examples, judging) -> predictions and losses, without gradients.
        answers: (metric, example) -> its right answers, as the metric needs them.
    """

    kind: type
    encode: Callable[[Sequence[Any], PreTrainedTokenizerBase, Encoding], list[Any]]
    collate: Callable[[Sequence[Any], PreTrainedTokenizerBase, Loss], Batch]
    judge: Callable[[nn.Module, Sequence[Any], Sequence[Any], Judging], Judged]
    answers: Callable[[Metric, Any], Sequence[Prediction]]
