"""The products of masked layers as autograd functions: each other's derivatives, to any order."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from landscape.kernels.coordinates import Coordinates
from landscape.kernels.values import sampled_values, spmm_values


class _Sampled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.save_for_forward(a, b)
        ctx.at = at
        return sampled_values(a, b, at)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, b = ctx.saved_tensors
        grad_a = _Spmm.apply(grads[0], b, ctx.at, True) if ctx.needs_input_grad[0] else None
        grad_b = _Spmm.apply(grads[0], a, ctx.at, False) if ctx.needs_input_grad[1] else None
        return grad_a, grad_b, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        a, b = ctx.saved_tensors
        parts = [] if tangents[0] is None else [_Sampled.apply(tangents[0], b, ctx.at)]
        parts += [] if tangents[1] is None else [_Sampled.apply(a, tangents[1], ctx.at)]
        return sum(parts)


def _sampled(a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
    """Return the sampled product, as a function to differentiate only where someone may."""
    if _is_plain(a, b):
        return sampled_values(a, b, at)
    out: Tensor = _Sampled.apply(a, b, at)
    return out


class _Spmm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, x: Tensor, at: Coordinates, transpose: bool) -> Tensor:
        ctx.save_for_backward(v, x)
        ctx.save_for_forward(v, x)
        ctx.at, ctx.transpose = at, transpose
        return spmm_values(v, x, at, transpose)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        v, x = ctx.saved_tensors
        grad_v = grad_x = None
        if ctx.needs_input_grad[0]:
            pair = (grads[0], x) if ctx.transpose else (x, grads[0])
            grad_v = _Sampled.apply(*pair, ctx.at).to(v.dtype)
        if ctx.needs_input_grad[1]:
            grad_x = _Spmm.apply(v, grads[0], ctx.at, not ctx.transpose)
        return grad_v, grad_x, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        v, x = ctx.saved_tensors
        how = ctx.at, ctx.transpose
        parts = [] if tangents[0] is None else [_Spmm.apply(tangents[0], x, *how)]
        parts += [] if tangents[1] is None else [_Spmm.apply(v, tangents[1], *how)]
        return sum(parts)


class _MaskedMatmul(torch.autograd.Function):
    """The weight already holds W + S(theta); theta is an argument only for its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kept: Tensor,
        theta: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        at: Coordinates,
        kept_at: Coordinates,
        transpose: bool,
    ) -> Tensor:
        ctx.save_for_backward(kept, theta, weight)
        ctx.save_for_forward(kept, theta, weight)
        ctx.at, ctx.kept_at, ctx.transpose = at, kept_at, transpose
        return _product(x, weight, bias, transpose)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        kept, theta, weight = ctx.saved_tensors
        grad = grads[0]
        grad_x = grad_theta = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = masked_matmul(grad, theta, weight, None, ctx.at, transpose=not ctx.transpose)
        if ctx.needs_input_grad[2]:
            pair = (grad, kept) if ctx.transpose else (kept, grad)
            grad_theta = _sampled(*pair, ctx.kept_at).to(theta.dtype)
        if ctx.needs_input_grad[4]:
            grad_bias = grad.sum(0)
        return grad_x, None, grad_theta, None, grad_bias, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        kept, theta, weight = ctx.saved_tensors
        of_x, _, of_theta, _, of_bias = tangents[:5]
        parts = []
        if of_x is not None:
            parts.append(masked_matmul(of_x, theta, weight, None, ctx.at, transpose=ctx.transpose))
        if of_theta is not None:
            parts.append(_Spmm.apply(of_theta, kept, ctx.kept_at, ctx.transpose))
        out = sum(parts)
        return out if of_bias is None else out + of_bias


def masked_matmul(
    x: Float[Tensor, "tokens inner"],
    theta: Float[Tensor, " k"],
    weight: Float[Tensor, "rows cols"],
    bias: Tensor | None,
    at: Coordinates,
    *,
    transpose: bool,
) -> Float[Tensor, "tokens outer"]:
    """Return x @ weight^T + bias (transpose) or x @ weight + bias, with gradients for x and theta.

    Nothing dense is kept for backward: the weight by reference, and of x only the columns that
    the mask reads when they are fewer than a quarter.

    Args:
        x: shape (tokens, cols) with transpose, (tokens, rows) without.
        theta: shape (k,), already added into weight at the positions `at`.
        weight: shape (rows, cols), frozen.
        bias: shape (rows,) or (cols,), or None.
        at: the k positions.
        transpose: True for ``nn.Linear``'s layout (out, in), False for GPT-2's (in, out).
    """
    if _is_plain(theta):
        return _product(x, weight, bias, transpose)
    kept, kept_at = _kept(x, at, transpose)
    return _MaskedMatmul.apply(x, kept, theta, weight, bias, at, kept_at, transpose)


def sparse_product(
    theta: Float[Tensor, " k"], x: Float[Tensor, "tokens cols"], at: Coordinates
) -> Float[Tensor, "tokens rows"]:
    """Return x @ S(theta)^T in x's dtype, differentiable to any order.

    Args:
        theta: shape (k,).
        x: shape (tokens, cols).
        at: the k positions.
    """
    kept, kept_at = _kept(x, at, True)
    out: Tensor = _Spmm.apply(theta, kept, kept_at, True)
    return out


def _is_plain(*tensors: Tensor) -> bool:
    """Tell whether nothing is differentiated here, backward or forward."""
    return not torch.is_grad_enabled() and all(unpack_dual(t).tangent is None for t in tensors)


def _kept(x: Tensor, at: Coordinates, transpose: bool) -> tuple[Tensor, Coordinates]:
    """Keep of x only the columns that the mask reads, when they are few."""
    narrow = at.narrow_cols if transpose else at.narrow_rows
    return (x, at) if narrow is None else (x.index_select(1, narrow[0]), narrow[1])


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, transpose: bool) -> Tensor:
    matrix = weight.to(x.dtype)
    if transpose:
        return torch.nn.functional.linear(x, matrix, bias)
    return x @ matrix if bias is None else torch.addmm(bias, x, matrix)
