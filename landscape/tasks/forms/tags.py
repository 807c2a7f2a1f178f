"""Words, each with a tag that a token classifier predicts at its first token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape.errors import UserError
from landscape.tasks.example import TaggedExample
from landscape.tasks.forms.form import Encoding, Form, Judged, Judging
from landscape.tasks.forms.heads import row_limit
from landscape.tasks.metrics import Metric, Prediction
from landscape.tasks.outputs.labelled import IGNORED, labelled_split
from landscape.tasks.padding import Batch, pad_id, padded
from landscape.tasks.task import Loss

OUTSIDE = "O"
"""The tag of a word that is part of no entity; words that were truncated are predicted so."""


@dataclass(frozen=True)
class EncodedTags:
    """Hold a sentence's tokens, each one's label, and where its words begin.

    Args:
        tokens: special ones included.
        labels: one a token: -100 where it begins no word.
        starts: one a word: the place of its first token, -1 where it has none: words beyond the
            longest length, and those of which the tokenizer leaves nothing.
        truncated: whether tokens were lost.
    """

    tokens: tuple[int, ...]
    labels: tuple[int, ...]
    starts: tuple[int, ...]
    truncated: bool = False

    @property
    def length(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    @property
    def contents(self) -> tuple[tuple[int, ...], ...]:
        """Return what orders examples of one length."""
        return self.tokens, self.labels, self.starts


def _encode(
    examples: Sequence[TaggedExample], tokenizer: PreTrainedTokenizerBase, encoding: Encoding
) -> list[EncodedTags]:
    """Tokenise words as they stand in a text, after a space."""
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"expected a fast tokenizer, which says of which word a token is, got "
            f"{type(tokenizer).__name__}; load the model's fast one"
        )
    limit = row_limit(tokenizer, encoding)
    found = []
    for example in examples:
        # byte-level tokenizers tell words by the space before them, others do without
        words = [f" {word}" for word in example.words]
        read = tokenizer(
            words, is_split_into_words=True, truncation=True, max_length=limit, verbose=False
        )
        starts, labels = [-1] * len(example.words), [IGNORED] * len(read["input_ids"])
        for place, word in enumerate(read.word_ids()):
            if word is not None and starts[word] < 0:
                starts[word] = place
                labels[place] = example.classes.index(example.tags[word])
        lost = len(labels) >= limit and (
            len(tokenizer(words, is_split_into_words=True, verbose=False)["input_ids"]) > limit
        )
        found.append(EncodedTags(tuple(read["input_ids"]), tuple(labels), tuple(starts), lost))
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
    logits, loss = labelled_split(model, _collate(encoded, judging.tokenizer, judging.loss))
    terms, count = loss(logits)
    predictions: list[Prediction | None] = []
    for own, sentence, example in zip(logits, encoded, examples, strict=True):
        if bool(own[[place for place in sentence.starts if place >= 0]].isnan().any()):
            predictions.append(None)
            continue
        best = own.argmax(1).tolist()
        tags = [example.classes[best[i]] if i >= 0 else OUTSIDE for i in sentence.starts]
        predictions.append(tags)
    return Judged(predictions, terms.tolist(), count)


def _answers(metric: Metric, example: TaggedExample) -> list[Prediction]:
    return [example.tags]


TAGS = Form(TaggedExample, _encode, _collate, _judge, _answers)
