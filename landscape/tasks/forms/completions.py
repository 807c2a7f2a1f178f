"""Completions: texts that a language model generates after a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from landscape.models.kinds import without_wrappers
from landscape.tasks.encoding import Bos, Encoded, encode, token_limit
from landscape.tasks.example import Completion, Example
from landscape.tasks.forms.candidates import collate
from landscape.tasks.forms.form import Encoding, Form, Judged, Judging
from landscape.tasks.metrics import Metric, Prediction
from landscape.tasks.outputs.decoding import log_probs_after, read
from landscape.tasks.outputs.generating import generate, prompt_room, reads_once, texts_after
from landscape.tasks.outputs.scoring import row_log_probs
from landscape.tasks.outputs.shared_prompt import CONTEXT, parts
from landscape.tasks.padding import Batch, pad_id
from landscape.tasks.task import Loss


@dataclass(frozen=True)
class Asked(Encoded):
    """Hold a completion as tokens: what training reads, and the prompt that is generated after.

    They differ where a row is too long: training leaves room for its answer, generation for any.
    """

    asked: tuple[int, ...] = ()


def _encode(
    examples: Sequence[Completion], tokenizer: PreTrainedTokenizerBase, encoding: Encoding
) -> list[Asked]:
    """Tokenise each prompt with what training appends to it.

    What does not end with a newline token ends with the tokenizer's end-of-text token, if it has
    one, lest a model never learn to stop: answers of several lines, and all answers of tokenizers
    without newlines, such as T5's.
    """
    limit = token_limit(tokenizer, encoding.max_length)
    rows = [Example(example.prompt, (example.written,), 0) for example in examples]
    found = encode(rows, tokenizer, max_length=limit, bos=encoding.bos)
    return [_asked(row, e, tokenizer, limit, encoding.bos) for row, e in zip(rows, found)]


def _asked(
    row: Example, encoded: Encoded, tokenizer: PreTrainedTokenizerBase, limit: int, bos: Bos
) -> Asked:
    asked = encoded.prompt
    if encoded.length >= limit:  # it may be truncated, for an answer that generation does not know
        asked = encode([replace(row, candidates=(" a",))], tokenizer, max_length=limit, bos=bos)[
            0
        ].prompt
    end, written = tokenizer.eos_token_id, encoded.candidates[0]
    if end is not None and not tokenizer.decode(written[-1:]).endswith("\n"):
        if encoded.length >= limit:
            (encoded,) = encode([row], tokenizer, max_length=limit - 1, bos=bos)
        written = (*written, int(end))
    return Asked(encoded.prompt, (written,), 0, truncated=encoded.truncated, asked=asked)


def _collate(encoded: Sequence[Encoded], tokenizer: PreTrainedTokenizerBase, loss: Loss) -> Batch:
    return collate(encoded, pad_id(tokenizer), loss="language modelling")


def _judge(
    model: nn.Module, encoded: Sequence[Asked], examples: Sequence[Completion], judging: Judging
) -> Judged:
    """Generate a text after each prompt, and take the loss of its first answer.

    Cost: `generate`'s, and a forward of the answers; of prompts and answers where a model's prompts
    cannot be read once, or a row is too long for both. Keys and values of `CONTEXT` tokens, or of
    one row, are held at once.
    """
    predictions: list[Prediction | None] = []
    losses: list[float] = []
    for part in parts(encoded, lambda _: 1, CONTEXT):
        totals, texts = _loss_and_texts(model, part, judging)
        losses += (-totals).tolist()
        for nan, text in zip(totals.isnan().tolist(), texts, strict=True):
            predictions.append(None if nan else text)
    return Judged(predictions, losses, sum(len(e.candidates[0]) for e in encoded))


def _loss_and_texts(
    model: nn.Module, encoded: Sequence[Asked], judging: Judging
) -> tuple[Float[Tensor, " b"], list[str]]:
    """Return the summed log-probability of each first answer, and what the model writes."""
    tokenizer, generation, pad = judging.tokenizer, judging.generation, pad_id(judging.tokenizer)
    limit = token_limit(tokenizer, judging.encoding.max_length)
    room = prompt_room(model, generation, limit)
    if reads_once(model) and all(e.prompt == e.asked and len(e.asked) <= room for e in encoded):
        reading = read(without_wrappers(model), [e.prompt for e in encoded], pad)
        totals = log_probs_after(reading, [e.candidates[0] for e in encoded], pad)
        return totals, texts_after(reading, tokenizer, generation)
    totals, _ = row_log_probs(model, _collate(encoded, tokenizer, judging.loss))
    prompts = [e.asked for e in encoded]
    return totals, generate(model, prompts, tokenizer, generation, max_length=limit)


def _answers(metric: Metric, example: Completion) -> list[Prediction]:
    return list(example.answers)


COMPLETIONS = Form(Completion, _encode, _collate, _judge, _answers)
