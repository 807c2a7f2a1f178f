"""What a user passes as loss=, split= or batches=, as a loss, a split and a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from torch import Tensor

from landscape.errors import UserError
from landscape.losses.criterion import Criterion, criterion_split, is_criterion
from landscape.losses.default import default_loss, default_split
from landscape.losses.kinds import Loss, Split, Terms, terms_and_count
from landscape.tasks.outputs.scoring import task_loss


def as_loss(loss: Loss | Criterion | None = None, split: Split | Criterion | None = None) -> Loss:
    """Return the loss that is meant.

    Args:
        loss: a function (model, batch) -> (sum, number of terms), or a criterion such as
            ``torch.nn.CrossEntropyLoss()`` for batches (inputs, targets); None for the default.
        split: a function (model, batch) -> (outputs, loss of outputs), instead.

    Returns:
        A function (model, batch) -> (sum, number of terms).

    Raises:
        UserError: both are given, or something else is.
    """
    _refuse_both(loss, split)
    if split is not None or is_criterion(loss):
        return _summed(as_split(split, loss))
    if loss is None:
        return default_loss
    if not callable(loss):
        raise UserError(
            "expected loss= to be a function (model, batch) -> (sum, number of terms) or a "
            f"criterion such as torch.nn.CrossEntropyLoss(), got {_name(loss)}; pass the function, "
            "not its value"
        )
    return cast(Loss, loss)


def as_split(split: Split | Criterion | None = None, loss: Loss | Criterion | None = None) -> Split:
    """Return the loss that is meant, split at the model's outputs.

    Args:
        split: a function (model, batch) -> (outputs, loss of outputs).
        loss: a criterion instead; with neither, the default.

    Returns:
        A function (model, batch) -> (outputs z, z -> (terms, their number)).

    Raises:
        UserError: both are given, or a loss of which no split is known.
    """
    _refuse_both(loss, split)
    given = split if loss is None else loss
    if given is None or any(given is ours for ours in (default_loss, default_split, task_loss)):
        return default_split
    if is_criterion(given):
        return criterion_split(given)
    if loss is not None or not callable(given):
        raise UserError(
            "expected a loss that is split at the model's outputs, split= or a criterion such as "
            f"torch.nn.CrossEntropyLoss(), got {_name(given)}; write "
            "split=lambda model, batch: (outputs, lambda z: (terms of z, number of terms))"
        )
    return cast(Split, given)


def as_batches(batches: object) -> list[Any]:
    """Return batches as a list.

    A tensor, a dict, or a tuple with a tensor in it, such as ``(x, y)``, is one batch; anything
    else is gone through once.

    Raises:
        UserError: it cannot be gone through.
    """
    if isinstance(batches, Tensor | Mapping):
        return [batches]
    if isinstance(batches, tuple) and any(isinstance(part, Tensor) for part in batches):
        return [batches]
    if not isinstance(batches, Iterable) or isinstance(batches, str | bytes):
        raise UserError(
            f"expected a list of batches, or one, got {type(batches).__name__}; "
            "pass [batch, ...] with what the loss takes"
        )
    return list(batches)


def halves(returned: object) -> tuple[Tensor, Terms]:
    """Return what a split returned, or refuse what is no pair of outputs and a function.

    Raises:
        UserError: it is something else, such as a loss's (sum, number of terms).
    """
    if isinstance(returned, tuple | list) and len(returned) == 2:
        outputs, loss = returned
        if isinstance(outputs, Tensor) and callable(loss):
            return outputs, loss
    got = [_name(r) for r in returned] if isinstance(returned, tuple | list) else _name(returned)
    raise UserError(
        "expected a split that returns (outputs z, a function z -> (terms, number of terms)), got "
        f"{got}; what returns (sum, number of terms) goes to the loss= of a HessianOperator"
    )


def _summed(split: Split) -> Loss:
    def loss(model: Any, batch: Any) -> tuple[Tensor, float]:
        outputs, rest = halves(split(model, batch))
        terms, count = terms_and_count(rest(outputs))
        return terms.sum(), count

    if hasattr(split, "in_batch"):
        loss.in_batch = split.in_batch  # type: ignore[attr-defined]
    return loss


def _refuse_both(loss: object, split: object) -> None:
    if loss is not None and split is not None:
        raise UserError("expected loss= or split=, got both; leave one out")


def _name(thing: object) -> str:
    if isinstance(thing, Tensor):
        return f"a tensor of shape {tuple(thing.shape)}"
    return getattr(thing, "__name__", type(thing).__name__)
