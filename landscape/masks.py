"""Masks: which weights of a model are trainable, as sorted flat indices tensor by tensor."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from landscape import checks
from landscape.errors import UserError

Sampling = Literal["bernoulli", "exact"]
QUERY_VALUE = "*.[qv]_proj"
#: how architectures name their query and value projections, or all three in one
_QUERY_VALUE = (
    (QUERY_VALUE,), ("*.query", "*.value"), ("*.q_lin", "*.v_lin"), ("*.to_q", "*.to_v"),
    ("*.q", "*.v"), ("*.wq", "*.wv"), ("*.c_attn",), ("*.query_key_value",), ("*.qkv_proj",),
    ("*.Wqkv",), ("*.qkv",),
)  # fmt: skip
_COMPUTED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
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

    __str__ = summary


def random_mask(
    model: nn.Module,
    *,
    ratio: float | None = None,
    density: float | None = None,
    count: int | None = None,
    targets: str | Sequence[str] = QUERY_VALUE,
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
        targets: shell patterns, matched against module names (their weight) and parameter names.
        seed: seed of the mask.
        sampling: ``"bernoulli"``, every weight independently with probability density (the
            paper's), or ``"exact"``, a uniform subset of round(budget) weights, spread over the
            tensors in proportion to their size.

    Returns:
        The mask.

    Raises:
        UserError: no or several budgets, a budget out of range or so small that no weight is
            drawn, a seed out of range, or targets that match nothing.

    Cost: O(k) time and memory, whatever the density.
    Source: Xu & Zhang 2024, section 3 (m_j i.i.d. Bernoulli(p)).

    >>> mask = random_mask(nn.Sequential(nn.Linear(8, 8)), count=5, targets="0", sampling="exact")
    >>> mask.count
    5
    """
    seed = checks.seed(seed)
    checks.choice("sampling", sampling, get_args(Sampling))
    shapes = target_shapes(model, targets)
    total = num_parameters(model)
    size = sum(int(np.prod(s)) for s in shapes.values())
    probability = budget_density(ratio, density, count, size, total)
    quota = share(shapes, round(probability * size)) if sampling == "exact" else {}
    indices = {}
    for name, shape in shapes.items():
        rng = generator(seed, name, shape)
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
        "targets": checks.patterns("targets", targets),
    }
    return Mask(indices, shapes, total, rule)


@dataclass(frozen=True)
class NamedTensor:
    """Name one weight tensor of a model: where it is, its shape, whether its values show.

    Args:
        name, module, leaf: ``name`` is the path of ``module`` and ``leaf``.
        shape: of the matrix that the layer computes with, also where its values are packed.
        quantised: whether the layer computes with the weight but shows no whole floating-point
            matrix: a quantised layer, or one that is sharded over processes.
        identity: equal for the names of a tied tensor.
    """

    name: str
    module: nn.Module
    leaf: str
    shape: tuple[int, ...]
    quantised: bool
    identity: int

    @property
    def size(self) -> int:
        """Return the number of weights."""
        return math.prod(self.shape)

    @torch.no_grad()
    def values(self) -> Tensor:
        """Return the weights that the module computes with, in its shape, without gradient.

        A quantised layer is asked by its forward, with a bias b: W e_j = module(e_j) - module(0),
        which is off by the rounding of W e_j + b.

        Cost: none; of a quantised layer, a forward of as many tokens as it has inputs; of a
        sharded one, the whole tensor, gathered: every process has to ask.
        """
        weight: Any = self.module._parameters.get(self.leaf)
        if is_sharded(weight):
            gathered: Tensor = weight.detach().full_tensor()
            return gathered
        if not self.quantised:
            assert isinstance(weight, Tensor)
            return weight.detach()
        like = next((t for t in self._held() if t.dtype in _COMPUTED), torch.zeros(()))
        units = torch.eye(self.shape[1], dtype=like.dtype, device=like.device)
        columns: Tensor = self.module.forward(units) - self.module.forward(units[:1] * 0)
        return columns.t()

    @torch.no_grad()
    def stored(self, indices: Tensor) -> Tensor:
        """Return what the tensor stores at flat indices, on cpu: what tells two models apart.

        Values, in the tensor's type. Of a quantised layer numbers of its packed storage, at the
        indices modulo its size, as float64; zeros where the layer shows none.

        Args:
            indices: shape (k,).

        Returns:
            Shape (k,).
        """
        if not self.quantised or is_sharded(self.module._parameters.get(self.leaf)):
            values = self.values().reshape(-1)
            return values[indices.to(values.device)].cpu()
        packed = max(self._held(), key=torch.numel, default=torch.zeros(1))
        flat = packed.detach().reshape(-1)
        return flat[indices.to(flat.device) % flat.numel()].cpu().double()

    def _held(self) -> list[Tensor]:
        named = [*self.module.named_parameters(), *self.module.named_buffers()]
        return [t for name, t in named if not name.startswith("theta_") and t.numel()]


