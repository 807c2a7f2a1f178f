"""Parameters beside a mask that are trained whole: a classifier's head, as a rule.

They stay what they are, parameters of the model that hold their values. Where each began is kept
beside the model, so that a distance has an origin and `detach` can give it back bit for bit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from landscape import checks
from landscape.errors import UserError
from landscape.models.tensors import is_sharded
from landscape.subspace.attachable import unwrapped


def find_dense(
    model: nn.Module, patterns: str | Sequence[str], masked: Collection[str]
) -> dict[str, nn.Parameter]:
    """Find the parameters that shell patterns name, tied ones under their first name.

    Args:
        model: a model without a mask.
        patterns: matched against the names of parameters and of the modules that they are in:
            "classifier" is everything in it, its bias too.
        masked: names of masked tensors, which are none of these.

    Raises:
        UserError: a pattern matches nothing, or a parameter that is masked too, or one that
            cannot be trained: packed, sharded, without values.
    """
    first = {id(p): name for name, p in model.named_parameters()}
    found: dict[str, nn.Parameter] = {}
    for pattern in checks.patterns("dense", patterns) if patterns else ():
        named = {
            first[id(p)]: p
            for name, p in model.named_parameters(remove_duplicate=False)
            if any(fnmatchcase(part, pattern) for part in _enclosing(name))
        }
        if not named:
            raise UserError(
                f"expected dense= to name parameters of this model, got {pattern}, which matches "
                f"none; its modules are {', '.join(n for n, _ in model.named_children())}"
            )
        found |= named
    for name, p in found.items():
        if name in masked:
            raise UserError(
                f"expected masked and dense tensors to be different ones, got {name} in both; "
                "leave it out of the mask's targets or of dense="
            )
        if is_sharded(p) or p.is_meta or p.is_inference() or not p.is_floating_point():
            raise UserError(
                f"expected whole floating-point values to train densely, got {name} of "
                f"{p.dtype} on {p.device}, packed, sharded or without values; leave it out of "
                "dense="
            )
    return {name: p for name, p in model.named_parameters() if name in found}


def leave_dense(model: nn.Module, found: dict[str, nn.Parameter]) -> None:
    """Train parameters beside a mask, from where they are now."""
    for p in found.values():
        p.requires_grad_(True)
    starts = {name: p.detach().clone() for name, p in found.items()}
    model.__dict__["_dense_starts"] = starts


def dense_starts(model: nn.Module) -> dict[str, Tensor]:
    """Return where the parameters beside a mask began, by name, in their own shapes.

    They follow the parameters' device and dtype. Empty without such parameters.
    """
    kept: dict[str, Tensor] = unwrapped(model).__dict__.get("_dense_starts", {})
    held = dense_parameters(model)
    return {name: start.to(held[name]) for name, start in kept.items()}


def dense_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters beside a mask that are trained whole, by name.

    Raises:
        UserError: one of them was removed, replaced by one of another shape, or frozen since.
    """
    model = unwrapped(model)
    kept: dict[str, Tensor] = model.__dict__.get("_dense_starts", {})
    held = dict(model.named_parameters()) if kept else {}
    for name, start in kept.items():
        p = held.get(name)
        if p is None or p.shape != start.shape or not p.requires_grad:
            found = "none" if p is None else f"shape {tuple(p.shape)}"
            frozen = p is not None and p.shape == start.shape
            raise UserError(
                f"expected a trainable {name} of shape {tuple(start.shape)} beside the mask, got "
                f"{'a frozen one' if frozen else found}: it was changed since attach; detach the "
                "mask first, and attach it after"
            )
    return {name: held[name] for name in kept}


@torch.no_grad()
def close_dense(model: nn.Module, *, restore: bool) -> None:
    """Forget the starts of dense parameters, which first get their values back where asked."""
    if restore:
        held = dict(model.named_parameters())
        for name, start in model.__dict__.get("_dense_starts", {}).items():
            if name in held and held[name].shape == start.shape:
                held[name].copy_(start)
    model.__dict__.pop("_dense_starts", None)


def _enclosing(name: str) -> Iterator[str]:
    """Yield a parameter's name and those of the modules around it."""
    while name:
        yield name
        name = name.rpartition(".")[0]
