"""The gradient of k entries and the product with the sparse matrix, by the chosen kernel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from landscape.errors import UserError
from landscape.kernels import choice
from landscape.kernels.coordinates import Coordinates
from landscape.kernels.submatrix import take


def sampled_values(
    a: Float[Tensor, "tokens rows"],
    b: Float[Tensor, "tokens cols"],
    at: Coordinates,
    kernel: str | None = None,
) -> Float[Tensor, " k"]:
    """Return s_j = sum_t a[t, r_j] b[t, c_j], shape (k,), in at least float32.

    Args:
        a: shape (tokens, rows).
        b: shape (tokens, cols).
        at: the k positions.
        kernel: name of the kernel; None chooses by the cost model.

    Raises:
        UserError: no kernel has that name, or it cannot compute this here.

    Cost: what the kernel's record says; temporaries of at most rows * cols numbers.
    """
    tokens = a.shape[0]
    wide = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    if at.count == 0 or tokens == 0:
        return torch.zeros(at.count, dtype=wide, device=a.device)
    name = kernel or choice.choose_kernel(at, tokens, a.dtype)
    if name not in choice.KERNELS:
        raise UserError(
            f"expected a kernel among {', '.join(choice.KERNELS)}, got {name!r}; None chooses one"
        )
    return choice.KERNELS[name].values(a, b, at).to(wide)


def spmm_values(
    v: Float[Tensor, " k"], x: Float[Tensor, "tokens inner"], at: Coordinates, transpose: bool
) -> Float[Tensor, "tokens outer"]:
    """Return x @ S(v)^T (transpose) or x @ S(v), in x's dtype.

    Args:
        v: values, shape (k,).
        x: shape (tokens, cols) with transpose, (tokens, rows) without.
        at: the k positions.
        transpose: True for ``nn.Linear``'s layout (out, in), False for GPT-2's (in, out).

    Cost: one product of submatrices where the entries fill one; otherwise k * tokens scattered
    additions, or one dense product where that is cheaper.
    """
    v = v.to(x.dtype)
    inner = at.submatrix
    if inner is None:
        return _scattered(v, x, at, transpose)
    matrix = v if inner.place is None else v[inner.place]
    matrix = matrix.view(inner.rows.numel(), inner.cols.numel())
    out = x.new_zeros(x.shape[0], at.shape[0] if transpose else at.shape[1])
    if transpose:
        out = out.index_copy(1, inner.rows, take(x, inner.cols) @ matrix.t())
    else:
        out = out.index_copy(1, inner.cols, take(x, inner.rows) @ matrix)
    if inner.place is not None:
        out = out + _scattered(v[inner.rest], x, inner.rest_at, transpose)
    return out


def _scattered(v: Tensor, x: Tensor, at: Coordinates, transpose: bool) -> Tensor:
    scatter = choice.KERNELS[choice.choose_scatter(at, x.shape[0], x.dtype)].scatter
    assert scatter is not None
    return scatter.product(v, x, at, transpose)
