"""Accuracy and loss of a model on a split of a task."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from landscape import checks
from landscape.errors import UserError
from landscape.tasks.batches import (
    Bos,
    Encoded,
    collate,
    encode,
    length_limit,
    length_order,
    pad_id,
)
from landscape.tasks.scoring import candidate_log_probs
from landscape.tasks.task import Task


@torch.no_grad()
def evaluate(
    model: Any,
    tokenizer: Any,
    task: Task,
    *,
    split: str = "test",
    batch_size: int = 32,
    max_length: int | None = None,
    bos: Bos = "tokenizer",
    progress: bool = False,
) -> dict[str, Any]:
    """Judge a model by the candidate it gives the highest score.

    Examples are scored from longest to shortest, which saves padding; the numbers do not depend
    on the order in which the split lists them. The model is in eval mode meanwhile.

    Args:
        model: causal language model, or a sequence classifier (candidates of one token each).
        tokenizer: of the model.
        task: what to judge it on.
        split: "train", "dev" or "test".
        batch_size: examples a forward, >= 1; it changes the speed, and the numbers by rounding.
        max_length: most tokens of a row, at least 2; 2048 if absent, and never more than the
            model takes.
        bos: what rows start with; see ``landscape.tasks.batches.encode``.
        progress: show a progress bar on standard error, if that is a terminal.

    Returns:
        The task's metric, ``accuracy``: share of examples for which a right candidate scores
        highest (ties go to the first candidate); ``loss``, the mean of the task's loss per term;
        ``n``, number of examples. A diverged model, whose scores are NaN, has those examples wrong
        and a loss of NaN.

    Raises:
        UserError: an unknown split, or a batch size or length that is too small.
    """
    checks.model(model)
    checks.tokenizer(tokenizer)
    checks.has("task", task, "a Task", "train", "split", do="load or make one")
    batch_size = checks.whole("batch_size", batch_size, least=1)
    if max_length is not None:
        max_length = checks.whole("max_length", max_length, least=2)
    if batch_size < 1:
        raise UserError(f"expected a batch size of at least 1, got {batch_size}")
    examples = task.split(split)
    limit = length_limit(model, max_length)
    encoded = encode(examples, tokenizer, max_length=limit, bos=bos)
    order = length_order(encoded)
    pad = pad_id(tokenizer)
    torch.clear_autocast_cache()  # of weights written in place before, inside a user's autocast
    correct, terms = 0, 0
    losses: list[float] = []
    training = model.training
    model.eval()
    try:
        starts = range(0, len(order), batch_size)
        bar = tqdm(
            starts, desc=f"evaluate {split}", disable=None if progress else True, leave=False
        )
        for i in bar:
            chosen = [encoded[j] for j in order[i : i + batch_size]]
            batch = collate(chosen, pad)
            totals, counts = (x.cpu() for x in candidate_log_probs(model, batch))
            correct += _count_right(totals / counts.clamp(min=1), chosen)
            loss, weight = _loss_terms(totals, counts, batch["labels"], task.loss)
            losses += loss
            terms += weight
    finally:
        model.train(training)
    return {"accuracy": correct / len(order), "loss": math.fsum(losses) / terms, "n": len(order)}


def _count_right(scores: Tensor, examples: Sequence[Encoded]) -> int:
    known = (~scores.isnan().any(1)).tolist()
    best = scores.argmax(1).tolist()
    return sum(
        k and answer in (e.label, *e.also_right)
        for k, answer, e in zip(known, best, examples, strict=True)
    )


def _loss_terms(
    totals: Tensor, counts: Tensor, labels: Tensor, loss: str
) -> tuple[list[float], int]:
    """Return each example's loss and the number of terms, as in ``scoring.task_loss``."""
    right = labels.unsqueeze(1)
    if loss == "language modelling":
        return (-totals.gather(1, right)).flatten().tolist(), int(counts.gather(1, right).sum())
    log_probs = (totals / counts.clamp(min=1)).log_softmax(1)
    return (-log_probs.gather(1, right)).flatten().tolist(), len(labels)
