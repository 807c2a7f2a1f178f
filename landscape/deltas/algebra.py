"""The algebra of deltas: what fine-tuning changed, to add and scale as dense changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from landscape.errors import UserError
from landscape.identity import other_tensors
from landscape.masks import Mask
from landscape.shown import card, few

Operation = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Dense:
    """Hold a tensor that was trained whole beside a mask.

    Args:
        value: what it became, in its own shape and type.
        start: where it began, likewise.
    """

    value: Tensor
    start: Tensor

    @property
    def change(self) -> Tensor:
        """Return value - start in float64."""
        return self.value.double() - self.start.double()

    def moved_by(self, change: Tensor) -> Dense:
        """Return the same start, changed by something else."""
        return Dense((self.start.double() + change).to(self.value.dtype), self.start)


@dataclass(frozen=True, repr=False)
class Delta:
    """Hold a change of weights: sums and multiples of deltas of one base model are deltas.

    ``a + b``, ``a - b`` and ``2.0 * a`` are those of the dense changes; where masks overlap,
    values add up, and the mask of a sum is the union. Tensors that were trained whole take part
    as well: a sum begins where both began.

    Args:
        mask: the changed weights.
        values: tensor name -> change of the weights, shape (k_tensor,), float32 or float64.
        origins: tensor name -> what `pretrained` says of them, shape (k_tensor,).
        base: tensor name -> hash of what the whole base model holds, as `base_digests`; None where
            that is not known, and only `origins` can tell two bases apart.
        dense: name -> a tensor that was trained whole beside the mask.
    """

    mask: Mask
    values: Mapping[str, Tensor]
    origins: Mapping[str, Tensor]
    base: Mapping[str, str] | None = None
    dense: Mapping[str, Dense] = field(default_factory=dict)

    def __repr__(self) -> str:
        dense = f", {few(self.dense)} whole" if self.dense else ""
        return f"delta of {self.count:,} weights in {len(self.values)} masked tensors{dense}"

    def _repr_html_(self) -> str:
        return card(
            repr(self),
            {n: f"{v.numel():,}, l2 {float(v.norm()):.3g}" for n, v in self.values.items()},
        )

    @property
    def count(self) -> int:
        """Return how many weights it changes, those of dense tensors included."""
        return self.mask.count + sum(d.value.numel() for d in self.dense.values())

    def parameter(self, name: str) -> Tensor:
        """Return what `trainable` shows for a tensor when the delta is attached, flat."""
        return self.dense[name].value.reshape(-1) if name in self.dense else self.values[name]

    def __add__(self, other: Delta) -> Delta:
        return _combine(self, other, torch.add)

    def __sub__(self, other: Delta) -> Delta:
        return _combine(self, other, torch.sub)

    def __mul__(self, factor: float) -> Delta:
        if not math.isfinite(factor):
            raise UserError(f"expected a finite factor of a delta, got {factor}; give a number")
        values = {name: value * factor for name, value in self.values.items()}
        dense = {name: d.moved_by(factor * d.change) for name, d in self.dense.items()}
        return replace(self, values=values, dense=dense)

    __rmul__ = __mul__


def listing(names: Sequence[str]) -> str:
    """Return the first three of some names, and how many more there are."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _shape(change: Delta, name: str) -> tuple[int, ...] | None:
    if name in change.dense:
        return tuple(change.dense[name].value.shape)
    shape = change.mask.shapes.get(name)
    return None if shape is None else tuple(shape)


def check_shapes(a: Delta, b: Delta) -> None:
    """Check that tensors which two deltas both change have one shape.

    Raises:
        UserError: one has another shape in the other.
    """
    for name in (*a.mask.shapes, *a.dense):
        own, other = _shape(a, name), _shape(b, name)
        if other is not None and other != own:
            raise UserError(
                f"expected deltas of one base model, got {name} of shape {own} and of shape "
                f"{other}; make both on the same model"
            )


def _combine(a: Delta, b: Delta, operation: Operation) -> Delta:
    check_shapes(a, b)
    differing = other_tensors(a.base, b.base) if a.base and b.base else []
    if differing:
        raise UserError(
            f"expected deltas of one base model, got two bases: {listing(differing)} differ; make "
            "both on the same model"
        )
    if a.mask.num_parameters != b.mask.num_parameters:
        raise UserError(
            f"expected deltas of one base model, got models of {a.mask.num_parameters:,} and "
            f"{b.mask.num_parameters:,} parameters; make both on the same model"
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
    return Delta(mask, values, origins, a.base or b.base, _combined(a, b, operation))


def _combined(a: Delta, b: Delta, operation: Operation) -> dict[str, Dense]:
    """Combine the tensors that were trained whole; one that only one delta has moved counts 0."""
    mixed = (a.dense.keys() & b.mask.shapes.keys()) | (b.dense.keys() & a.mask.shapes.keys())
    if mixed:
        raise UserError(
            f"expected tensors that are dense in both deltas or masked in both, got one of each "
            f"for {min(mixed)}; train both alike"
        )
    combined = {}
    for name in dict.fromkeys([*a.dense, *b.dense]):
        own = a.dense[name] if name in a.dense else b.dense[name]
        starts = [d.dense[name].start.cpu() for d in (a, b) if name in d.dense]
        if not torch.equal(starts[0], starts[-1]):
            raise UserError(
                f"expected deltas of one base model, got two starts of {name}; make both on the "
                "same model"
            )
        zero = torch.zeros(own.value.shape, dtype=torch.float64)
        left, right = (d.dense[name].change.cpu() if name in d.dense else zero for d in (a, b))
        combined[name] = Dense(own.value.cpu(), starts[0]).moved_by(operation(left, right))
    return combined


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
