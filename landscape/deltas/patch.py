"""A patch of a checkpoint: absolute values in its coordinates, and the original ones beside them.

Rounding to the checkpoint's floating type may undo an update, so what it does is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from landscape.deltas.checkpoint import checkpoint_places, saved_state
from landscape.errors import UserError
from landscape.models.tensors import tensors
from landscape.subspace import attached_mask, dense_parameters, pretrained, thetas


@dataclass(frozen=True)
class Weights:
    """Hold the weights of one tensor that a delta changes.

    Args:
        shape: of the tensor.
        indices: flat indices, sorted, shape (k,).
        values: what they become, shape (k,), in the checkpoint's type.
        originals: what they were, shape (k,), likewise.
    """

    shape: tuple[int, ...]
    indices: Int64[Tensor, " k"]
    values: Float[Tensor, " k"]
    originals: Float[Tensor, " k"]


@dataclass(frozen=True)
class Rounding:
    """Say what a floating type does to the updates of a delta.

    Args:
        updates: weights whose change is not 0.
        lost: of them, those that are rounded back to the original value.
        largest: max |rounded - exact| over the weights.
        originals: weights whose original value the type does not hold exactly.
    """

    updates: int = 0
    lost: int = 0
    largest: float = 0.0
    originals: int = 0

    def __add__(self, other: Rounding) -> Rounding:
        return Rounding(
            self.updates + other.updates, self.lost + other.lost,
            max(self.largest, other.largest), self.originals + other.originals,
        )  # fmt: skip


@dataclass(frozen=True)
class Patch:
    """Hold the weights that a delta changes in a checkpoint.

    Args:
        weights: name of a checkpoint's tensor -> those in it.
        size: entries of all tensors of the checkpoint.
    """

    weights: Mapping[str, Weights]
    size: int

    @property
    def count(self) -> int:
        """Return how many weights it sets."""
        return sum(held.indices.numel() for held in self.weights.values())

    @property
    def original(self) -> Patch:
        """Return the patch that sets the same weights to what they were."""
        back = {n: replace(w, values=w.originals) for n, w in self.weights.items()}
        return replace(self, weights=back)


def changed_weights(
    model: PreTrainedModel, dtype: torch.dtype | None
) -> Iterator[tuple[str, Weights, Rounding]]:
    """Yield each tensor that a delta changes, in the model's coordinates.

    All weights of the mask, those that are rounded away too: a patch must also undo another one on
    the same mask. Of a tensor that is trained whole, all of it.

    Args:
        model: an attached model.
        dtype: of the checkpoint; as the model has it if absent.

    Raises:
        UserError: a value that is not finite in this type.
    """
    theta, dense = thetas(model), dense_parameters(model)
    mask = attached_mask(model)
    held = {tensor.name: tensor for tensor in tensors(model)}
    indices = {n: flat.cpu().long() for n, flat in mask.indices.items() if flat.numel()}
    indices |= {name: torch.arange(p.numel()) for name, p in dense.items() if p.numel()}
    if not indices:
        raise UserError(
            "expected a mask with a selected weight, got an empty one; attach the mask that was "
            "trained"
        )
    starts = pretrained(model, indices)
    for name, flat in indices.items():
        shown = held[name].values().reshape(-1)
        now = shown[flat.to(shown.device)].cpu()
        exact = now.double() if name in dense else _exact(starts[name], theta[name])
        kind = now.dtype if dtype is None else dtype
        weights = Weights(held[name].shape, flat, now.to(kind), starts[name].to(kind))
        _check_finite(name, weights, kind)
        yield name, weights, _rounding(weights, starts[name], exact)


def read_patch(model: PreTrainedModel, dtype: torch.dtype | None) -> tuple[Patch, Rounding]:
    """Return the patch of a checkpoint that makes it the merged model, and what rounding did.

    Args:
        model: an attached model, as `saved_model` returns it.
        dtype: of the checkpoint; as the model has it if absent.

    Raises:
        UserError: as `checkpoint_places`, or a value that is not finite in this type.
    """
    named, rounding = {}, Rounding()
    for name, weights, did in changed_weights(model, dtype):
        named[name], rounding = weights, rounding + did
    places = checkpoint_places(model, {name: w.indices for name, w in named.items()})
    parts: dict[str, list[Weights]] = {}
    for name, there in places.items():
        for target, at in there.items():
            part = Weights(
                at.shape, at.indices, named[name].values[at.order], named[name].originals[at.order]
            )
            parts.setdefault(target, []).append(part)
    found = {target: _joined(target, held) for target, held in parts.items()}
    return Patch(found, sum(value.numel() for value in saved_state(model).values())), rounding


def _exact(start: Tensor, theta: nn.Parameter) -> Float[Tensor, " k"]:
    """Return W_0 + theta in float64."""
    return start.double() + theta.detach().cpu().double()


def _rounding(weights: Weights, start: Tensor, exact: Tensor) -> Rounding:
    moved = exact != start.double()
    same = weights.values == weights.originals
    return Rounding(
        updates=int(moved.sum()), lost=int((moved & same).sum()),
        largest=float((weights.values.double() - exact).abs().max()),
        originals=int((weights.originals.double() != start.double()).sum()),
    )  # fmt: skip


def _check_finite(name: str, weights: Weights, dtype: torch.dtype) -> None:
    for what, values in (("trained", weights.values), ("original", weights.originals)):
        if not bool(torch.isfinite(values).all()):
            raise UserError(
                f"expected finite {what} values of {name} in {str(dtype).removeprefix('torch.')}, "
                "got NaN or infinity: the training diverged, or the type is too narrow; choose "
                "another dtype, or train anew"
            )


def _joined(name: str, parts: list[Weights]) -> Weights:
    """Put the parts of a checkpoint's tensor together, which tensors of the model make up."""
    if len(parts) == 1:
        return parts[0]
    kinds = {part.values.dtype for part in parts}
    if len(kinds) > 1:
        raise UserError(
            f"expected one floating type in the parts of {name}, got "
            f"{' and '.join(sorted(map(str, kinds)))}; give the checkpoint's dtype"
        )
    indices, order = torch.cat([part.indices for part in parts]).sort()
    values, originals = (
        torch.cat([getattr(part, key) for part in parts])[order] for key in ("values", "originals")
    )
    return Weights(parts[0].shape, indices, values, originals)
