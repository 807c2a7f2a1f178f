"""Gradients of single examples out of one backward, for layers whose rows tell them apart.

A linear layer's gradient for example n is dY_n' X_n: the example's own rows of the layer's inputs
and of the gradient at its outputs. One forward and backward of the whole batch has them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from landscape.models.tensors import is_quantised, tensors
from landscape.selection.tiles import matrix_view

Batch = dict[str, Tensor]
Term = Callable[[Tensor], Tensor]
Deliver = Callable[[str, Tensor], None]

_TILE = (256, 768)
"""Outputs and inputs of which an example's gradient is made at a time: it stays in a cache."""


def receive_examples(
    model: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    batch: Batch,
    total: Callable[[], Tensor],
    term: Term,
    receive: Deliver,
) -> bool:
    """Hand over sum_n term(g_n) of each tensor, g_n the gradient of example n, in one backward.

    Args:
        model: a model whose outputs have gradients with respect to the tensors' layers.
        shapes: the tensors.
        batch: its "labels" have one row an example.
        total: () -> the loss of the batch, a sum over its examples.
        term: elementwise, on any part of an example's gradient.
        receive: called as ``receive(name, sum)``, shape of the tensor, float32 or wider, during
            the backward and once a tensor; a layer that the loss does not use has no call.

    Returns:
        Whether it was done. It is not, and nothing is handed over, unless every tensor is the
        weight of a linear layer that is called exactly once and not tied (one that is not called
        may have its weight read elsewhere); and the examples are the first axis of its inputs,
        alone or flattened with the tokens, and of everything in the batch, where no other axis is
        as long.

    Cost: a forward and backward, and the products of dense gradients; the memory of one tensor.
    """
    count = len(batch["labels"])
    layers = _layers(model, shapes)
    if layers is None or not _are_rows(batch, count):
        return False
    uses: dict[nn.Module, list[_Use]] = {}
    watched = set(layers.values())

    def watch(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        use = _Use(tuple(args[0].shape) if args and output.requires_grad else ())
        uses.setdefault(module, []).append(use)
        if module in watched and use.shape:
            # the node that computed it: a view's own is lost when the view is changed in place
            node = (output if output._base is None else output._base).grad_fn
            assert node is not None
            node.register_prehook(partial(use.see, args[0].detach()))

    linear = [module for module in model.modules() if _is_linear(module)]
    handles = [module.register_forward_hook(watch) for module in linear]
    try:
        value = total()
    finally:
        for handle in handles:
            handle.remove()
    # a model that shows some layer (examples, tokens, features) flattens them in this order
    lengths = {
        s[1] for use in uses.values() for u in use if len(s := u.shape) == 3 and s[0] == count
    }
    rows = {(count,)} | {(count * n,) for n in lengths} | {(count, n) for n in lengths}
    used = [uses.get(layer, []) for layer in layers.values()]
    if any(len(u) != 1 or u[0].shape[:-1] not in rows for u in used):
        return False
    if not value.requires_grad:
        return False
    modules = dict(model.named_modules())
    for (name, shape), (use,) in zip(shapes.items(), used, strict=True):
        transposed = matrix_view(modules, name, shape)[2]
        use.receive = partial(_sum_of_terms, name, count, transposed, term, receive)
    value.backward()
    return True


def _layers(model: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, nn.Module] | None:
    """Return the layers of tensors if all are untied weights of linear ones."""
    places = Counter(tensor.identity for tensor in tensors(model))
    found = {tensor.name: tensor for tensor in tensors(model) if tensor.name in shapes}
    for tensor in found.values():
        if tensor.leaf != "weight" or places[tensor.identity] > 1 or not _is_linear(tensor.module):
            return None
    return {name: found[name].module for name in shapes}


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D) or is_quantised(module)


def _are_rows(batch: Batch, count: int) -> bool:
    """Tell whether an axis of `count` can only be the examples."""
    return all(
        value.shape[:1] == (count,) and count not in value.shape[1:] for value in batch.values()
    )


@dataclass
class _Use:
    """Hold one use of a layer in a forward, and what to do with it in the backward."""

    shape: tuple[int, ...]
    """Of the layer's inputs; empty where they, or a way back from the outputs, are unknown."""
    receive: Callable[[Tensor, Tensor], None] | None = None
    """Called with the inputs and the gradient at the outputs."""

    def see(self, x: Tensor, slopes: tuple[Tensor, ...]) -> None:
        if self.receive is not None:
            self.receive(x, slopes[0])


@torch.no_grad()
def _sum_of_terms(
    name: str, count: int, transposed: bool, term: Term, receive: Deliver, x: Tensor, slope: Tensor
) -> None:
    """Hand over sum_n term(slope_n' x_n), or its transpose, some outputs at a time."""
    kind = torch.promote_types(slope.dtype, torch.float32)
    inputs = x.reshape(count, -1, x.shape[-1]).to(kind)
    outputs = slope.reshape(count, -1, slope.shape[-1]).to(kind)
    if transposed:
        inputs, outputs = outputs, inputs
    sums = inputs.new_zeros(outputs.shape[-1], inputs.shape[-1])
    high, wide = _TILE
    for tall, part in zip(outputs.split(high, dim=-1), sums.split(high), strict=True):
        for flat, tile in zip(inputs.split(wide, dim=-1), part.split(wide, dim=1), strict=True):
            for own_outputs, own_inputs in zip(tall, flat, strict=True):
                tile.add_(term(own_outputs.t() @ own_inputs))
    receive(name, sums)
