"""Scores of candidates and the training loss: mean log-probabilities, from few output positions.

The output head (a fifth of a step at OPT-125m's shape) runs on the scored positions only.
Everything here is differentiable twice.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from landscape import checks
from landscape.errors import UserError
from landscape.models.kinds import num_labels
from landscape.tasks.outputs.forward import (
    label_logits,
    last_logits,
    on_device,
    token_log_probs,
    wide,
)
from landscape.tasks.outputs.labelled import labelled_split
from landscape.tasks.padding import Batch

SCORED = frozenset({"candidate_ids", "rows", "targets"})
"""Entries of which a batch of candidates or completions has one or two."""


def candidate_scores(model: nn.Module, batch: Batch) -> Float[Tensor, "b c"]:
    """Score each candidate by the mean log-probability of its tokens after the prompt.

        score_j = 1/L_j sum_i log p(token_ji | prompt, token_j1 .. token_j(i-1))

    Args:
        model: language model, or a sequence classifier (candidates of one token each).
        batch: b examples with at most c candidates, from ``collate(..., "classification")``.

    Returns:
        Scores (b, c) in float32 or wider, -inf where an example has no such candidate.

    Raises:
        UserError: the batch holds right candidates only, or the model cannot be scored.
    """
    totals, counts = candidate_log_probs(model, batch)
    return totals / counts.clamp(min=1)


def candidate_log_probs(
    model: nn.Module, batch: Batch
) -> tuple[Float[Tensor, "b c"], Int[Tensor, "b c"]]:
    """Return the summed log-probabilities of each candidate's tokens, and how many there are.

    Args:
        model: language model, or a sequence classifier (candidates of one token each).
        batch: as for ``candidate_scores``.

    Returns:
        Sums (b, c), -inf where an example has no such candidate, and counts (b, c), 0 there.

    Raises:
        UserError: as ``candidate_scores``.
    """
    batch = on_device(batch, model)
    if "candidate_ids" in batch:
        mask = batch["candidate_mask"]
        totals = _candidate_log_probs(model, batch)
        return totals.masked_fill(~mask, -torch.inf), mask.long()
    if "rows" not in batch:
        raise UserError(
            "expected a batch with all candidates, got one with the right candidates only; make "
            'batches with loss="classification" to score them'
        )
    totals, counts = row_log_probs(model, batch)
    rows, absent = batch["rows"].clamp(min=0), batch["rows"] < 0
    return totals[rows].masked_fill(absent, -torch.inf), counts[rows].masked_fill(absent, 0)


def task_loss(model: nn.Module, batch: Batch) -> tuple[Float[Tensor, ""], int]:
    """Return the loss of a batch, summed over its terms, and the number of terms.

    Classification: cross-entropy of the candidates' scores against the right one, one term an
    example. With single-token candidates the logits of the candidates serve as scores: they differ
    from the log-probabilities by the normaliser, which all candidates share and which cancels.
    Language modelling: negative log-probability of the right candidate, or of a completion's text,
    one term a token. Of a batch for a head, with ``labels``: its cross-entropy, or the squared
    error of numbers, one term a label.

    Args:
        model: language model, a sequence classifier (candidates of one token each), or a model
            with a head for the batch's labels.
        batch: from `landscape.make_batches`, which is told the task's loss; or a dict of a
            transformers model's arguments with ``labels``.

    Returns:
        The sum, a scalar tensor in float32 or wider, and the count. Their quotient over several
        batches (sum of sums / sum of counts) does not depend on how examples are batched.
    """
    if not _is_scored(batch):
        outputs, loss = labelled_split(model, batch)
        terms, count = loss(outputs)
        return terms.sum(), count
    batch = on_device(batch, model)
    labels = batch["labels"]
    if "candidate_ids" in batch:
        logits = _candidate_logits(model, batch)
        return _cross_entropy(logits, ~batch["candidate_mask"], labels), len(labels)
    if "rows" in batch:
        scores = candidate_scores(model, batch)
        return _cross_entropy(scores, batch["rows"] < 0, labels), len(labels)
    totals, counts = row_log_probs(model, batch)
    return -totals.sum(), int(counts.sum())


def task_split(
    model: nn.Module, batch: Batch
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, int]]]:
    """Return ``task_loss`` in two steps: the model's outputs, and a loss that is convex in them.

    Args:
        model, batch: as of ``task_loss``.

    Returns:
        The outputs z, and a function z -> (loss terms, their number) whose terms sum to the loss
        of ``task_loss``. Classification: z holds the candidates' scores (b, c), a term an example.
        Language modelling: z holds the logits (rows, L, vocabulary), a term a token, absent
        tokens being zero. With a head: z holds its logits, a term a label.
    """
    if not _is_scored(batch):
        return labelled_split(model, batch)
    batch = on_device(batch, model)
    labels = batch["labels"]
    if "candidate_ids" in batch or "rows" in batch:
        if "candidate_ids" in batch:
            absent = ~batch["candidate_mask"]
            scores = _candidate_logits(model, batch)
        else:
            absent, scores = batch["rows"] < 0, candidate_scores(model, batch)
        return scores.masked_fill(absent, 0.0), lambda z: (
            _cross_entropy(z, absent, labels, reduction="none"),
            len(labels),
        )
    targets, mask = batch["targets"], batch["target_mask"]

    def log_losses(z: Tensor) -> tuple[Tensor, int]:
        return -token_log_probs(z, targets, mask), int(mask.sum())

    return wide(last_logits(model, batch, targets.shape[1])), log_losses


def _is_scored(batch: Batch) -> bool:
    """Tell a batch of candidates or completions from one with labels, for a head."""
    checks.has("batch", batch, "a batch", "keys", do="make some with make_batches")
    return bool(SCORED & batch.keys())


def _cross_entropy(
    scores: Tensor, absent: Tensor, labels: Tensor, reduction: str = "sum"
) -> Tensor:
    """Return the cross-entropy over the candidates (b, c) that are there, summed by default."""
    # Not -inf: the second derivative of log_softmax multiplies it by zero.
    far = torch.finfo(scores.dtype).min / 2
    return F.cross_entropy(scores.masked_fill(absent, far), labels, reduction=reduction)


def _candidate_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Return the logits (b, c) of single-token candidates."""
    if num_labels(model):
        return label_logits(model, batch)
    return wide(last_logits(model, batch, 1)[:, -1].gather(1, batch["candidate_ids"]))


def _candidate_log_probs(model: nn.Module, batch: Batch) -> Tensor:
    """Return the log-probabilities (b, c) of single-token candidates, among all outputs."""
    if num_labels(model):
        absent = ~batch["candidate_mask"]
        return label_logits(model, batch).masked_fill(absent, -torch.inf).log_softmax(-1)
    log_probs = wide(last_logits(model, batch, 1)[:, -1]).log_softmax(-1)
    return log_probs.gather(1, batch["candidate_ids"])


def row_log_probs(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return summed log-probabilities (rows,) of each row's targets, and how many (rows,)."""
    batch = on_device(batch, model)
    targets, mask = batch["targets"], batch["target_mask"]
    logits = last_logits(model, batch, targets.shape[1])
    return token_log_probs(logits, targets, mask).sum(1), mask.sum(1)
