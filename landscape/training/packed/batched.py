"""The product of a layer with each lane's own weights, all lanes at once: what a GPU wants.

There a launch costs more than the numbers of a small product, so the lanes' matrices W_0 + S(theta)
are made for the moment, R of one layer at a time, and multiplied in one batched product: a few
launches, however many lanes there are. The gradient of all thetas is one batched product and one
gather.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from landscape.training.packed.products import MaskedWeight, Piece


@dataclass(frozen=True)
class Stack:
    """Hold the masked entries of several lanes' matrices, one lane's after another's.

    Args:
        lanes: how many.
        flat: indices into the stacked matrices, shape (K,).
        origin: pretrained values there, shape (K,).
        counts: entries of each lane.
    """

    lanes: int
    flat: Int64[Tensor, " K"]
    origin: Float[Tensor, " K"]
    counts: tuple[int, ...]

    @classmethod
    def of(
        cls, weight: Tensor, pieces: Sequence[Piece], masked: Mapping[int, MaskedWeight]
    ) -> Stack:
        """Stack the masks of lanes, in the order of their pieces."""
        held = [(i, masked[p.lane]) for i, p in enumerate(pieces) if p.lane in masked]
        flat = torch.cat([own.indices + i * weight.numel() for i, own in held])
        origin = torch.cat([own.origin for _, own in held])
        return cls(len(pieces), flat, origin, tuple(own.indices.numel() for _, own in held))


def are_even(pieces: Sequence[Piece]) -> bool:
    """Tell whether every lane has as many rows, as one batched product needs."""
    return len({piece.stop - piece.start for piece in pieces}) == 1


def batched_products(
    x: Float[Tensor, "tokens inner"],
    weight: Float[Tensor, "rows cols"],
    bias: Tensor | None,
    stack: Stack,
    thetas: Sequence[Tensor],
    *,
    transpose: bool,
) -> Float[Tensor, "tokens outer"]:
    """Return what `lane_products` does, for lanes with as many rows each.

    Args:
        x, weight, bias, transpose: as there.
        stack: of the lanes' masks.
        thetas: of the lanes that have one, in their order.

    Cost: R matrices, made in forward and again in backward, and the R of the dense gradient; each
        for one layer at a time.
    """
    made: Any = _BatchedProducts
    out: Tensor = made.apply(x, weight, bias, stack, transpose, *thetas)
    return out


class _BatchedProducts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stack: Stack, transpose: bool,
        *thetas: Tensor,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, *thetas)
        ctx.weight, ctx.stack, ctx.transpose = weight, stack, transpose
        matrices = _matrices(weight, stack, thetas, x.dtype)
        each = x.view(stack.lanes, -1, x.shape[-1])
        out = each @ (matrices.mT if transpose else matrices)
        if bias is not None:
            out = out + bias.to(out.dtype)
        return out.view(len(x), -1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, *thetas = ctx.saved_tensors
        stack, transpose = ctx.stack, ctx.transpose
        grad = grads[0].reshape(stack.lanes, -1, grads[0].shape[-1])
        grad_x = None
        if ctx.needs_input_grad[0]:
            matrices = _matrices(ctx.weight, stack, thetas, grad.dtype)
            grad_x = (grad @ (matrices if transpose else matrices.mT)).view(x.shape)
        each = x.view(stack.lanes, -1, x.shape[-1])
        left, right = (grad, each) if transpose else (each, grad)
        dense = left.mT @ right
        entries = dense.reshape(-1).index_select(0, stack.flat)
        of_thetas = entries.to(thetas[0].dtype).split(stack.counts)
        return grad_x, None, None, None, None, *of_thetas


@torch.no_grad()
def _matrices(
    weight: Tensor, stack: Stack, thetas: Sequence[Tensor], dtype: torch.dtype
) -> Float[Tensor, "lanes rows cols"]:
    """Return W_0 + S(theta) of every lane, rounded as the stored weight is, in a type."""
    values = (stack.origin.to(thetas[0].dtype) + torch.cat(list(thetas))).to(weight.dtype)
    matrices = weight.detach().to(dtype).repeat(stack.lanes, 1, 1)
    matrices.view(-1).index_copy_(0, stack.flat, values.to(dtype))
    return matrices
