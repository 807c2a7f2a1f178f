"""Deltas: what fine-tuning changed, k values on a mask, to add, scale, compose and compare."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from landscape import checks
from landscape.errors import UserError
from landscape.identity import base_digests, keep_digests, other_tensors
from landscape.masks import Mask
from landscape.models.tensors import tensors
from landscape.subspace import (
    Attachment,
    attach,
    attached_mask,
    detach,
    is_attached,
    positions,
    pretrained,
    synchronise,
    trainable,
)


@dataclass(frozen=True)
class Delta:
    """Hold a change of weights: sums and multiples of deltas of one base model are deltas.

    ``a + b``, ``a - b`` and ``2.0 * a`` are those of the dense changes; where masks overlap,
    values add up, and the mask of a sum is the union.

    Args:
        mask: the changed weights.
        values: tensor name -> change of the weights, shape (k_tensor,), float32 or float64.
        origins: tensor name -> what `pretrained` says of them, shape (k_tensor,).
        base: tensor name -> hash of what the whole base model holds, as `base_digests`; None where
            that is not known, and only `origins` can tell two bases apart.
    """

    mask: Mask
    values: Mapping[str, Tensor]
    origins: Mapping[str, Tensor]
    base: Mapping[str, str] | None = None

    def __add__(self, other: Delta) -> Delta:
        return _combine(self, other, torch.add)

    def __sub__(self, other: Delta) -> Delta:
        return _combine(self, other, torch.sub)

    def __mul__(self, factor: float) -> Delta:
        if not math.isfinite(factor):
            raise UserError(f"expected a finite factor of a delta, got {factor}; give a number")
        values = {name: value * factor for name, value in self.values.items()}
        return replace(self, values=values)

    __rmul__ = __mul__


@dataclass(frozen=True)
class Overlap:
    """Compare two deltas on the weights that both change.

    Args:
        count: weights that both change.
        first, second: that count over each delta's own.
        jaccard: that count over the weights that either changes.
        same_sign: share of the common weights that both move in one direction, NaN without any.
        per_tensor: tensor name -> count.
    """

    count: int
    first: float
    second: float
    jaccard: float
    same_sign: float
    per_tensor: dict[str, int]


def delta(model: nn.Module) -> Delta:
    """Copy the change of a model with a mask attached.

    Raises:
        UserError: no mask is attached.

    Cost: O(k log k), and as `base_digests`.
    """
    checks.model(model)
    mask, values = _attached(model)
    return Delta(mask, values, pretrained(model, mask.indices), base_digests(model))


def apply_delta(model: nn.Module, change: Delta) -> Attachment:
    """Attach a delta's mask and values, in the place of a mask that the model may have.

    Nothing changes when the delta does not fit. Switching costs O(k) of both deltas, and a look
    at each tensor of the base.

    Raises:
        UserError: names or shapes do not fit, a value is not finite, or the delta was made on
            another base model.
    """
    checks.model(model)
    checks.has("change", change, "a Delta", "mask", "values", do="read one with read_delta")
    present = {tensor.name: tensor.shape for tensor in tensors(model)}
    for name, shape in change.mask.shapes.items():
        if present.get(name) != tuple(shape):
            found = f"shape {present[name]}" if name in present else "no such tensor"
            raise UserError(
                f"the delta changes {name} of shape {tuple(shape)}, this model has "
                f"{found}; load the model it was made on"
            )
    check_values(change)
    if change.base is None:
        here = pretrained(model, change.mask.indices)
        differing = [n for n, w in here.items() if not torch.equal(w, change.origins[n].cpu())]
    else:
        differing = other_tensors(change.base, base_digests(model))
    if differing:
        raise UserError(
            f"the delta was made on another base model: pretrained values of {listing(differing)} "
            "differ; load the model it was made on, in the same precision"
        )
    return switch(model, change)


def switch(model: nn.Module, change: Delta) -> Attachment:
    """Attach a delta that is known to be one of this base model, in the place of another mask."""
    before = _attached(model) if is_attached(model) else None
    if before is not None:
        detach(model)
    try:
        attachment = _attach(model, change.mask, change.values)
    except UserError:
        if before is not None:
            _attach(model, *before)
        raise
    if change.base is not None:
        keep_digests(model, change.base)
    return attachment


def _attached(model: nn.Module) -> tuple[Mask, dict[str, Tensor]]:
    values = {name: p.detach().clone() for name, p in trainable(model).items()}
    return attached_mask(model), values


def _attach(model: nn.Module, mask: Mask, values: Mapping[str, Tensor]) -> Attachment:
    attachment = attach(model, mask)
    with torch.no_grad():
        for name, theta in trainable(model).items():
            theta.copy_(values[name])
    synchronise(model)
    return attachment


def check_values(change: Delta) -> None:
    """Check that a delta holds one finite number for each weight of its mask.

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
        if not bool(torch.isfinite(value).all()):
            raise UserError(
                f"expected finite values in a delta, got NaN or infinity for {name}; "
                "the training that made them diverged, or a factor was too large"
            )


