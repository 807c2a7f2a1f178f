"""Masks: which weights of a model are trainable, as sorted flat indices tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from landscape import checks, seeds
from landscape.errors import UserError
from landscape.models.targets import AUTO, target_patterns, target_shapes
from landscape.models.tensors import num_parameters
from landscape.shown import card

Sampling = Literal["bernoulli", "exact"]


@dataclass(frozen=True, repr=False)
class Mask:
    """Hold the coordinates of the trainable weights.

    Args:
        indices: tensor name -> sorted, distinct flat indices, int64, shape (k_tensor,).
        shapes: tensor name -> shape of the weight tensor.
        num_parameters: p, the number of parameters of the whole model, tied weights once.
        rule: how the mask was made (kind, seed, budget, ...); enough to make it again when seeded.
    """

    indices: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]
    num_parameters: int
    rule: Mapping[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Return k, the number of trainable weights."""
        return sum(i.numel() for i in self.indices.values())

    @property
    def size(self) -> int:
        """Return the number of weights in the target tensors."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    @property
    def ratio(self) -> float:
        """Return k over all parameters of the model (the paper's p)."""
        return self.count / self.num_parameters

    @property
    def density(self) -> float:
        """Return k over the weights of the target tensors."""
        return self.count / self.size

    def summary(self) -> str:
        """Return one line with all three forms of the budget, the tensors and the seed."""
        seed = f", seed {self.rule['seed']}" if "seed" in self.rule else ""
        return (
            f"{self.count:,} of {self.num_parameters:,} parameters trainable: "
            f"ratio {self.ratio:.3g}, density {self.density:.3g} "
            f"in {len(self.shapes)} tensors{seed}"
        )

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return card(repr(self), {n: f"{i.numel():,}" for n, i in self.indices.items()})


def refuse_indices(name: str, indices: Tensor, size: int) -> None:
    """Refuse a tensor's flat indices that are not int64 in ascending order, each once, inside.

    Raises:
        UserError: with the tensor's name and what was found.
    """
    if indices.dtype != torch.int64 or indices.ndim != 1:
        raise UserError(
            f"expected indices of {name} to be int64 of shape (k,), got {indices.dtype} of shape "
            f"{tuple(indices.shape)}; give flat indices, such as chosen.flatten().nonzero()[:, 0]"
        )
    if not bool((indices[1:] > indices[:-1]).all()):
        raise UserError(
            f"expected indices of {name} in ascending order, each once, got others; sort them "
            "(indices.unique())"
        )
    if indices.numel() and not 0 <= int(indices[0]) <= int(indices[-1]) < size:
        raise UserError(
            f"expected indices of {name} from 0 to {size - 1}, got a mask with some from "
            f"{int(indices[0])} to {int(indices[-1])}; make a mask for this model"
        )


def random_mask(
    model: nn.Module,
    *,
    ratio: float | None = None,
    density: float | None = None,
    count: int | None = None,
    targets: str | Sequence[str] = AUTO,
    seed: int = 0,
    sampling: Sampling = "bernoulli",
) -> Mask:
    """Draw a random mask over the target tensors of a model.

    Every tensor's indices are a pure function of (seed, tensor name, shape, budget), whatever the
    device, the rank or the global generators; two tensors of equal shape get different masks.

    Args:
        model: the model; only names and shapes are read, weights may be on the meta device.
        ratio: trainable weights over *all* parameters of the model, tied weights once.
        density: trainable weights over the weights of the target tensors.
        count: number of trainable weights. Give exactly one of the three.
        targets: shell patterns, matched against module names (their weight) and parameter names;
            "auto" stands for the query and value layers, as the model's family names them: in OPT
            and Llama ``*.[qv]_proj``, the papers' choice. The mask's rule keeps the patterns.
        seed: seed of the mask.
        sampling: ``"bernoulli"``, every weight independently with probability density (the
            paper's), or ``"exact"``, a uniform subset of round(budget) weights, spread over the
            tensors in proportion to their size.

    Returns:
        The mask.

    Raises:
        UserError: no or several budgets, a budget out of range or so small that no weight is
            drawn, a seed out of range, or targets that match nothing ("auto": a model without
            attention).

    Cost: O(k) time and memory, whatever the density.
    Source: Xu & Zhang 2024, section 3 (m_j i.i.d. Bernoulli(p)).

    >>> mask = random_mask(nn.Sequential(nn.Linear(8, 8)), count=5, targets="0", sampling="exact")
    >>> mask.count
    5
    """
    seed = checks.seed(seed)
    checks.choice("sampling", sampling, get_args(Sampling))
    patterns = target_patterns(model, targets)
    shapes = target_shapes(model, patterns)
    total = num_parameters(model)
    size = sum(int(np.prod(s)) for s in shapes.values())
    probability = budget_density(ratio, density, count, size, total)
    quota = share(shapes, round(probability * size)) if sampling == "exact" else {}
    indices = {}
    for name, shape in shapes.items():
        rng = seeds.stream(seed, name, shape)
        n = int(np.prod(shape))
        drawn = subset(rng, n, quota[name]) if quota else bernoulli(rng, n, probability)
        indices[name] = torch.from_numpy(drawn)
    if not any(drawn.numel() for drawn in indices.values()):
        raise UserError(
            f"expected a mask of at least one weight, got none: {probability * size:.3g} were to "
            f"be expected of the {size:,} in the targets; raise the budget, or choose another seed"
        )
    rule = {
        "kind": "random",
        "sampling": sampling,
        "seed": seed,
        "density": probability,
        "targets": patterns,
    }
    return Mask(indices, shapes, total, rule)


def bernoulli(rng: np.random.Generator, n: int, probability: float) -> np.ndarray:
    """Draw the sorted indices of n i.i.d. Bernoulli(probability) trials in O(n * probability).

    The gaps between successes are geometric, so the failures are never visited.
    """
    if probability <= 0.0:
        return np.empty(0, dtype=np.int64)
    if probability >= 1.0:
        return np.arange(n, dtype=np.int64)
    parts, last = [], -1
    while last < n:
        expected = (n - last) * probability
        gaps = rng.geometric(probability, size=int(expected + 6 * expected**0.5) + 16)
        # a gap beyond n ends the tensor; clipping keeps the sum far from overflow
        positions = last + np.cumsum(np.minimum(gaps, n + 1))
        parts.append(positions)
        last = int(positions[-1])
    drawn = np.concatenate(parts)
    return drawn[: np.searchsorted(drawn, n)].astype(np.int64)


def subset(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """Draw a sorted uniform k-subset of range(n) in O(min(k, n - k)) draws."""
    if 2 * k > n:
        keep = np.ones(n, dtype=bool)
        keep[subset(rng, n, n - k)] = False
        return np.flatnonzero(keep).astype(np.int64)
    drawn = np.empty(0, dtype=np.int64)
    while drawn.size < k:
        fresh = rng.integers(0, n, size=int(1.1 * (k - drawn.size)) + 16)
        drawn = np.union1d(drawn, fresh)
    surplus = rng.choice(drawn.size, size=drawn.size - k, replace=False)
    return np.delete(drawn, surplus)


def budget_density(
    ratio: float | None, density: float | None, count: int | None, size: int, total: int
) -> float:
    """Return the density that a budget, given in one of its three forms, means.

    Args:
        ratio, density, count: the budget; exactly one of them.
        size: weights of the target tensors.
        total: parameters of the whole model.

    Raises:
        UserError: none or several are given, or the value is out of range.
    """
    given = {"ratio": ratio, "density": density, "count": count}
    chosen = {key: value for key, value in given.items() if value is not None}
    if len(chosen) != 1:
        raise UserError(
            "expected exactly one of ratio, density and count, got "
            f"{' and '.join(chosen) or 'none'}; give one"
        )
    kind, value = next(iter(chosen.items()))
    value = checks.whole(kind, value, least=1) if kind == "count" else checks.number(kind, value)
    largest = {"ratio": size / total, "density": 1.0, "count": size}[kind]
    if not 0 < value <= largest:
        share = f"{size:,} of the model's {total:,} parameters"
        raise UserError(
            f"expected a {kind} above 0 and at most {largest:.6g} (the targets hold {share}), "
            f"got {value}; lower it or widen targets"
        )
    return float(value / largest)


def share(shapes: Mapping[str, tuple[int, ...]], count: int) -> dict[str, int]:
    """Share a count over tensors in proportion to their sizes, by largest remainder."""
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    total = sum(sizes.values())
    quota = {name: count * n // total for name, n in sizes.items()}
    order = sorted(sizes, key=lambda name: (-(count * sizes[name] % total), name))
    for name in order[: count - sum(quota.values())]:
        quota[name] += 1
    return quota
