"""Directions of slices, as flat vectors of the trainable parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from landscape import checks, seeds
from landscape.curvature import EigenResult
from landscape.curvature.spectrum.algebra import append, remove
from landscape.distances import changes
from landscape.errors import UserError
from landscape.shown import few
from landscape.subspace import attached_mask, is_attached, masked_origins, trainable


@dataclass(frozen=True, repr=False)
class PrincipalDirections:
    """Hold the directions in which a trajectory extends most, about the present weights.

    Args:
        directions: orthonormal columns, shape (size, d), float64, on the CPU.
        explained: share of the sum of squared distances to the present weights, shape (d,).
    """

    directions: Tensor
    explained: Tensor

    def __repr__(self) -> str:
        shares = few(f"{share:.1%}" for share in self.explained.tolist())
        return f"principal directions of {len(self.directions):,} parameters, explaining {shares}"


Directions: TypeAlias = Tensor | Sequence[Tensor] | EigenResult | PrincipalDirections
"""Columns of shape (size, d), vectors of shape (size,), or a result that holds columns."""


@torch.no_grad()
def random_directions(
    model: nn.Module, count: int = 2, *, seed: int = 0
) -> Float64[Tensor, "size count"]:
    """Draw Gaussian directions, normalised filter by filter and orthogonal to each other.

    Each filter (the trainable parameters in one row of a weight, or a whole vector) of a direction
    gets the norm that the weights have there, so that layers of large and small weights count
    alike; then each direction is made orthogonal to those before it, which changes the norms of
    its filters by a few parts in sqrt(size).

    Args:
        model: a model with trainable parameters; with a mask attached, the weights are W_0 + theta
            on the mask.
        count: number of directions, at least 1, at most the number of trainable parameters.
        seed: of the directions; drawn on the CPU, so every device gets the same ones.

    Returns:
        Directions as columns, shape (size, count), float64, on the CPU.

    Raises:
        UserError: nothing is trainable, or count is out of range.

    Source: Li et al. (2018), Visualizing the loss landscape of neural nets, section 4.
    """
    checks.model(model)
    count = checks.whole("count", count, least=1)
    seed = checks.seed(seed)
    weights, filters = _weights(model), _filters(model)
    size = weights.numel()
    if not 1 <= count <= size:
        raise UserError(
            f"expected between 1 and {size} directions, got {count}; attach a mask first, "
            "or ask for fewer"
        )
    generator = seeds.generator(seed)
    directions, units = [], torch.empty(count, size, dtype=torch.float64)
    for number in range(count):
        d = torch.randn(size, generator=generator, dtype=torch.float64)
        d = d * (_norms(weights, filters) / _norms(d, filters).clamp(min=1e-300))[filters]
        remove(units[:number], d)
        append(units, number, d.clone())
        directions.append(d)
    return torch.stack(directions, dim=1)


@torch.no_grad()
def displacement(
    model: nn.Module, initial: Mapping[str, Tensor] | None = None
) -> Float64[Tensor, " size"]:
    """Return present minus initial weights, flat, shape (size,), float64, on the CPU.

    Args:
        model: a model; with a mask attached, theta itself is the way.
        initial: the initial values by tensor name, for a model without a mask.

    Raises:
        UserError: there is no mask and no `initial`, or `initial` lacks a tensor.
    """
    checks.model(model)
    return flat(changes(model, initial).values())


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Return the entries of tensors, one after the other, in float64, on the CPU."""
    pieces = [t.detach().double().cpu().reshape(-1) for t in tensors]
    return torch.cat(pieces) if pieces else torch.zeros(0, dtype=torch.float64)


def columns(directions: Directions, dimensions: int) -> Tensor:
    """Return directions as columns; of a result the first `dimensions`, else all that are given.

    Raises:
        UserError: there are fewer, or more than asked for.
    """
    if isinstance(directions, EigenResult):
        found = directions.eigenvectors[:, :dimensions]
    elif isinstance(directions, PrincipalDirections):
        found = directions.directions[:, :dimensions]
    elif isinstance(directions, Tensor):
        found = directions if directions.ndim == 2 else directions.reshape(-1, 1)
    else:
        checks.several("directions", directions, "vectors, or a result that has some,")
        vectors = [*directions]
        if not vectors or not all(isinstance(vector, Tensor) for vector in vectors):
            checks.refuse("directions", "vectors", vectors, "give tensors, one a direction")
        found = torch.stack(vectors, dim=1)
    if found.ndim != 2 or found.shape[1] != dimensions:
        raise UserError(
            f"expected {dimensions} directions, one column each, got shape {tuple(found.shape)}; "
            "choose as many columns as the surface has axes"
        )
    return found


def orthonormal(directions: Tensor, size: int) -> list[Tensor]:
    """Turn columns into unit vectors on the CPU, in float64, each orthogonal to those before it.

    Raises:
        UserError: not columns of `size` entries, or zero, not finite or parallel.
    """
    given = directions.detach().double().cpu()
    if given.shape[0] != size:
        raise UserError(
            f"expected directions of {size} trainable parameters, got shape {tuple(given.shape)}; "
            "one column a direction, made for the mask that is attached"
        )
    units = torch.empty(given.shape[1], size, dtype=torch.float64)
    for number, column in enumerate(given.unbind(1)):
        length = float(column.norm())
        share = append(units, number, column.clone()) if 0 < length < float("inf") else 0.0
        if not share > 1e-6:
            raise UserError(
                f"expected directions that are finite, not zero and not parallel, got norm "
                f"{length:.3g} for number {number} and a share of {share:.2g} of it beside the "
                "others; leave it out"
            )
    return list(units)


def _weights(model: nn.Module) -> Tensor:
    """Return the effective trainable weights, flat, float64, on the CPU."""
    origins = masked_origins(model) if is_attached(model) else {}
    return flat(
        p.detach().double() + origins[name].double() if name in origins else p
        for name, p in trainable(model).items()
    )


def _filters(model: nn.Module) -> Tensor:
    """Return the number of the filter that each trainable parameter belongs to, shape (size,)."""
    mask = attached_mask(model) if is_attached(model) else None
    numbers, first = [], 0
    for name, p in trainable(model).items():
        masked = mask is not None and name in mask.indices
        shape = torch.Size(mask.shapes[name] if mask is not None and masked else p.shape)
        at = mask.indices[name].cpu() if mask is not None and masked else torch.arange(p.numel())
        per_filter = shape.numel() // shape[0] if len(shape) > 1 else max(1, shape.numel())
        numbers.append(first + torch.div(at, per_filter, rounding_mode="floor"))
        first += -(-shape.numel() // per_filter)
    return torch.cat(numbers) if numbers else torch.zeros(0, dtype=torch.long)


def _norms(v: Tensor, filters: Tensor) -> Tensor:
    squares = torch.zeros(int(filters.max()) + 1, dtype=torch.float64)
    return squares.index_add_(0, filters, v.square()).sqrt()
