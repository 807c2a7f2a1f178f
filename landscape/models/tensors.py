"""The weight tensors of a model: their names, shapes and values, packed and sharded ones too."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int, Num
from torch import Tensor, nn

_COMPUTED = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


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
    def stored(self, indices: Int[Tensor, " k"]) -> Num[Tensor, " k"]:
        """Return what the tensor stores at flat indices, on cpu: what tells two models apart.

        Values, in the tensor's type. Of a quantised layer elements of its packed storage, at the
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


def is_sharded(weight: object) -> bool:
    """Return whether a weight lies in pieces on several processes (a DTensor, as FSDP makes it)."""
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

    A quantised layer counts the weights it computes with, not the elements they are packed into.

    >>> num_parameters(nn.Linear(3, 2))
    8
    """
    return sum({t.identity: t.size for t in tensors(model)}.values())
