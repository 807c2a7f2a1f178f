"""Kernels for the gradient of k entries, s_j = sum_t a[t, r_j] b[t, c_j], and their dispatch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from landscape.kernels import choice, native, spops
from landscape.kernels.choice import Work
from landscape.kernels.coordinates import Coordinates, Kernel

#: Largest temporary of the gather kernel, in numbers; `landscape bench kernels` times others.
GATHER_CHUNK = 1 << 19


def sampled_values(
    a: Float[Tensor, "tokens rows"],
    b: Float[Tensor, "tokens cols"],
    at: Coordinates,
    kernel: Kernel | None = None,
) -> Float[Tensor, " k"]:
    """Return s_j = sum_t a[t, r_j] b[t, c_j], shape (k,), in at least float32.

    Args:
        a: shape (tokens, rows).
        b: shape (tokens, cols).
        at: the k positions.
        kernel: the kernel; None chooses by the cost model.

    Cost: see `landscape.kernels.choice`; temporaries of at most rows * cols numbers.
    """
    tokens = a.shape[0]
    wide = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    if at.count == 0 or tokens == 0:
        return torch.zeros(at.count, dtype=wide, device=a.device)
    kernel = kernel or choice.choose_kernel(at, tokens, a.dtype)
    if kernel == "slices" and at.slices is None:
        kernel = "gather"
    return _KERNELS[kernel](a, b, at).to(wide)


def gather(
    a: Float[Tensor, "tokens rows"],
    b: Float[Tensor, "tokens cols"],
    at: Coordinates,
    chunk: int = GATHER_CHUNK,
) -> Float[Tensor, " k"]:
    """Take the k columns of each operand, some tokens at a time, and sum their products.

    Args:
        a, b, at: as for `sampled_values`.
        chunk: largest temporary, in numbers.
    """
    wide = torch.promote_types(a.dtype, torch.float32)
    total = torch.zeros(at.count, dtype=wide, device=a.device)
    rows, cols = at.rows, at.cols
    tokens = max(1, chunk // max(at.count, 1))
    for left, right in zip(a.split(tokens), b.split(tokens), strict=True):
        total += left.index_select(1, rows).to(wide).mul_(right.index_select(1, cols)).sum(0)
    return total


def _native(a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
    wide = torch.promote_types(a.dtype, torch.float32)
    return native.sampled(a.to(wide), b.to(wide), at)


def _sampled(a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
    wide = torch.promote_types(a.dtype, torch.float32)
    product = torch.sparse.sampled_addmm(at.csr(wide), a.to(wide).t(), b.to(wide), beta=0.0)
    return product.values()


def _dense(a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
    return (a.t() @ b.to(a.dtype)).reshape(-1).index_select(0, at.flat)


def _slices(a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
    """Multiply the slices that form the grid; gather the entries outside it."""
    slices = at.slices
    assert slices is not None
    left, right = _take(a, slices.rows), _take(b, slices.cols).to(a.dtype)
    if 8 * right.shape[1] < left.shape[1]:  # a few columns, where BLAS wants the wide side last
        grid = (right.t() @ left).t().reshape(-1)
    else:
        grid = (left.t() @ right).reshape(-1)
    if slices.place is None:
        return grid
    rest = gather(a, b, slices.rest_at)
    out = rest.new_empty(at.count)
    out[slices.place], out[slices.rest] = grid.to(out.dtype), rest
    return out


def _triton(a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
    from landscape.kernels import triton  # imports the optional package

    return triton.values(a, b, at)


_KERNELS = {
    "gather": gather,
    "native": _native,
    "sampled": _sampled,
    "dense": _dense,
    "slices": _slices,
    "spops": spops.values,
    "triton": _triton,
}


def spmm_values(
    v: Float[Tensor, " k"], x: Float[Tensor, "tokens inner"], at: Coordinates, transpose: bool
) -> Float[Tensor, "tokens outer"]:
    """Return x @ S(v)^T (transpose) or x @ S(v), in x's dtype.

    Args:
        v: values, shape (k,).
        x: shape (tokens, cols) with transpose, (tokens, rows) without.

    Cost: one product of slices where the entries form a grid; otherwise k * tokens scattered
    additions, or one dense product where that is cheaper.
    """
    v = v.to(x.dtype)
    slices = at.slices
    if slices is None:
        return _scattered(v, x, at, transpose)
    matrix = v if slices.place is None else v[slices.place]
    matrix = matrix.view(slices.rows.numel(), slices.cols.numel())
    out = x.new_zeros(x.shape[0], at.shape[0] if transpose else at.shape[1])
    if transpose:
        out = out.index_copy(1, slices.rows, _take(x, slices.cols) @ matrix.t())
    else:
        out = out.index_copy(1, slices.cols, _take(x, slices.rows) @ matrix)
    if slices.place is not None:
        out = out + _scattered(v[slices.rest], x, slices.rest_at, transpose)
    return out


def _scattered(v: Tensor, x: Tensor, at: Coordinates, transpose: bool) -> Tensor:
    """Return x @ S(v)^T or x @ S(v); nothing is written in place, which vmap would refuse."""
    work = Work(at.count, *at.shape, x.shape[0])
    # torch's scattered additions cost about two sampled products; those in C cost one, and the
    # dense matrix, which has to be filled and copied first, about two dense ones
    if native.is_usable(at.shape, x.dtype, x.device):
        if work.seconds("native") <= 2 * work.seconds("dense"):
            wide = torch.promote_types(x.dtype, torch.float32)
            return native.scattered(v.to(wide), x.to(wide), at, transpose).to(x.dtype)
    elif 2 * work.seconds("gather") <= work.seconds("dense"):
        source, sink = (at.cols, at.rows) if transpose else (at.rows, at.cols)
        width = at.shape[0] if transpose else at.shape[1]
        tokens = max(1, GATHER_CHUNK // max(at.count, 1))
        parts = [
            some.new_zeros(some.shape[0], width).index_add(
                1, sink, some.index_select(1, source) * v
            )
            for some in x.split(tokens)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
    dense = torch.zeros(at.shape[0] * at.shape[1], dtype=x.dtype, device=x.device)
    matrix = dense.index_copy(0, at.flat, v).view(at.shape)
    return x @ (matrix.t() if transpose else matrix)


def _take(x: Tensor, columns: Tensor) -> Tensor:
    return x if columns.numel() == x.shape[1] else x.index_select(1, columns)
