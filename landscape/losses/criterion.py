"""Torch's criteria as losses: what is called on (outputs, targets) and averages by itself."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from landscape.errors import UserError
from landscape.losses.kinds import Split, Terms

Criterion: TypeAlias = nn.Module | Callable[..., Tensor]
"""What is called on (outputs, targets), such as ``torch.nn.CrossEntropyLoss()``."""

_SKIPPED = 'got reduction "sum", whose curvature grows with the number of rows'


def is_criterion(loss: object) -> TypeGuard[Criterion]:
    """Tell whether something is called on (outputs, targets) rather than on (model, batch).

    A module is, unless its first argument is called model; a function is if it has a `reduction`.

    >>> is_criterion(nn.CrossEntropyLoss()), is_criterion(lambda model, batch: (0.0, 1))
    (True, False)
    """
    if isinstance(loss, nn.Module):
        return next(iter(inspect.signature(loss.forward).parameters), "") != "model"
    try:
        return callable(loss) and "reduction" in inspect.signature(loss).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return False


def criterion_split(criterion: Criterion) -> Split:
    """Turn a criterion into a loss that is split at the model's outputs.

    Batches are pairs (inputs, targets); inputs that are a dict or a tuple are the model's
    arguments. The mean over all batches is the criterion's own mean over their concatenation.

    - a term is what the criterion averages over: a label that is not ignored, with its class
      weight, for cross-entropy; a row, itself a mean over the outputs, for criteria of single
      outputs such as the mean squared error;
    - a criterion without a `reduction` returns the mean over rows, or a term each.

    Args:
        criterion: such as ``torch.nn.CrossEntropyLoss()`` or ``torch.nn.functional.mse_loss``.

    Returns:
        A function (model, batch) -> (outputs z, z -> (terms, their number)).

    Raises:
        UserError: its reduction is a sum, and when called: a batch is no pair, or the model's
            output no tensor.
    """
    unreduced, reduction = _unreduced(criterion)

    def split(model: nn.Module, batch: object) -> tuple[Tensor, Terms]:
        inputs, targets = _pair(batch, model)
        z = _outputs(model, inputs)

        def terms(z: Tensor) -> tuple[Tensor, float]:
            return _terms(criterion, unreduced(z, targets), z, targets, reduction)

        return z, terms

    split.weighted = _option(criterion, "weight") is not None  # type: ignore[attr-defined]
    return split


def _unreduced(criterion: Criterion) -> tuple[Callable[..., Tensor], str | None]:
    """Return the criterion without its reduction, and that reduction, None where it has none."""
    called: Callable[..., Tensor] = criterion
    reduction: Any
    if isinstance(criterion, nn.Module):
        reduction = getattr(criterion, "reduction", None)
        if reduction is not None:
            unreduced: Any = copy.copy(criterion)
            unreduced.reduction = "none"
            called = unreduced
    else:
        reduction = inspect.signature(criterion).parameters["reduction"].default
        called = functools.partial(criterion, reduction="none")
    if reduction == "sum":
        raise UserError(
            "expected a criterion that averages, "
            f'{_SKIPPED}; use reduction="mean", and multiply the results by that number'
        )
    return called, reduction


def _terms(
    criterion: Criterion, raw: Tensor, z: Tensor, targets: Tensor, reduction: str | None
) -> tuple[Tensor, float]:
    if raw.ndim == 0:  # a criterion of its own averages over rows
        rows = z.shape[0] if z.ndim and reduction is None else 1
        return raw * rows, rows
    if _counts_labels(criterion) and not targets.is_floating_point():
        valid = targets[targets != _option(criterion, "ignore_index", -100)]
        weight = _option(criterion, "weight")
        return raw, float(valid.numel() if weight is None else weight.to(z.device)[valid].sum())
    if raw.ndim > 1 and raw.shape == z.shape:  # one for each output
        flat = raw.flatten(1)
        return (flat.sum(1) if reduction == "batchmean" else flat.mean(1)), raw.shape[0]
    return raw, raw.numel()


def _counts_labels(criterion: Criterion) -> bool:
    function = criterion.func if isinstance(criterion, functools.partial) else criterion
    modules = (nn.CrossEntropyLoss, nn.NLLLoss)
    return isinstance(function, modules) or function in (F.cross_entropy, F.nll_loss)


def _option(criterion: Criterion, name: str, default: Any = None) -> Any:
    if isinstance(criterion, functools.partial):
        return criterion.keywords.get(name, default)
    return getattr(criterion, name, default) if isinstance(criterion, nn.Module) else default


def _pair(batch: object, model: nn.Module) -> tuple[Any, Tensor]:
    if not isinstance(batch, tuple | list) or len(batch) != 2 or not isinstance(batch[1], Tensor):
        got = [type(b).__name__ for b in batch] if isinstance(batch, tuple | list) else batch
        shown = type(got).__name__ if got is batch else got
        raise UserError(
            f"expected batches (inputs, targets) for a criterion, got {shown}; pass "
            "[(inputs, targets), ...], or a loss (model, batch) -> (sum, number of terms)"
        )
    device = next(model.parameters()).device
    inputs, targets = tree_map_only(Tensor, lambda t: t.to(device), tuple(batch))
    return inputs, targets


def _outputs(model: nn.Module, inputs: Any) -> Tensor:
    if isinstance(inputs, Mapping):
        output = model(**inputs)
    elif isinstance(inputs, tuple | list):
        output = model(*inputs)
    else:
        output = model(inputs)
    z = getattr(output, "logits", output)
    if not isinstance(z, Tensor):
        raise UserError(
            f"expected a model that returns a tensor (or has logits), got {type(z).__name__}; "
            "pass a loss (model, batch) -> (sum, number of terms) instead of a criterion"
        )
    return z.to(torch.promote_types(z.dtype, torch.float32)) if z.is_floating_point() else z
