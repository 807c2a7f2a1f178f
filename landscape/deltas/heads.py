"""Heads as part of a mask: whole tensors whose change is stored with their initial values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from landscape import checks
from landscape.errors import UserError
from landscape.masks import Mask
from landscape.models.targets import target_shapes
from landscape.models.tensors import tensors

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def with_heads(mask: Mask, model: nn.Module, heads: str | Sequence[str]) -> Mask:
    """Add whole tensors to a mask: heads that fine-tuning makes for the task.

    theta is then their change as well, at theta's learning rate. A head that is trained as what it
    is, densely and at a rate of its own, is named in ``attach(model, mask, dense=)`` instead.
    A delta file holds either whole and loads it onto a base model whose own head was initialised
    otherwise.

    Args:
        mask: the mask.
        model: the model that it is for.
        heads: shell patterns, as for `random_mask`.

    Returns:
        A mask of all tensors.

    Raises:
        UserError: a pattern matches nothing, or a quantised weight.
    """
    checks.model(model)
    checks.has("mask", mask, "a Mask", "indices", "shapes", do="make one, as random_mask")
    shapes = target_shapes(model, heads)
    packed = [t.name for t in tensors(model) if t.name in shapes and t.quantised]
    if packed:
        raise UserError(
            f"expected heads of floating-point values, got {packed[0]}, which is quantised; leave "
            "it out"
        )
    whole = {n: torch.arange(torch.Size(s).numel()) for n, s in shapes.items()}
    return dataclasses.replace(
        mask, indices={**mask.indices, **whole}, shapes={**mask.shapes, **shapes},
        rule={**mask.rule, "heads": list(shapes)},
    )  # fmt: skip


def moved_head(value: Tensor, stored: Tensor | None, here: Tensor, path: str) -> Tensor:
    """Return the change that gives a head its stored values, from this model's initial ones.

    Args:
        value: the stored change, shape (k,).
        stored: the initial values it belongs to, shape (k,); None where the file has none.
        here: this model's initial values, shape (k,).
        path: of the file, for the sentences.

    Raises:
        UserError: the stored initial values are missing, of another shape or type, or not finite.
    """
    if stored is None or stored.shape != here.shape or stored.dtype not in _FLOATS:
        found = "none" if stored is None else f"shape {tuple(stored.shape)}, {stored.dtype}"
        raise UserError(
            f"expected the initial values of a head in {path}, {here.numel()} floating-point ones, "
            f"got {found}; save it again"
        )
    if stored.dtype == here.dtype and torch.equal(finite_head(path, stored), here):
        return value
    return (finite_head(path, stored).to(value.dtype) + value) - here.to(value.dtype)


def finite_head(name: str, origin: Tensor) -> Tensor:
    """Return a head's initial values, which are all finite.

    Raises:
        UserError: they are not.
    """
    if not bool(torch.isfinite(origin).all()):
        raise UserError(
            f"expected finite initial values of a head, got NaN or infinity in {name}; make the "
            "head anew"
        )
    return origin
