"""The one default loss: that of a batch which says itself how it is scored, whole or as a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from landscape.errors import UserError
from landscape.losses.kinds import Loss, Split, Terms
from landscape.tasks.outputs.scoring import SCORED, task_loss, task_split


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
    """Refuse what is no batch; the scores choose the loss of one by its keys."""
    keys = batch.keys() if isinstance(batch, Mapping) else set()
    if SCORED & keys or "labels" in keys:
        return _Default(task_loss, task_split)
    got = sorted(map(str, keys)) if isinstance(batch, Mapping) else type(batch).__name__
    raise UserError(
        f"expected a batch of make_batches, or a dict of a model's arguments with labels, got "
        f"{got}; pass loss= (or split=) for other batches"
    )
