"""Texts, one or a pair, whose class or number a head predicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape.errors import UserError
from landscape.tasks.example import TextExample
from landscape.tasks.forms.form import Encoding, Form, Judged, Judging
from landscape.tasks.forms.heads import judged_classes, row_limit
from landscape.tasks.metrics import Metric, Prediction
from landscape.tasks.outputs.labelled import labelled_split
from landscape.tasks.padding import Batch, pad_id, padded
from landscape.tasks.task import Loss


@dataclass(frozen=True)
class EncodedText:
    """Hold a text's tokens, special ones included, of which text each is, and the label.

    ``truncated`` says whether tokens were lost.
    """

    tokens: tuple[int, ...]
    segments: tuple[int, ...]
    label: float
    truncated: bool = False

    @property
    def length(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    @property
    def contents(self) -> tuple[tuple[int, ...], float]:
        """Return what orders examples of one length."""
        return self.tokens, self.label


def _encode(
    examples: Sequence[TextExample], tokenizer: PreTrainedTokenizerBase, encoding: Encoding
) -> list[EncodedText]:
    """Tokenise as the tokenizer does itself, the longer text of a pair being truncated first."""
    found = []
    limits = {n: row_limit(tokenizer, encoding, texts=n) for n in {len(e.texts) for e in examples}}
    for example in examples:
        limit = limits[len(example.texts)]
        read = tokenizer(*example.texts, truncation=True, max_length=limit, verbose=False)
        tokens = tuple(read["input_ids"])
        if not tokens:
            raise UserError(
                f"expected a text with at least one token, got {example.texts[0][:60]!r}, of which "
                "the tokenizer leaves none; leave the example out"
            )
        label = int(example.label) if example.classes else example.label
        lost = len(tokens) >= limit and (
            len(tokenizer(*example.texts, verbose=False)["input_ids"]) > limit
        )
        found.append(EncodedText(tokens, tuple(read.get("token_type_ids", ())), label, lost))
    return found


def _collate(
    encoded: Sequence[EncodedText], tokenizer: PreTrainedTokenizerBase, loss: Loss
) -> Batch:
    batch = padded([e.tokens for e in encoded], pad_id(tokenizer), left=False)
    if any(map(any, (e.segments for e in encoded))):  # all 0 is what a model assumes
        segments = [e.segments or (0,) * e.length for e in encoded]
        batch["token_type_ids"] = padded(segments, 0, left=False)["input_ids"]
    return batch | {"labels": torch.tensor([e.label for e in encoded])}


def _judge(
    model: nn.Module,
    encoded: Sequence[EncodedText],
    examples: Sequence[TextExample],
    judging: Judging,
) -> Judged:
    batch = _collate(encoded, judging.tokenizer, judging.loss)
    if judging.loss != "regression":
        return judged_classes(model, batch)
    logits, loss = labelled_split(model, batch)
    terms, count = loss(logits)
    numbers = logits[:, 0].tolist()
    return Judged([None if math.isnan(n) else n for n in numbers], terms.tolist(), count)


def _answers(metric: Metric, example: TextExample) -> list[Prediction]:
    return [int(example.label) if example.classes else example.label]


TEXTS = Form(TextExample, _encode, _collate, _judge, _answers)