def tensors(model: nn.Module) -> Iterator[NamedTensor]:
    """List the weight tensors of a model in its order, every name of a tied one.

    Parameters, and the weights of quantised linear layers; theta of an attached mask is left out.
    """
    for path, module in model.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        packed = is_quantised(module)
        if packed:
            sizes: Any = (module.out_features, module.in_features)
            yield NamedTensor(f"{prefix}weight", module, "weight", sizes, True, id(module))
        for leaf, value in module._parameters.items():
            if value is None or leaf.startswith("theta_") or (packed and leaf == "weight"):
                continue
            shape = tuple(value.shape)
            yield NamedTensor(f"{prefix}{leaf}", module, leaf, shape, False, id(value))


def is_sharded(weight: Any) -> bool:
    """Tell whether a weight lies in pieces on several processes (a DTensor, as FSDP makes it)."""
    return hasattr(weight, "device_mesh")


def is_quantised(module: nn.Module) -> bool:
    """Tell whether a linear layer shows its sizes but no weight in a floating type to compute in.

    That is what the layers of quantisation libraries have in common: ``in_features``,
    ``out_features``, and a weight that is packed, named otherwise, or absent; or sharded.
    """
    shown = module._parameters.get("weight")
    if is_sharded(shown):
        return hasattr(module, "in_features")
    if shown is not None and shown.dtype in _COMPUTED:
        return False
    sizes = (getattr(module, "in_features", None), getattr(module, "out_features", None))
    if not all(isinstance(size, int) for size in sizes):
        return False
    if any(hasattr(inner, "in_features") for inner in module.modules() if inner is not module):
        return False
    weight = getattr(module, "weight", None)
    return not (isinstance(weight, Tensor) and weight.dtype in _COMPUTED)


def num_parameters(model: nn.Module) -> int:
    """Count all parameters of a model, tied weights once, those of an attached mask left out.

    A quantised layer counts the weights it computes with, not the numbers they are packed into.
    """
    return sum({t.identity: t.size for t in tensors(model)}.values())


def target_shapes(model: nn.Module, targets: str | Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Find the tensors that shell patterns name, in the model's order.

    A pattern is matched against parameter names and, for their weight, against module names. A
    tied tensor appears once, under its first name, whichever of its names matched.

    Raises:
        UserError: a pattern matches nothing; the sentence lists names that would.
    """
    checks.instance("model", model, nn.Module, "load or build one")
    patterns = checks.patterns("targets", targets)
    first: dict[int, str] = {}
    found: dict[str, tuple[int, ...]] = {}
    unmatched = set(patterns)
    for tensor in tensors(model):
        canonical = first.setdefault(tensor.identity, tensor.name)
        for pattern in patterns:
            if _matches(tensor, pattern):
                unmatched.discard(pattern)
                found[canonical] = tensor.shape
    if unmatched:
        weights = [t for t in tensors(model) if t.leaf == "weight"] or list(tensors(model))
        ends = sorted({_end(tensor) for tensor in weights}) or ["(no weights)"]
        raise UserError(
            f"expected targets that name tensors of this model, got {', '.join(sorted(unmatched))},"
            f" which matches none; its modules with weights are: {', '.join(ends[:20])}; "
            f"give {_suggestion(model, ends)}"
        )
    return found


def query_value(model: nn.Module) -> list[str]:
    """Return patterns of a model's query and value projections, as its architecture names them.

    Where none of the names in use fits, the pattern is `QUERY_VALUE`, which then matches nothing.

    >>> query_value(nn.ModuleDict({"a": nn.ModuleDict({"query": nn.Linear(2, 2),
    ...                                                "value": nn.Linear(2, 2)})}))
    ['*.query', '*.value']
    """
    held = list(tensors(model))
    for patterns in _QUERY_VALUE:
        if all(any(_matches(tensor, pattern) for tensor in held) for pattern in patterns):
            return list(patterns)
    return [QUERY_VALUE]


def _matches(tensor: NamedTensor, pattern: str) -> bool:
    module = tensor.name.rpartition(".")[0]
    own = tensor.leaf == "weight" and fnmatchcase(module, pattern)
    return own or fnmatchcase(tensor.name, pattern)


def _end(tensor: NamedTensor) -> str:
    """Return a pattern that matches a tensor by the end of its module's name."""
    module = tensor.name.rpartition(".")[0]
    short = f"*.{module.rpartition('.')[2]}" if "." in module else module
    return short if _matches(tensor, short) else tensor.name


def _suggestion(model: nn.Module, ends: Sequence[str]) -> str:
    likely = query_value(model)
    known = likely if any(_matches(t, likely[0]) for t in tensors(model)) else ends[:1]
    return "targets=" + (repr(known[0]) if len(known) == 1 else repr(known))


def generator(seed: int, name: str, shape: Sequence[int]) -> np.random.Generator:
    """Return the generator of one tensor's mask, derived from (seed, name, shape)."""
    digest = hashlib.sha256(f"{seed}\0{name}\0{tuple(shape)}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


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
