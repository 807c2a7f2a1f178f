"""Candidates: prompts whose right continuation scores highest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from landscape.errors import UserError
from landscape.tasks.encoding import Encoded, encode
from landscape.tasks.example import Example
from landscape.tasks.forms.form import Encoding, Form, Judged, Judging, best_of
from landscape.tasks.metrics import Metric, Prediction
from landscape.tasks.outputs.scoring import candidate_log_probs
from landscape.tasks.outputs.shared_prompt import CONTEXT, parts, shared_log_probs
from landscape.tasks.padding import Batch, pad_id, padded
from landscape.tasks.task import Loss


def collate(encoded: Sequence[Encoded], pad: int, *, loss: Loss = "classification") -> Batch:
    """Pad encoded examples on the left into one batch.

    Args:
        encoded: b >= 1 examples.
        pad: token that fills up rows; it is masked out, so any legal id does.
        loss: "classification" keeps all candidates; "language modelling" keeps the right ones
            only, which is all that training on them needs.

    Returns:
        The batch; see ``Batch`` for its entries.
    """
    labels = torch.tensor([e.label for e in encoded])
    if loss == "language modelling":
        right = [(e.prompt, e.candidates[e.label]) for e in encoded]
        return {"labels": labels, **_candidate_rows(right, pad)}
    width = max(len(e.candidates) for e in encoded)
    if all(e.single_token for e in encoded):
        ids = torch.full((len(encoded), width), pad)
        mask = torch.zeros(len(encoded), width, dtype=torch.bool)
        for i, e in enumerate(encoded):
            ids[i, : len(e.candidates)] = torch.tensor([c[0] for c in e.candidates])
            mask[i, : len(e.candidates)] = True
        prompts = padded([e.prompt for e in encoded], pad)
        return {"labels": labels, "candidate_ids": ids, "candidate_mask": mask, **prompts}
    rows = torch.full((len(encoded), width), -1)
    pairs: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for i, e in enumerate(encoded):
        count = len(e.candidates)
        rows[i, :count] = torch.arange(len(pairs), len(pairs) + count)
        pairs += [(e.prompt, candidate) for candidate in e.candidates]
    return {"labels": labels, "rows": rows, **_candidate_rows(pairs, pad)}


def _candidate_rows(
    pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], pad: int
) -> dict[str, Tensor]:
    inputs = [prompt + candidate[:-1] for prompt, candidate in pairs]
    targets = padded([candidate for _, candidate in pairs], pad)
    return {
        "targets": targets["input_ids"],
        "target_mask": targets["attention_mask"].bool(),
        **padded(inputs, pad),
    }


def _encode(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, encoding: Encoding
) -> list[Encoded]:
    return encode(examples, tokenizer, max_length=encoding.max_length, bos=encoding.bos)


def _collate(encoded: Sequence[Encoded], tokenizer: PreTrainedTokenizerBase, loss: Loss) -> Batch:
    return collate(encoded, pad_id(tokenizer), loss=loss)


def _judge(
    model: nn.Module, encoded: Sequence[Encoded], examples: Sequence[Example], judging: Judging
) -> Judged:
    totals, counts = log_probs(model, encoded, pad_id(judging.tokenizer))
    scores = totals / counts.clamp(min=1)
    predictions = [
        None if best is None else _as(judging.metric, example, best)
        for example, best in zip(examples, best_of(scores), strict=True)
    ]
    labels = torch.tensor([e.label for e in encoded])
    losses, terms = _loss_terms(totals, counts, labels, judging.loss)
    return Judged(predictions, losses, terms, scores.tolist())


def log_probs(model: nn.Module, encoded: Sequence[Encoded], pad: int) -> tuple[Tensor, Tensor]:
    """Return ``candidate_log_probs`` of examples, on the CPU, with each prompt computed once."""
    if all(e.single_token for e in encoded):
        found = candidate_log_probs(model, collate(encoded, pad))
    else:
        found = shared_log_probs(model, encoded, pad) or _row_log_probs(model, encoded, pad)
    return found[0].cpu(), found[1].cpu()


def _row_log_probs(model: nn.Module, encoded: Sequence[Encoded], pad: int) -> tuple[Tensor, Tensor]:
    """Return ``candidate_log_probs`` of examples, by forwards of bounded size."""
    width = max(len(e.candidates) for e in encoded)
    totals, counts = [], []
    for part in parts(encoded, lambda e: len(e.candidates), CONTEXT):
        found, held = candidate_log_probs(model, collate(part, pad))
        absent = (0, width - found.shape[1])
        totals.append(F.pad(found, absent, value=-torch.inf))
        counts.append(F.pad(held, absent))
    return torch.cat(totals), torch.cat(counts)


def _answers(metric: Metric, example: Example) -> list[Prediction]:
    return [_as(metric, example, i) for i in (example.label, *example.also_right)]


def _as(metric: Metric, example: Example, candidate: int) -> Prediction:
    """Return a candidate of an example as what a metric needs."""
    if metric.needs == "candidate":
        return candidate
    text = example.candidates[candidate].strip()
    if metric.needs == "text":
        return text
    try:
        return float(text)
    except ValueError:
        raise UserError(
            f"expected candidates that are numbers for {metric.name}, got {text[:60]!r}; choose "
            "a metric of candidates or texts"
        ) from None


def _loss_terms(
    totals: Tensor, counts: Tensor, labels: Tensor, loss: Loss
) -> tuple[list[float], int]:
    """Return each example's loss and the number of terms, as in ``scoring.task_loss``."""
    right = labels.unsqueeze(1)
    if loss == "language modelling":
        return (-totals.gather(1, right)).flatten().tolist(), int(counts.gather(1, right).sum())
    log_probs = (totals / counts.clamp(min=1)).log_softmax(1)
    return (-log_probs.gather(1, right)).flatten().tolist(), len(labels)


CANDIDATES = Form(Example, _encode, _collate, _judge, _answers)
