"""Completions: texts that a language model generates after a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape.tasks.encoding import Encoded, encode
from landscape.tasks.example import Completion, Example
from landscape.tasks.forms.candidates import collate
from landscape.tasks.forms.form import Encoding, Form, Judged, Judging
from landscape.tasks.generating import generate
from landscape.tasks.metrics import Metric, Prediction
from landscape.tasks.padding import Batch, pad_id
from landscape.tasks.scoring import row_log_probs
from landscape.tasks.task import Loss


def _encode(
    examples: Sequence[Completion], tokenizer: PreTrainedTokenizerBase, encoding: Encoding
) -> list[Encoded]:
    """Tokenise each prompt with what training appends to it."""
    rows = [Example(example.prompt, (example.written,), 0) for example in examples]
    return encode(rows, tokenizer, max_length=encoding.max_length, bos=encoding.bos)


def _collate(encoded: Sequence[Encoded], tokenizer: PreTrainedTokenizerBase, loss: Loss) -> Batch:
    return collate(encoded, pad_id(tokenizer), loss="language modelling")


def _judge(
    model: nn.Module, encoded: Sequence[Encoded], examples: Sequence[Completion], judging: Judging
) -> Judged:
    totals, counts = row_log_probs(model, _collate(encoded, judging.tokenizer, judging.loss))
    texts = generate(
        model, [e.prompt for e in encoded], judging.tokenizer, judging.generation,
        max_length=judging.encoding.max_length,
    )  # fmt: skip
    lost = totals.isnan().tolist()
    predictions: list[Prediction | None] = [
        None if nan else text for nan, text in zip(lost, texts, strict=True)
    ]
    return Judged(predictions, (-totals).tolist(), int(counts.sum()))


def _answers(metric: Metric, example: Completion) -> list[Prediction]:
    return list(example.answers)


COMPLETIONS = Form(Completion, _encode, _collate, _judge, _answers)
