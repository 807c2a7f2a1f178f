"""The loss of a batch that says itself what it is scored by, and its cut at the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.errors import UserError
from landscape.losses.kinds import Terms
from landscape.tasks.scoring import task_loss, task_split

_IGNORED = -100
"""The label of what is not scored, in transformers and torch."""

_DIFFERENT = 1e-3
"""Relative difference above which two losses are not the same."""


def default_split(model: Any, batch: Any) -> tuple[Tensor, Terms]:
    """Cut the loss of a batch at the model's outputs, whatever kind of batch it is.

    A batch of `landscape.make_batches` has the loss of `task_split`; a dict batch with ``labels``
    that of `labelled_split`.

    Raises:
        UserError: it is neither.
    """
    if isinstance(batch, Mapping) and {"candidate_ids", "rows", "targets"} & batch.keys():
        return task_split(model, dict(batch))
    if isinstance(batch, Mapping) and "labels" in batch:
        return labelled_split(model, batch)
    keys = sorted(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
    raise UserError(
        f"expected a batch of make_batches, or a dict of a model's arguments with labels, got "
        f"{keys}; pass loss= (or split=) for other batches"
    )


def default_loss(model: Any, batch: Any) -> tuple[Tensor, float]:
    """Return the sum of the loss terms of a batch and their number, as `default_split` does."""
    if isinstance(batch, Mapping) and {"candidate_ids", "rows", "targets"} & batch.keys():
        return task_loss(model, dict(batch))
    outputs, loss = default_split(model, batch)
    terms, count = loss(outputs)
    return terms.sum(), count


# their terms belong to rows: nothing to check
default_loss.in_batch = default_split.in_batch = False  # type: ignore[attr-defined]


def labelled_split(model: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Terms]:
    """Cut the cross-entropy that a transformers model computes from ``labels`` at its logits.

    A term is a label that is not -100: an example of a classifier, a token of a language model
    (causal ones predict the next token). Their mean is checked against the model's own loss.

    Args:
        model: a transformers model, masked or not.
        batch: its keyword arguments, with integer ``labels``.

    Returns:
        The logits z, and a function z -> (terms, their number).

    Raises:
        UserError: the model's own loss is not the mean cross-entropy of the labels.
    """
    device = next(model.parameters()).device
    inputs = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
    output = model(**inputs)
    logits, labels = output.logits, inputs["labels"]
    if logits.ndim == 3 and _predicts_the_next(model):
        logits, labels = logits[:, :-1], labels[:, 1:]
    wanted, count = labels.reshape(-1), int((labels != _IGNORED).sum())

    def terms(z: Tensor) -> tuple[Tensor, float]:
        rows = z.reshape(-1, z.shape[-1])
        return F.cross_entropy(rows, wanted, ignore_index=_IGNORED, reduction="none"), count

    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if count and (wanted.is_floating_point() or not _agree(terms(z)[0].sum() / count, output.loss)):
        raise UserError(
            f"expected {type(model).__name__} to have the mean cross-entropy of its labels as its "
            "loss, got another one; pass loss= (or split=), returning a sum and a number of terms"
        )
    return z, terms


def _predicts_the_next(model: Any) -> bool:
    kind = getattr(model, "loss_type", None)
    encodes = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    return kind == "ForCausalLM" or (kind is None and not encodes)


def _agree(mean: Tensor, theirs: Any) -> bool:
    if not isinstance(theirs, Tensor):
        return False
    # theirs may be rounded to the logits' type
    tolerance = max(_DIFFERENT, torch.finfo(theirs.dtype).eps ** 0.5)
    ours, other = float(mean.detach()), float(theirs.detach())
    return not abs(ours - other) > tolerance * max(abs(ours), abs(other))
