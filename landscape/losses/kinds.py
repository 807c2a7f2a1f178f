"""What a loss is, whole or split at the model's outputs."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

from landscape.errors import UserError

Loss: TypeAlias = Callable[[Any, Any], tuple[Tensor, float]]
"""A loss: (model, batch) -> (sum over the loss terms of the batch, number of terms)."""

Terms: TypeAlias = Callable[[Tensor], tuple[Tensor, float]]
"""A loss of outputs z: z -> (loss terms of any shape, their number, absent ones being zero)."""

Split: TypeAlias = Callable[[Any, Any], tuple[Tensor, Terms]]
"""A loss in two halves: (model, batch) -> (outputs z of any shape, the loss of z)."""


def sum_and_count(returned: object) -> tuple[Tensor, float]:
    """Return a loss's sum, as a tensor of no dimension, and its number of terms.

    Raises:
        UserError: it returned something else, such as a bare tensor.
    """
    value, count = terms_and_count(returned)
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UserError(
            f"expected a loss sum of one number, got {got}; "
            "return (sum over the terms, number of terms)"
        )
    return value.reshape(()), count


def terms_and_count(returned: object) -> tuple[Tensor, float]:
    """Return the loss terms that a split's second half returned, and their number.

    Raises:
        UserError: it returned something else, such as a bare tensor.
    """
    if isinstance(returned, Tensor):
        raise UserError(
            f"expected a loss that returns (sum over the terms, number of terms), got a tensor of "
            f"shape {tuple(returned.shape)} alone; return a mean as (mean * rows, rows), or pass a "
            "criterion such as torch.nn.CrossEntropyLoss() for batches (inputs, targets)"
        )
    pair = tuple(returned) if isinstance(returned, tuple | list) else ()
    if len(pair) == 2 and _is_number(pair[1]):
        return pair[0], pair[1]
    got = ", ".join(type(part).__name__ for part in pair) or type(returned).__name__
    raise UserError(
        "expected a loss that returns (sum over the terms, number of terms), a tensor and a "
        f"number, got {got}; a split, which returns (outputs, loss of outputs), goes to split="
    )


def _is_number(count: object) -> bool:
    if isinstance(count, Tensor):
        return count.numel() == 1
    return isinstance(count, numbers.Real)
