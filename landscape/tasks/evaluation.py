"""A task's metric and the loss of a model on one of its splits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from landscape import checks
from landscape.errors import UserError
from landscape.tasks.batches import Bos, collate, length_order, pad_id
from landscape.tasks.encoding import encode, length_limit
from landscape.tasks.metrics import METRICS, Metric, Prediction
from landscape.tasks.scoring import candidate_log_probs
from landscape.tasks.task import Example, Loss, Task


@torch.no_grad()
def evaluate(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    split: str = "test",
    batch_size: int = 32,
    max_length: int | None = None,
    bos: Bos = "tokenizer",
    progress: bool = False,
) -> dict[str, float]:
    """Judge a model by the candidate it gives the highest score.

    Examples are scored from longest to shortest, which saves padding; the values do not depend on
    the order in which the split lists them. The model is in eval mode meanwhile.

    Args:
        model: language model, or a sequence classifier (candidates of one token each).
        tokenizer: of the model.
        task: what to judge it on.
        split: "train", "dev" or "test".
        batch_size: examples a forward, >= 1; it changes the speed, and the values by rounding.
        max_length: most tokens of a row, at least 2; 2048 if absent, and never more than the
            model takes.
        bos: what rows start with; see ``landscape.tasks.encoding.encode``.
        progress: show a progress bar on standard error, if that is a terminal.

    Returns:
        The task's metric under its name (see ``landscape.tasks.metrics.METRICS``): ``accuracy``
        is the share of examples for which a right candidate scores highest (ties go to the first
        candidate); metrics of texts and numbers take the predicted candidate as one. ``loss``: the
        mean of the task's loss per term, by the label of each example. ``n``: the number of
        examples. A diverged model, whose scores are NaN, has those examples wrong and a loss of
        NaN.

    Raises:
        UserError: an unknown split, a batch size or length that is too small, a metric of numbers
            where a candidate is none, or a metric of tags, which no candidate is.
    """
    checks.model(model)
    checks.tokenizer(tokenizer)
    checks.has("task", task, "a Task", "train", "split", do="load or make one")
    batch_size = checks.whole("batch_size", batch_size, least=1)
    if max_length is not None:
        max_length = checks.whole("max_length", max_length, least=2)
    metric, examples = METRICS[task.metric], task.split(split)
    answers = [_answers(metric, example) for example in examples]
    limit = length_limit(model, max_length)
    encoded = encode(examples, tokenizer, max_length=limit, bos=bos)
    order, pad = length_order(encoded), pad_id(tokenizer)
    torch.clear_autocast_cache()  # of weights written in place before, inside a user's autocast
    predictions: list[Prediction | None] = [None] * len(order)
    losses: list[float] = []
    terms, training = 0, model.training
    model.eval()
    try:
        starts = range(0, len(order), batch_size)
        bar = tqdm(
            starts, desc=f"evaluate {split}", disable=None if progress else True, leave=False
        )
        for i in bar:
            chosen = order[i : i + batch_size]
            batch = collate([encoded[j] for j in chosen], pad)
            totals, counts = (x.cpu() for x in candidate_log_probs(model, batch))
            for j, best in zip(chosen, _best(totals / counts.clamp(min=1)), strict=True):
                predictions[j] = None if best is None else _as(metric, examples[j], best)
            loss, weight = _loss_terms(totals, counts, batch["labels"], task.loss)
            losses += loss
            terms += weight
    finally:
        model.train(training)
    value = metric(predictions, answers)
    return {task.metric: value, "loss": math.fsum(losses) / terms, "n": len(order)}


def _best(scores: Tensor) -> list[int | None]:
    """Return the candidate of the highest score in each row (b, c), None where one is NaN."""
    unknown = scores.isnan().any(1).tolist()
    return [None if nan else best for nan, best in zip(unknown, scores.argmax(1).tolist())]


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


def _answers(metric: Metric, example: Example) -> Sequence[Prediction]:
    if metric.needs == "tags":
        raise UserError(
            f"expected a metric of candidates, texts or numbers, got {metric.name}, which judges "
            "a tag for each word; call it with tags: METRICS[name](predictions, answers)"
        )
    return [_as(metric, example, i) for i in (example.label, *example.also_right)]


def _loss_terms(
    totals: Tensor, counts: Tensor, labels: Tensor, loss: Loss
) -> tuple[list[float], int]:
    """Return each example's loss and the number of terms, as in ``scoring.task_loss``."""
    right = labels.unsqueeze(1)
    if loss == "language modelling":
        return (-totals.gather(1, right)).flatten().tolist(), int(counts.gather(1, right).sum())
    log_probs = (totals / counts.clamp(min=1)).log_softmax(1)
    return (-log_probs.gather(1, right)).flatten().tolist(), len(labels)
