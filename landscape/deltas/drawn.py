"""The mask of a delta file: drawn again by its rule where it has one, else stored as indices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from landscape.deltas.header import DeltaHeader
from landscape.deltas.heads import with_heads
from landscape.errors import UserError
from landscape.identity import mask_digest
from landscape.masks import Mask, random_mask
from landscape.models.tensors import num_parameters
from landscape.selection import structured_mask

# masks that a rule makes again, and what of the rule their functions take
_SEEDED: dict[str, tuple[Callable[..., Mask], tuple[str, ...]]] = {
    "random": (random_mask, ("density", "targets", "seed", "sampling")),
    "structured": (structured_mask, ("granularity", "count", "targets", "seed", "block")),
}
RULES = {kind: fields for kind, (_, fields) in _SEEDED.items()}
"""Kind of a mask that its rule makes again -> the fields of the rule that it takes."""


def draw_again(model: nn.Module, rule: Mapping[str, Any], heads: list[str]) -> Mask | None:
    """Make a mask again by its rule, None where the rule is no such one."""
    kind = rule.get("kind")
    if not isinstance(kind, str) or kind not in _SEEDED:
        return None
    make, fields = _SEEDED[kind]
    drawn = make(model, **{key: rule[key] for key in fields if rule.get(key) is not None})
    return with_heads(drawn, model, heads) if heads else drawn


def stored_mask(
    model: nn.Module, header: DeltaHeader, stored: Mapping[str, Tensor], path: Path
) -> Mask:
    """Return the mask of a delta file.

    Args:
        model: the base model.
        header: the file's.
        stored: its tensors by name.
        path: of the file, for the sentences.

    Raises:
        UserError: the rule names other tensors or draws other weights here, or stored indices are
            not sorted, distinct and inside their tensor.
    """
    drawn = draw_again(model, header.rule, header.heads)
    if drawn is not None:
        if dict(drawn.shapes) != header.shapes:
            raise UserError(
                f"expected the rule in {path} to name the tensors that it holds, got one that "
                f"names other tensors: {', '.join(drawn.shapes)[:200]}; save it again"
            )
        mask = dataclasses.replace(drawn, rule=header.rule)
    else:
        indices = {
            name: torch.arange(torch.Size(shape).numel())
            if name in header.heads
            else _indices(stored.get(f"{name}.indices"), name, shape, path)
            for name, shape in header.shapes.items()
        }
        mask = Mask(indices, header.shapes, num_parameters(model), header.rule)
    counts = {n: stored[n].numel() for n in mask.indices if n in stored}
    same = all(counts.get(n) == i.numel() for n, i in mask.indices.items())
    if same and header.indices is not None and mask_digest(mask.indices) != header.indices:
        raise UserError(
            f"expected the rule in {path} to draw the weights that were saved, got one that draws "
            "other weights here than where it was saved; save it again there from a mask of given "
            "indices"
        )
    return mask


def narrowed(indices: Int[Tensor, " k"]) -> Int[Tensor, " k"]:
    """Return indices in the narrowest of int32 and int64 that holds the last."""
    return indices.cpu().to(torch.int32 if _last(indices) < 2**31 else torch.int64)


def _indices(index: Tensor | None, name: str, shape: tuple[int, ...], path: Path) -> Tensor:
    index = torch.empty(0, dtype=torch.int64) if index is None else index
    whole = index.dim() == 1 and index.dtype in (torch.int32, torch.int64)
    index, size = index.long() if whole else index, int(torch.Size(shape).numel())
    ordered = whole and bool(torch.all(index[1:] > index[:-1]))
    if not ordered or (index.numel() and not 0 <= int(index[0]) <= _last(index) < size):
        raise UserError(
            f"expected indices of {name} in {path} to be sorted, distinct and below {size}, got "
            f"{index.numel()} others of {index.dtype}; save it again"
        )
    return index


def _last(indices: Tensor) -> int:
    return int(indices[-1]) if indices.numel() else 0
