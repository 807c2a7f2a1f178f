"""The product of a layer with each lane's own weights, one lane after the other.

A lane's weights are W_0 + S(theta): k places of the stored matrix are written, its rows are
multiplied, and the places get their pretrained values back. So R lanes need no R matrices, and a
product costs what that of a solo run costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from landscape.kernels import Coordinates
from landscape.kernels.values import sampled_values


class Piece(NamedTuple):
    """The rows of one lane, in a tensor that holds those of several: from start to below stop."""

    lane: int
    start: int
    stop: int


class MaskedWeight:
    """Hold one lane's change of one matrix.

    Args:
        indices: flat, sorted.
        shape: of the matrix.
        origin: pretrained values at the indices.
    """

    def __init__(
        self, indices: Int64[Tensor, " k"], shape: tuple[int, int], origin: Float[Tensor, " k"]
    ) -> None:
        self.indices, self.origin = indices, origin
        self.at = Coordinates(indices, shape)
        dtype = torch.promote_types(origin.dtype, torch.float32)
        self.theta = nn.Parameter(torch.zeros(indices.numel(), dtype=dtype, device=origin.device))
        self._shown: tuple[int, torch.dtype, Tensor] | None = None

    def forget(self) -> None:
        """Make the values anew when they are next asked for, however theta was written since."""
        self._shown = None

    @torch.no_grad()
    def values(self, like: Tensor) -> Float[Tensor, " k"]:
        """Return W_0 + theta at the indices, rounded as the stored weight is, in a type.

        They are kept while theta's version stays, which a write through ``.data`` leaves as it was.
        """
        known = self._shown
        if known is None or known[:2] != (self.theta._version, like.dtype):
            values = (self.origin.to(self.theta.dtype) + self.theta).to(self.origin.dtype)
            known = self._shown = (self.theta._version, like.dtype, values.to(like.dtype))
        return known[2]


class _Shown:
    """A matrix that shows one lane's weights at a time."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self._flat = matrix, matrix.view(-1)
        self._held: MaskedWeight | None = None

    def show(self, masked: MaskedWeight | None) -> Tensor:
        """Write a lane's weights over those of the last one."""
        if self._held is not None:
            self._flat.index_copy_(0, self._held.indices, self._held.origin.to(self._flat.dtype))
        if masked is not None:
            self._flat.index_copy_(0, masked.indices, masked.values(self._flat))
        self._held = masked
        return self.matrix


@contextmanager
def _shown(weight: Tensor, dtype: torch.dtype) -> Iterator[_Shown]:
    """Give the stored weight, or a copy of another type, to write lanes' values into."""
    shown = _Shown(weight.detach().to(dtype))
    try:
        yield shown
    finally:
        shown.show(None)


class _LaneProducts(torch.autograd.Function):
    """theta's are arguments for their gradients; their values are written when they are needed."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        pieces: Sequence[Piece],
        masked: Mapping[int, MaskedWeight],
        transpose: bool,
        *thetas: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.weight, ctx.pieces, ctx.masked, ctx.transpose = weight, pieces, masked, transpose
        return _multiplied(x, weight, bias, pieces, masked, transpose)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,), grad = ctx.saved_tensors, grads[0]
        grad_x = None
        if ctx.needs_input_grad[0]:
            back = not ctx.transpose
            grad_x = _multiplied(grad, ctx.weight, None, ctx.pieces, ctx.masked, back)
        of_thetas = []
        for lane, start, stop in ctx.pieces:
            if lane not in ctx.masked:
                continue
            left, right = grad[start:stop], x[start:stop]
            pair = (left, right) if ctx.transpose else (right, left)
            own = ctx.masked[lane]
            of_thetas.append(sampled_values(*pair, own.at).to(own.theta.dtype))
        return grad_x, None, None, None, None, None, *of_thetas


def lane_products(
    x: Float[Tensor, "tokens inner"],
    weight: Float[Tensor, "rows cols"],
    bias: Tensor | None,
    pieces: Sequence[Piece],
    masked: Mapping[int, MaskedWeight],
    *,
    transpose: bool,
) -> Float[Tensor, "tokens outer"]:
    """Return x_l @ (W_0 + S(theta_l))^T + bias for the rows x_l of every lane l, stacked.

    Args:
        x: all lanes' rows, one lane's after another's.
        weight: W_0, stored; written and restored.
        bias: that all lanes share.
        pieces: which rows are whose.
        masked: lane -> its change; lanes without one multiply with W_0.
        transpose: True for ``nn.Linear``'s layout (out, in), False for GPT-2's (in, out).
    """
    thetas = [masked[piece.lane].theta for piece in pieces if piece.lane in masked]
    made: Any = _LaneProducts
    out: Tensor = made.apply(x, weight, bias, pieces, masked, transpose, *thetas)
    return out


@torch.no_grad()
def _multiplied(
    x: Tensor, weight: Tensor, bias: Tensor | None, pieces: Sequence[Piece],
    masked: Mapping[int, MaskedWeight], transpose: bool,
) -> Tensor:  # fmt: skip
    """Return the products of all lanes' rows; neighbours without a change in one."""
    parts = []
    with _shown(weight, x.dtype) as shown:
        for lane, start, stop in pieces:
            matrix = shown.show(masked.get(lane))
            if transpose:
                parts.append(F.linear(x[start:stop], matrix, bias))
            else:
                part = x[start:stop] @ matrix
                parts.append(part if bias is None else part + bias)
    return torch.cat(parts)
