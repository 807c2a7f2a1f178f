"""Words, each with a tag that a token classifier predicts at its first token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape.errors import UserError
from landscape.tasks.example import TaggedExample
from landscape.tasks.forms.form import Encoding, Form, Judged, Judging
from landscape.tasks.labelled import IGNORED, labelled_split
from landscape.tasks.metrics import Metric, Prediction
from landscape.tasks.padding import Batch, pad_id, padded
from landscape.tasks.task import Loss

OUTSIDE = "O"
"""The tag of a word that is part of no entity; words that were truncated are predicted so."""


@dataclass(frozen=True)
class EncodedTags:
    """Hold a sentence's tokens, and each token's label: -100 where it begins no word."""

    tokens: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def length(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    @property
    def contents(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return what orders examples of one length."""
        return self.tokens, self.labels


def _encode(
    examples: Sequence[TaggedExample], tokenizer: PreTrainedTokenizerBase, encoding: Encoding
) -> list[EncodedTags]:
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"expected a fast tokenizer, which says of which word a token is, got "
            f"{type(tokenizer).__name__}; load the model's fast one"
        )
    limit = min(encoding.max_length, getattr(tokenizer, "model_max_length", encoding.max_length))
    found = []
    for example in examples:
        read = tokenizer(
            list(example.words), is_split_into_words=True, truncation=True, max_length=limit,
            verbose=False,
        )  # fmt: skip
        labels, before = [], None
        for word in read.word_ids():
            first = word is not None and word != before
            labels.append(example.classes.index(example.tags[word]) if first else IGNORED)
            before = word
        found.append(EncodedTags(tuple(read["input_ids"]), tuple(labels)))
    return found


def _collate(
    encoded: Sequence[EncodedTags], tokenizer: PreTrainedTokenizerBase, loss: Loss
) -> Batch:
    batch = padded([e.tokens for e in encoded], pad_id(tokenizer), left=False)
    return batch | {"labels": padded([e.labels for e in encoded], IGNORED, left=False)["input_ids"]}


def _judge(
    model: nn.Module,
    encoded: Sequence[EncodedTags],
    examples: Sequence[TaggedExample],
    judging: Judging,
) -> Judged:
    batch = _collate(encoded, judging.tokenizer, judging.loss)
    logits, loss = labelled_split(model, batch)
    terms, count = loss(logits)
    asked = (batch["labels"] != IGNORED).to(logits.device)
    predictions: list[Prediction | None] = []
    for i, example in enumerate(examples):
        own = logits[i][asked[i]]
        tags = [example.classes[j] for j in own.argmax(1).tolist()]
        tags += [OUTSIDE] * (len(example.words) - len(tags))
        predictions.append(None if bool(own.isnan().any()) else tags)
    return Judged(predictions, terms.tolist(), count)


def _answers(metric: Metric, example: TaggedExample) -> list[Prediction]:
    return [example.tags]


TAGS = Form(TaggedExample, _encode, _collate, _judge, _answers)
