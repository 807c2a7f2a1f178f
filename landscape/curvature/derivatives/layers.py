"""Layers of torch whose second derivative is wrong or missing: made right, or refused by name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode

from landscape.errors import UserError

_WRONG = {"WeightNormInterfaceBackward0": "torch's fused weight normalisation"}
"""Functions whose double backward is wrong with torch 2.13: their own gradgradcheck fails."""

_Lookup = nn.Embedding | nn.EmbeddingBag


@contextlib.contextmanager
def composed_weight_norm(model: nn.Module) -> Iterator[None]:
    """Compute weight normalisation as v g / ||v||, where a model has any.

    The double backward of the fused kernel takes the norms for constants.
    """
    if not any(isinstance(m, _WeightNorm) or _old_weight_norm(m) for m in model.modules()):
        yield
        return
    with _Composed():
        yield


@contextlib.contextmanager
def dense_embeddings(model: nn.Module) -> Iterator[None]:
    """Let embeddings with ``sparse=True`` have dense gradients, which can be differentiated."""
    sparse = [m for m in model.modules() if isinstance(m, _Lookup) and m.sparse]
    try:
        for module in sparse:
            module.sparse = False
        yield
    finally:
        for module in sparse:
            module.sparse = True


def refuse_renormed_embeddings(model: nn.Module, trainable: set[str]) -> None:
    """Refuse embeddings whose forward writes the trainable weights (``max_norm``).

    Raises:
        UserError: there is one; autograd takes the projection for the identity.
    """
    for name, module in model.named_modules():
        weight = f"{name}.weight" if name else "weight"
        if isinstance(module, _Lookup) and module.max_norm is not None and weight in trainable:
            raise UserError(
                f"expected a loss that leaves its weights alone, got {name} with max_norm="
                f"{module.max_norm}, which rescales rows at every forward without a derivative; "
                "build it without max_norm, or freeze it"
            )


def refuse_wrong_functions(output: Tensor) -> None:
    """Refuse a loss in which a function took part whose double backward is known to be wrong.

    Raises:
        UserError: there is one in the graph of the output.

    Cost: one walk over the graph's nodes.
    """
    for node in nodes([output]):
        if node.name() in _WRONG:
            raise UserError(
                f"expected a loss whose second derivative torch knows, got {_WRONG[node.name()]} "
                f"({node.name()}), which has a wrong one; use torch.nn.utils.parametrizations."
                "weight_norm on the module, or write v * g / v.norm()"
            )


def nodes(outputs: Sequence[Tensor]) -> Iterator[Node]:
    """Return every function that took part in some outputs, once."""
    waiting, seen = [output.grad_fn for output in outputs], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += [following for following, _ in node.next_functions]


class _Composed(TorchFunctionMode):
    """Replace the fused weight normalisation."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch._weight_norm:
            return _weight_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    rest = [n for n in range(v.ndim) if n != dim]  # all of them for -1
    square = v.square().sum(rest, keepdim=dim != -1)
    return v * (g / square.sqrt())


def _old_weight_norm(module: nn.Module) -> bool:
    return any(isinstance(hook, WeightNorm) for hook in module._forward_pre_hooks.values())
