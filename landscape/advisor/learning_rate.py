"""A learning rate for a task's text, without training."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape import checks
from landscape.advisor.evidence import Optimizer, measure_rates
from landscape.advisor.suggestion import RateSuggestion, recommend
from landscape.errors import UserError
from landscape.tasks import Task
from landscape.tasks.batches import make_batches
from landscape.tasks.encoding import length_limit

_ROWS = 4
"""Rows of a forward: a product holds the graph of that many."""


def suggest_lr(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    optimizer: Optimizer = "adamw",
    examples: int = 64,
    batch_size: int = 8,
) -> RateSuggestion:
    """Predict a good and the largest stable learning rate of the trainable parameters.

    AdamW's first step on a batch is -rate sign(g). A good rate is the one at which it moves the
    outputs of the batch's examples apart by as much as they differ: the standard deviation of the
    outputs over that of their change. SGD is stable below 2 / lambda_1(H). A run's best constant
    rate is a fixed share of either (`CALIBRATION`). Nothing is trained: weights, ``.grad``, mode
    and random state are left as they were.

    Args:
        model: a model with trainable parameters.
        tokenizer: its tokenizer.
        task: the task; the first training examples are used.
        optimizer: ``"adamw"`` (as in `finetune`) or ``"sgd"`` (without momentum).
        examples: how many training examples, at least three batches.
        batch_size: examples of a training step; the batches' spread is the sampling error.

    Returns:
        The suggestion, for a constant rate and a run of about 40 steps.

    Raises:
        UserError: fewer than three batches, an unknown optimizer, nothing trainable, a loss that
            is flat or not finite, or outputs that are the same for every example.

    Cost: for AdamW 2 gradients and a matvec over the examples, for SGD about 20 matvecs; k
    elements for each batch. Source: AdamW: the artefact `rates`, in the spirit of features that
    change by their own size, Yang & Hu (2021); SGD: Cohen et al. (2021), section 2.
    """
    checks.model(model)
    if not hasattr(model, "config"):
        raise UserError(
            f"expected a model of transformers for a task's text, got {type(model).__name__}; for "
            "a module and batches of your own use landscape.advisor: "
            "recommend(measure_rates(model, [[batch], [batch], ...], loss=))"
        )
    checks.tokenizer(tokenizer)
    checks.has("task", task, "a Task", "train", "split", do="load or make one")
    examples = checks.whole("examples", examples, least=1)
    batch_size = checks.whole("batch_size", batch_size, least=1)
    least = 2 if optimizer == "adamw" else 1
    if batch_size < least:
        raise UserError(
            f"expected a batch size of at least {least}, got {batch_size}; for adamw examples are "
            "compared with others of their batch"
        )
    chosen = task.train[:examples]
    if len(chosen) < 3 * batch_size:
        raise UserError(
            f"expected examples for at least three batches of {batch_size}, got {len(chosen)}; "
            "raise examples and the task's num_train, or lower batch_size"
        )
    limit = length_limit(model)
    batches = [
        make_batches(
            chosen[i : i + batch_size], tokenizer, _ROWS, sort=True, loss=task.loss,
            max_length=limit,
        )
        for i in range(0, len(chosen) - batch_size + 1, batch_size)
    ]  # fmt: skip
    return recommend(measure_rates(model, batches, optimizer=optimizer))
