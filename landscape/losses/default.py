"""The one default loss: that of a batch which says itself how it is scored, whole or as a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.losses.kinds import Loss, Split, Terms
from landscape.tasks.scoring import task_loss, task_split

_SCORED = {"candidate_ids", "rows", "targets"}
"""Entries of which a batch of `landscape.make_batches` has one or two."""

_IGNORED = -100
"""The label of what is not scored, in transformers and torch."""

_DIFFERENT = 1e-3
"""Relative difference above which two losses are not the same."""


def default_split(model: nn.Module, batch: object) -> tuple[Tensor, Terms]:
    """Return the outputs of a batch that says itself how it is scored, and its loss of them.

    A batch of `landscape.make_batches` has the loss of `task_split`; a dict batch with ``labels``
    that of `labelled_split`. Every function of this package that is given no loss takes this one.

    Args:
        model: masked or not.
        batch: of either kind.

    Returns:
        The outputs z, and a function z -> (terms, their number).

    Raises:
        UserError: the batch is neither.
    """
    return _default(batch).split(model, batch)


def default_loss(model: nn.Module, batch: object) -> tuple[Tensor, float]:
    """Return the sum of the loss terms of a batch and their number, as `default_split` has them.

    Args:
        model: masked or not.
        batch: from `landscape.make_batches`, or a dict of the model's arguments with ``labels``.

    Raises:
        UserError: the batch is neither.
    """
    return _default(batch).loss(model, batch)


# their terms belong to rows: nothing to check
default_loss.in_batch = default_split.in_batch = False  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Default:
    """Hold the loss that one kind of batch has, whole and split at the outputs."""

    loss: Loss
    split: Split


def _default(batch: object) -> _Default:
    """Choose the loss of a batch by its keys: the one place that does."""
    keys = batch.keys() if isinstance(batch, Mapping) else set()
    if _SCORED & keys:
        return _Default(task_loss, task_split)
    if "labels" in keys:
        return _Default(_labelled_loss, labelled_split)
    got = sorted(map(str, keys)) if isinstance(batch, Mapping) else type(batch).__name__
    raise UserError(
        f"expected a batch of make_batches, or a dict of a model's arguments with labels, got "
        f"{got}; pass loss= (or split=) for other batches"
    )


def _labelled_loss(model: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, float]:
    outputs, loss = labelled_split(model, batch)
    terms, count = loss(outputs)
    return terms.sum(), count


def labelled_split(model: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, Terms]:
    """Return a model's logits, and its own cross-entropy of ``labels`` as a loss of them.

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


def _predicts_the_next(model: nn.Module) -> bool:
    kind = getattr(model, "loss_type", None)
    encodes = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    return kind == "ForCausalLM" or (kind is None and not encodes)


def _agree(mean: Tensor, theirs: object) -> bool:
    if not isinstance(theirs, Tensor):
        return False
    # theirs may be rounded to the logits' type
    tolerance = max(_DIFFERENT, torch.finfo(theirs.dtype).eps ** 0.5)
    ours, other = float(mean.detach()), float(theirs.detach())
    return not abs(ours - other) > tolerance * max(abs(ours), abs(other))
