"""Two deltas beside each other: the weights that both change, and joining those that differ."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from landscape import checks
from landscape.deltas.algebra import Delta, check_shapes
from landscape.errors import UserError
from landscape.shown import card
from landscape.subspace import positions


@dataclass(frozen=True, repr=False)
class Overlap:
    """Compare two deltas on the weights that both change.

    Args:
        count: weights that both change.
        first, second: that count over each delta's own.
        jaccard: that count over the weights that either changes.
        same_sign: of the common weights that neither leaves where it was, the share that both
            move in one direction; NaN without any.
        per_tensor: tensor name -> count.
    """

    count: int
    first: float
    second: float
    jaccard: float
    same_sign: float
    per_tensor: dict[str, int]

    def __repr__(self) -> str:
        return (
            f"{self.count:,} weights in both: {self.first:.4g} of the first, {self.second:.4g} of "
            f"the second, {self.jaccard:.4g} of either; of those that both moved "
            f"{self.same_sign:.4g} with one sign"
        )

    def _repr_html_(self) -> str:
        return card(repr(self), {n: f"{c:,}" for n, c in self.per_tensor.items()})


def compose(*deltas: Delta) -> Delta:
    """Join deltas that change different weights, each kept as it is.

    Args:
        deltas: at least one.

    Returns:
        A delta on the union of their masks.

    Raises:
        UserError: none are given, two change one weight, or the base models differ.
    """
    if not deltas:
        raise UserError("expected at least one delta to compose, got none; give some")
    joined = deltas[0]
    for other in deltas[1:]:
        common = overlap(joined, other)
        if common.count:
            name = max(common.per_tensor, key=lambda n: common.per_tensor[n])
            raise UserError(
                f"expected deltas of different weights to compose, got {common.count} that two of "
                f"them change, {common.per_tensor[name]} in {name}; add them instead"
            )
        joined = joined + other
    return joined


def overlap(first: Delta, second: Delta) -> Overlap:
    """Count the weights that two deltas both change, and in how many they agree on the sign.

    Args:
        first, second: deltas of one base model; a dense tensor counts with all its weights.

    Returns:
        The counts.

    Raises:
        UserError: a tensor has another shape in the other.

    Cost: O(k log k).
    """
    checks.has("first", first, "a Delta", "mask", "values", do="read one with read_delta")
    checks.has("second", second, "a Delta", "mask", "values", do="read one with read_delta")
    check_shapes(first, second)
    per_tensor: dict[str, int] = {}
    agreeing = moved = 0
    for name in (*first.values, *first.dense):
        if name not in second.values and name not in second.dense:
            continue
        (indices, ours), (others, theirs) = _changed(first, name), _changed(second, name)
        both, place = positions(others, indices)
        per_tensor[name] = int(both.sum())
        signs = ours[both].sign() * theirs[place[both]].sign()
        agreeing, moved = agreeing + int((signs > 0).sum()), moved + int((signs != 0).sum())
    count = sum(per_tensor.values())
    k, other = first.count, second.count
    return Overlap(
        count=count,
        first=count / k if k else 0.0,
        second=count / other if other else 0.0,
        jaccard=count / (k + other - count) if k + other else 0.0,
        same_sign=agreeing / moved if moved else float("nan"),
        per_tensor=per_tensor,
    )


def _changed(change: Delta, name: str) -> tuple[Tensor, Tensor]:
    """Return the flat indices of the weights that a delta changes in a tensor, and by how much."""
    if name in change.dense:
        flat = change.dense[name].change.reshape(-1).cpu()
        return torch.arange(flat.numel()), flat
    return change.mask.indices[name].cpu(), change.values[name].cpu()
