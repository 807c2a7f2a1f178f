"""Products with a k-sparse matrix, and gradients of its k values, differentiable to any order.

A :class:`Coordinates` names the entries (r_j, c_j), j < k, of a sparse S with shape (rows, cols).
Three bilinear maps, each with the others as its derivatives, are all that masked layers need:

    masked_matmul   x, theta -> x @ (W + S(theta))^T          (or without the transpose)
    sampled         a, b     -> sum_t a[t, r_j] b[t, c_j]      shape (k,)
    spmm            v, x     -> x @ S(v)^T                     (or without the transpose)
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from torch import Tensor

Kernel = Literal["gather", "sampled", "dense"]

# Seconds per unit of work on two CPU cores, float32; `landscape bench kernels` measures them.
GATHER_ENTRY = 2.4e-9  # per entry and token
SAMPLED_ENTRY = 0.12e-9  # per entry and token
SAMPLED_ROW = 0.9e-9  # per token and row or column: both operands are transposed
DENSE_ENTRY = 5.3e-12  # per multiply-add of the dense product
GATHER_CHUNK = 1 << 22  # largest temporary of the gather kernel, in numbers


class Coordinates:
    """Hold the positions of k entries of a (rows, cols) matrix, from sorted flat indices."""

    def __init__(self, indices: Tensor, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.flat = indices
        self.rows = torch.div(indices, shape[1], rounding_mode="floor")
        self.cols = indices - self.rows * shape[1]
        self._crow: Tensor | None = None

    @property
    def count(self) -> int:
        """Return k."""
        return self.flat.numel()

    def csr(self, dtype: torch.dtype) -> Tensor:
        """Return the pattern as a CSR tensor of zeros, shape (rows, cols)."""
        if self._crow is None:
            edges = torch.arange(self.shape[0] + 1, device=self.flat.device)
            self._crow = torch.searchsorted(self.rows, edges)
        zeros = torch.zeros(self.count, dtype=dtype, device=self.flat.device)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
            return torch.sparse_csr_tensor(
                self._crow, self.cols, zeros, size=self.shape, check_invariants=False
            )


def choose_kernel(k: int, shape: tuple[int, int], tokens: int, dtype: torch.dtype) -> Kernel:
    """Choose the cheapest kernel for the gradient of k entries of a (rows, cols) matrix.

    Args:
        k: number of entries.
        shape: (rows, cols) of the matrix.
        tokens: number of rows of the activations.
        dtype: dtype of the activations; sampled products exist in float32 and float64 only.
    """
    rows, cols = shape
    cost: dict[Kernel, float] = {
        "gather": GATHER_ENTRY * k * tokens,
        "dense": DENSE_ENTRY * rows * cols * tokens,
    }
    if dtype in (torch.float32, torch.float64):
        cost["sampled"] = (SAMPLED_ROW * (rows + cols) + SAMPLED_ENTRY * k) * tokens
    return min(cost, key=lambda kernel: cost[kernel])


def sampled_values(a: Tensor, b: Tensor, at: Coordinates, kernel: Kernel | None = None) -> Tensor:
    """Return s_j = sum_t a[t, r_j] b[t, c_j], shape (k,), in at least float32.

    Args:
        a: shape (tokens, rows).
        b: shape (tokens, cols).
        at: the k positions.
        kernel: the kernel; None chooses by the cost model.

    Cost: see the constants of this module; temporaries of at most rows * cols numbers.
    """
    tokens = a.shape[0]
    kernel = kernel or choose_kernel(at.count, at.shape, tokens, a.dtype)
    wide = torch.promote_types(a.dtype, torch.float32)
    if at.count == 0 or tokens == 0:
        return torch.zeros(at.count, dtype=wide, device=a.device)
    if kernel == "sampled":
        pattern = at.csr(wide)
        product = torch.sparse.sampled_addmm(pattern, a.to(wide).t(), b.to(wide), beta=0.0)
        return product.values()
    if kernel == "dense":
        return (a.t() @ b).reshape(-1).index_select(0, at.flat).to(wide)
    chunk = max(1, GATHER_CHUNK // tokens)
    parts = [
        torch.sum(a.index_select(1, r).to(wide) * b.index_select(1, c), dim=0)
        for r, c in zip(at.rows.split(chunk), at.cols.split(chunk), strict=True)
    ]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def spmm_values(v: Tensor, x: Tensor, at: Coordinates, transpose: bool) -> Tensor:
    """Return x @ S(v)^T (transpose) or x @ S(v), in x's dtype.

    Args:
        v: values, shape (k,).
        x: shape (tokens, cols) with transpose, (tokens, rows) without.

    Cost: k * tokens scattered additions, or one dense product where that is cheaper.
    """
    rows, cols = at.shape
    source, sink = (at.cols, at.rows) if transpose else (at.rows, at.cols)
    tokens = x.shape[0]
    if 2 * GATHER_ENTRY * at.count * tokens > DENSE_ENTRY * rows * cols * tokens:
        dense = torch.zeros(rows * cols, dtype=x.dtype, device=x.device)
        dense[at.flat] = v.to(x.dtype)
        matrix = dense.view(rows, cols)
        return x @ (matrix.t() if transpose else matrix)
    out = x.new_zeros(tokens, rows if transpose else cols)
    return out.index_add_(1, sink, x.index_select(1, source) * v.to(x.dtype))


class _Sampled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.at = at
        return sampled_values(a, b, at)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, b = ctx.saved_tensors
        grad_a = _Spmm.apply(grads[0], b, ctx.at, True) if ctx.needs_input_grad[0] else None
        grad_b = _Spmm.apply(grads[0], a, ctx.at, False) if ctx.needs_input_grad[1] else None
        return grad_a, grad_b, None


class _Spmm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, x: Tensor, at: Coordinates, transpose: bool) -> Tensor:
        ctx.save_for_backward(v, x)
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
            grad_theta = _Sampled.apply(*pair, ctx.kept_at).to(theta.dtype)
        if ctx.needs_input_grad[4]:
            grad_bias = grad.sum(0)
        return grad_x, None, grad_theta, None, grad_bias, None, None, None


def masked_matmul(
    x: Tensor,
    theta: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    at: Coordinates,
    *,
    transpose: bool,
) -> Tensor:
    """Return x @ weight^T + bias (transpose) or x @ weight + bias, with gradients for x and theta.

    Nothing dense is kept for backward: the weight by reference, and of x only the columns that
    the mask reads when they are fewer than half.

    Args:
        x: shape (tokens, cols) with transpose, (tokens, rows) without.
        theta: shape (k,), already added into weight at the positions `at`.
        weight: shape (rows, cols), frozen.
        bias: shape (rows,) or (cols,), or None.
        at: the k positions.
        transpose: True for ``nn.Linear``'s layout (out, in), False for GPT-2's (in, out).
    """
    if not torch.is_grad_enabled():
        return _product(x, weight, bias, transpose)
    kept, kept_at = _kept(x, at, transpose)
    return _MaskedMatmul.apply(x, kept, theta, weight, bias, at, kept_at, transpose)


def sparse_product(theta: Tensor, x: Tensor, at: Coordinates) -> Tensor:
    """Return x @ S(theta)^T in x's dtype, differentiable to any order.

    Args:
        theta: shape (k,).
        x: shape (tokens, cols).
        at: the k positions.
    """
    kept, kept_at = _kept(x, at, True)
    out: Tensor = _Spmm.apply(theta, kept, kept_at, True)
    return out


def _kept(x: Tensor, at: Coordinates, transpose: bool) -> tuple[Tensor, Coordinates]:
    """Keep of x only the columns that the mask reads, when they are few."""
    if not at.count or 4 * at.count >= x.shape[1]:
        return x, at
    used, place = torch.unique(at.cols if transpose else at.rows, return_inverse=True)
    return x.index_select(1, used), _compressed(at, used.numel(), place, transpose)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, transpose: bool) -> Tensor:
    matrix = weight.to(x.dtype)
    if transpose:
        return torch.nn.functional.linear(x, matrix, bias)
    return x @ matrix if bias is None else torch.addmm(bias, x, matrix)


def _compressed(at: Coordinates, width: int, place: Tensor, transpose: bool) -> Coordinates:
    """Renumber the side that x feeds, keeping the order of the k entries."""
    rows, cols = (at.rows, place) if transpose else (place, at.cols)
    shape = (at.shape[0], width) if transpose else (width, at.shape[1])
    return Coordinates(rows * shape[1] + cols, shape)