def listing(names: Sequence[str]) -> str:
    """Return the first three of some names, and how many more there are."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def compose(*deltas: Delta) -> Delta:
    """Join deltas that change different weights, each kept as it is.

    Raises:
        UserError: none are given, two change one weight, or the base models differ.
    """
    if not deltas:
        raise UserError("compose needs at least one delta, got none")
    joined = deltas[0]
    for other in deltas[1:]:
        common = overlap(joined, other)
        if common.count:
            name = max(common.per_tensor, key=lambda n: common.per_tensor[n])
            raise UserError(
                f"compose needs deltas of different weights, got {common.count} that two of them "
                f"change, {common.per_tensor[name]} in {name}; add them instead"
            )
        joined = joined + other
    return joined


def overlap(first: Delta, second: Delta) -> Overlap:
    """Count the weights that two deltas both change, and in how many they agree on the sign.

    Raises:
        UserError: a tensor has another shape in the other.

    Cost: O(k log k).
    """
    checks.has("first", first, "a Delta", "mask", "values", do="read one with read_delta")
    checks.has("second", second, "a Delta", "mask", "values", do="read one with read_delta")
    _check_shapes(first, second)
    per_tensor: dict[str, int] = {}
    agreeing = 0
    for name, indices in first.mask.indices.items():
        if name not in second.mask.indices:
            continue
        both, place = positions(second.mask.indices[name].cpu(), indices.cpu())
        ours = first.values[name].cpu()[both]
        theirs = second.values[name].cpu()[place[both]]
        per_tensor[name] = int(both.sum())
        agreeing += int((ours.sign() == theirs.sign()).sum())
    count = sum(per_tensor.values())
    k, other = first.mask.count, second.mask.count
    return Overlap(
        count=count,
        first=count / k if k else 0.0,
        second=count / other if other else 0.0,
        jaccard=count / (k + other - count) if k + other else 0.0,
        same_sign=agreeing / count if count else float("nan"),
        per_tensor=per_tensor,
    )


def _check_shapes(a: Delta, b: Delta) -> None:
    for name, shape in a.mask.shapes.items():
        other = b.mask.shapes.get(name, shape)
        if tuple(other) != tuple(shape):
            raise UserError(
                f"expected deltas of one base model, got {name} of shape {tuple(shape)} and of "
                f"shape {tuple(other)}; make both on the same model"
            )


def _combine(a: Delta, b: Delta, operation: Callable[[Tensor, Tensor], Tensor]) -> Delta:
    _check_shapes(a, b)
    differing = other_tensors(a.base, b.base) if a.base and b.base else []
    if differing:
        raise UserError(
            f"expected deltas of one base model, got two bases: {listing(differing)} differ; make "
            "both on the same model"
        )
    if a.mask.num_parameters != b.mask.num_parameters:
        raise UserError(
            f"expected deltas of one base model, got models of {a.mask.num_parameters:,} and "
            f"{b.mask.num_parameters:,} parameters"
        )
    indices, shapes, values, origins = {}, {}, {}, {}
    for name in dict.fromkeys([*a.mask.indices, *b.mask.indices]):
        own = a if name in a.mask.shapes else b
        shapes[name] = own.mask.shapes[name]
        union = torch.cat([d.mask.indices[name].cpu() for d in (a, b) if name in d.values]).unique()
        indices[name] = union
        left, right = (_spread(d, name, union, own.values[name].dtype) for d in (a, b))
        values[name] = operation(left, right)
        origins[name] = _agreed(a, b, name, union)
    same = dict(a.mask.rule) == dict(b.mask.rule) and all(
        name in a.values and torch.equal(a.mask.indices[name].cpu(), union)
        for name, union in indices.items()
    )
    rule = dict(a.mask.rule) if same else {"kind": "combined"}
    mask = Mask(indices, shapes, a.mask.num_parameters, rule)
    return Delta(mask, values, origins, a.base or b.base)


def _spread(change: Delta, name: str, union: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a delta's values on a larger index list, 0 elsewhere."""
    out = torch.zeros(union.numel(), dtype=dtype)
    if name in change.values:
        place = torch.searchsorted(union, change.mask.indices[name].cpu())
        out[place] = change.values[name].cpu().to(dtype)
    return out


def _agreed(a: Delta, b: Delta, name: str, union: Tensor) -> Tensor:
    """Return the pretrained values on the union of both masks, which must agree on both."""
    holders = [d for d in (a, b) if name in d.origins]
    out = torch.zeros(union.numel(), dtype=holders[0].origins[name].dtype)
    known = torch.zeros(union.numel(), dtype=torch.bool)
    for holder in holders:
        place = torch.searchsorted(union, holder.mask.indices[name].cpu())
        origin = holder.origins[name].cpu().to(out.dtype)
        twice = known[place]
        if not torch.equal(out[place][twice], origin[twice]):
            raise UserError(
                f"expected deltas of one base model, got two pretrained values for weights of "
                f"{name}; make both on the same model"
            )
        out[place], known[place] = origin, True
    return out
