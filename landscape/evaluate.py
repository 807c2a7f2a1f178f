"""Accuracy and loss of a model on a split of a task."""

import math
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from landscape.batches import Bos, collate, encode, length_limit, length_order, pad_id
from landscape.errors import UserError
from landscape.scoring import candidate_log_probs
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
        model: causal language model.
        tokenizer: of the model.
        task: what to judge it on.
        split: "train", "dev" or "test".
        batch_size: examples a forward, >= 1; it changes the speed, and the numbers by rounding.
        max_length: most tokens of a row; what the model takes, at most 2048, if absent.
        bos: what rows start with; see ``landscape.batches.encode``.
        progress: show a progress bar on standard error.

    Returns:
        ``accuracy``, share of examples whose right candidate scores highest (ties go to the first
        candidate); ``loss``, the mean of the task's loss per term; ``n``, number of examples. A
        diverged model, whose scores are NaN, has those examples wrong and a loss of NaN.

    Raises:
        UserError: an unknown split, or a batch size below 1.
    """
    if batch_size < 1:
        raise UserError(f"expected a batch size of at least 1, got {batch_size}")
    examples = task.split(split)
    encoded = encode(examples, tokenizer, max_length=max_length or length_limit(model), bos=bos)
    order = length_order(encoded)
    pad = pad_id(tokenizer)
    correct, terms = 0, 0
    losses: list[float] = []
    training = model.training
    model.eval()
    try:
        starts = range(0, len(order), batch_size)
        for i in tqdm(starts, desc=f"evaluate {split}", disable=not progress, leave=False):
            batch = collate([encoded[j] for j in order[i : i + batch_size]], pad)
            totals, counts = (x.cpu() for x in candidate_log_probs(model, batch))
            correct += _count_right(totals / counts.clamp(min=1), batch["labels"])
            loss, weight = _loss_terms(totals, counts, batch["labels"], task.loss)
            losses += loss
            terms += weight
    finally:
        model.train(training)
    return {"accuracy": correct / len(order), "loss": math.fsum(losses) / terms, "n": len(order)}


def _count_right(scores: Tensor, labels: Tensor) -> int:
    known = ~scores.isnan().any(1)
    return int((known & (scores.argmax(1) == labels)).sum())


def _loss_terms(
    totals: Tensor, counts: Tensor, labels: Tensor, loss: str
) -> tuple[list[float], int]:
    """Return each example's loss and the number of terms, as in ``scoring.task_loss``."""
    right = labels.unsqueeze(1)
    if loss == "language modelling":
        return (-totals.gather(1, right)).flatten().tolist(), int(counts.gather(1, right).sum())
    log_probs = (totals / counts.clamp(min=1)).log_softmax(1)
    return (-log_probs.gather(1, right)).flatten().tolist(), len(labels)
