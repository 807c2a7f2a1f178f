"""Deltas on a model: copy the change that is attached, attach another one in its place."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from landscape import checks
from landscape.deltas.algebra import Delta, Dense, listing
from landscape.errors import UserError
from landscape.identity import base_digests, keep_digests, other_tensors
from landscape.masks import Mask
from landscape.models.tensors import tensors
from landscape.subspace import (
    Attachment,
    attach,
    attached_mask,
    dense_parameters,
    dense_starts,
    detach,
    is_attached,
    pretrained,
    synchronise,
    thetas,
)


def delta(model: nn.Module) -> Delta:
    """Copy the change of a model with a mask attached.

    Args:
        model: the model.

    Returns:
        The change, with the tensors that are trained whole beside the mask.

    Raises:
        UserError: no mask is attached.

    Cost: O(k log k), and as `base_digests`.
    """
    checks.model(model)
    held = _held(model)
    starts = dense_starts(model)
    dense = {name: Dense(value, starts[name].clone()) for name, value in held.dense.items()}
    origins = pretrained(model, held.mask.indices)
    return Delta(held.mask, held.values, origins, base_digests(model), dense)


def apply_delta(model: nn.Module, change: Delta) -> Attachment:
    """Attach a delta's mask and values, in the place of a mask that the model may have.

    Nothing changes when the delta does not fit. Switching costs O(k) of both deltas, and a look
    at each tensor of the base. A tensor that was trained whole gets its value, wherever this
    model's began: a head may have been initialised otherwise.

    Args:
        model: the base model, with or without a mask.
        change: a delta of it.

    Returns:
        The attachment, which prints as one line.

    Raises:
        UserError: names or shapes do not fit, a value is not finite, or the delta was made on
            another base model.
    """
    checks.model(model)
    checks.has("change", change, "a Delta", "mask", "values", do="read one with read_delta")
    present = {tensor.name: tensor.shape for tensor in tensors(model)}
    wanted = dict(change.mask.shapes) | {n: d.value.shape for n, d in change.dense.items()}
    for name, shape in wanted.items():
        if present.get(name) != tuple(shape):
            found = f"shape {present[name]}" if name in present else "no such tensor"
            raise UserError(
                f"expected {name} of shape {tuple(shape)}, which the delta changes, got {found} in "
                "this model; load the model it was made on"
            )
    check_values(change)
    if change.base is None:
        here = pretrained(model, change.mask.indices)
        differing = [n for n, w in here.items() if not torch.equal(w, change.origins[n].cpu())]
    else:
        digests = base_digests(model)
        differing = other_tensors(change.base, digests)
        differing = [name for name in differing if name not in change.dense]
        change = replace(change, base=digests)
    if differing:
        raise UserError(
            f"expected the base model that the delta was made on, got another base model: "
            f"pretrained values of {listing(differing)} differ; load the model it was made on, in "
            "the same precision"
        )
    return switch(model, change)


def switch(model: nn.Module, change: Delta) -> Attachment:
    """Attach a delta that is known to be one of this base model, in the place of another mask.

    Args:
        model: the base model, with or without a mask.
        change: a delta whose base, where it is known, is what `base_digests` says of this model.

    Returns:
        The attachment.

    Raises:
        UserError: the mask cannot be attached; then the one before is there again.
    """
    before = _held(model) if is_attached(model) else None
    if before is not None:
        detach(model)
    wanted = _Held(change.mask, change.values, {n: d.value for n, d in change.dense.items()})
    try:
        attachment = _attach(model, wanted)
    except UserError:
        if before is not None:
            _attach(model, before)
        raise
    if change.base is not None:
        keep_digests(model, change.base)
    return attachment


def check_values(change: Delta) -> None:
    """Check that a delta holds one finite number for each weight that it changes.

    Raises:
        UserError: it does not; the sentence names the tensor.
    """
    for name, indices in change.mask.indices.items():
        value = change.values.get(name)
        if value is None or value.shape != indices.shape:
            found = "none" if value is None else f"shape {tuple(value.shape)}"
            raise UserError(
                f"expected {indices.numel()} values for {name} in a delta, got {found}; "
                "make it again from its model"
            )
    held = dict(change.values) | {name: d.value for name, d in change.dense.items()}
    for name, value in held.items():
        if not bool(torch.isfinite(value).all()):
            raise UserError(
                f"expected finite values in a delta, got NaN or infinity for {name}; "
                "the training that made them diverged, or a factor was too large"
            )


@dataclass(frozen=True)
class _Held:
    """What is attached to a model: a mask, theta, and the values of dense tensors."""

    mask: Mask
    values: Mapping[str, Tensor]
    dense: Mapping[str, Tensor]


def _held(model: nn.Module) -> _Held:
    mask = attached_mask(model)
    values, dense = (
        {name: p.detach().clone() for name, p in found.items()}
        for found in (thetas(model), dense_parameters(model))
    )
    return _Held(mask, values, dense)


@torch.no_grad()
def _attach(model: nn.Module, wanted: _Held) -> Attachment:
    attachment = attach(model, wanted.mask, dense=[glob.escape(name) for name in wanted.dense])
    for name, theta in thetas(model).items():
        theta.copy_(wanted.values[name])
    for name, p in dense_parameters(model).items():
        p.copy_(wanted.dense[name])
    synchronise(model)
    return attachment
