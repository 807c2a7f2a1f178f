"""The one default loss: that of a batch which says itself how it is scored, whole or as a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from landscape.errors import UserError
from landscape.losses.kinds import Terms
from landscape.tasks.outputs.scoring import SCORED, task_loss, task_split
from landscape.tasks.padding import Batch


def default_split(model: nn.Module, batch: object) -> tuple[Tensor, Terms]:
    """Return the outputs of a batch that says itself how it is scored, and its loss of them.

    It is `landscape.task_split` of a batch of `landscape.make_batches`, or of a dict of a model's
    arguments with ``labels``. Every function of this package that is given no loss takes this one.

    Args:
        model: masked or not.
        batch: of either kind.

    Returns:
        The outputs z, and a function z -> (terms, their number).

    Raises:
        UserError: the batch is neither.
    """
    return task_split(model, _batch(batch))


def default_loss(model: nn.Module, batch: object) -> tuple[Tensor, float]:
    """Return the sum of the loss terms of a batch and their number, as `default_split` has them.

    Args:
        model: masked or not.
        batch: from `landscape.make_batches`, or a dict of the model's arguments with ``labels``.

    Raises:
        UserError: the batch is neither.
    """
    return task_loss(model, _batch(batch))


# their terms belong to rows: nothing to check
default_loss.in_batch = default_split.in_batch = False  # type: ignore[attr-defined]


def _batch(batch: object) -> Batch:
    """Return what is a batch, and refuse what is none."""
    keys = batch.keys() if isinstance(batch, Mapping) else set()
    if SCORED & keys or "labels" in keys:
        return cast(Batch, batch)
    got = sorted(map(str, keys)) if isinstance(batch, Mapping) else type(batch).__name__
    raise UserError(
        f"expected a batch of make_batches, or a dict of a model's arguments with labels, got "
        f"{got}; pass loss= (or split=) for other batches"
    )
