"""Sizes: the rank or width of what is inserted into a model, nearest to a budget."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from landscape.subspace import trainable


def nearest_size(
    make: Callable[[nn.Module, int], nn.Module], model: nn.Module, count: int
) -> int:  # fmt: skip
    """Return the rank or width, at least 1, whose trainable parameters are nearest to a count.

    The number is affine in the size: two trials on copies without weights give it.

    Args:
        make: (model, size) -> the model with so many trainable parameters; changes its model.
        model: the plain one; it is not changed.
        count: the budget.
    """
    one, two = (
        sum(p.numel() for p in trainable(make(_without_weights(model), size)).values())
        for size in (1, 2)
    )
    return max(1, round(1 + (count - one) / (two - one)))


def _without_weights(model: nn.Module) -> nn.Module:
    held = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in model.parameters()
    }
    return copy.deepcopy(model, held)
