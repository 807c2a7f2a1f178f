"""Points of a training run, and how far apart they are when the mask has moved between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape.subspace import attached_mask, is_attached, positions, trainable

Indices = Mapping[str, Tensor]
"""Tensor name -> flat positions of the weights that theta changes, ascending, shape (k_i,)."""


@dataclass(frozen=True)
class RunPoint:
    """Hold the trainable parameters after a step; with a mask, the weights that they change."""

    step: int
    """The step, 0 before the first."""
    values: Mapping[str, Tensor]
    """Tensor name -> values on the CPU; with a mask its theta, shape (k_i,)."""
    indices: Indices | None
    """Where the thetas lie, None without a mask; dense tensors beside a mask have none."""


def point_now(model: nn.Module, step: int, before: RunPoint | None) -> RunPoint:
    """Return where a model is now; indices that are the same as before are held once."""
    indices = mask_indices(model)
    if before is not None and same_indices(indices, before.indices):
        indices = before.indices
    return RunPoint(step, {n: cpu_copy(p) for n, p in trainable(model).items()}, indices)


def mask_indices(model: nn.Module) -> Indices | None:
    """Return the positions of the attached mask, None without one."""
    return dict(attached_mask(model).indices) if is_attached(model) else None


def same_indices(a: Indices | None, b: Indices | None) -> bool:
    """Tell whether two masks select the same weights."""
    if a is None or b is None:
        return a is b
    return a.keys() == b.keys() and all(a[n] is b[n] or torch.equal(a[n], b[n]) for n in a)


def distance_between(a: RunPoint, b: RunPoint) -> float:
    """Return the Euclidean distance of two points in the space of all weights."""
    values, outside = on_mask(a, b.indices)
    squares = [float((b.values[n].double() - v.double()).square().sum()) for n, v in values.items()]
    return (sum(squares) + outside) ** 0.5


def on_mask(point: RunPoint, indices: Indices | None) -> tuple[Mapping[str, Tensor], float]:
    """Return a point's values at the weights of another mask, and what it has outside them.

    Args:
        point: a point.
        indices: the other mask's, None for the point's own.

    Returns:
        Tensor name -> values at `indices`, 0 where the point's own mask has none; and the sum of
        squares of the point's values at weights that are not among `indices`.
    """
    if indices is None or point.indices is None or same_indices(indices, point.indices):
        return point.values, 0.0
    found, outside = dict(point.values), 0.0
    for name, after in indices.items():
        before, values = point.indices[name].cpu(), point.values[name]
        known, place = positions(before, after.cpu())
        found[name] = values.new_zeros(after.numel())
        found[name][known] = values[place[known]]
        kept, _ = positions(after.cpu(), before)
        outside += float(values[~kept].double().square().sum())
    return found, outside


def check_point(values: Mapping[str, Tensor], indices: Indices | None, names: set[str]) -> None:
    """Refuse what a file cannot have got from a run.

    Raises:
        ValueError: other tensors than `names`, values that are no floating-point numbers, or
            indices that are not ascending positions, one for each value.
    """
    if values.keys() != names or not all(v.is_floating_point() for v in values.values()):
        raise ValueError("values")
    for name, flat in (indices or {}).items():
        value = values[name]
        ordered = flat.dtype == torch.int64 and bool((flat[1:] > flat[:-1]).all())
        if not ordered or flat.shape != value.shape or (flat.numel() and int(flat[0]) < 0):
            raise ValueError(f"indices of {name}")


def cpu_copy(p: Tensor) -> Tensor:
    """Return a copy of a tensor's values on the CPU."""
    return p.detach().to("cpu", copy=True)
