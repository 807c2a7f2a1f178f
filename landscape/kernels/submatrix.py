"""Masks of whole rows, columns or blocks: a small dense product, and a gather of what is left."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from landscape.kernels import gather
from landscape.kernels.coordinates import Coordinates
from landscape.kernels.kernel import Kernel, Work


def take(x: Tensor, columns: Tensor) -> Tensor:
    """Return some columns of an operand, itself where they are all."""
    return x if columns.numel() == x.shape[1] else x.index_select(1, columns)


def _values(a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
    inner = at.submatrix
    if inner is None:
        return gather.gather(a, b, at)
    left, right = take(a, inner.rows), take(b, inner.cols).to(a.dtype)
    if 8 * right.shape[1] < left.shape[1]:  # a few columns, where BLAS wants the wide side last
        product = (right.t() @ left).t().reshape(-1)
    else:
        product = (left.t() @ right).reshape(-1)
    if inner.place is None:  # no entry lies outside
        return product
    rest = gather.gather(a, b, inner.rest_at)
    out = rest.new_empty(at.count)
    out[inner.place], out[inner.rest] = product.to(out.dtype), rest
    return out


def _units(work: Work) -> dict[str, float]:
    rows, cols = work.submatrix or (work.rows, work.cols)
    left = work.k - rows * cols
    rest = gather.units(replace(work, k=left, submatrix=None)) if left else {}
    return {
        "submatrix.call": 1,
        "submatrix.product": rows * cols * work.tokens,
        "submatrix.copy": (rows + cols) * work.tokens,
        **rest,
    }


KERNEL = Kernel(
    name="submatrix",
    constants={
        "submatrix.call": 1.90e-05,
        "submatrix.product": 1.86e-11,
        "submatrix.copy": 2.25e-10,
        **gather.KERNEL.constants,
    },
    units=_units,
    is_usable=lambda at, dtype, device: at.submatrix is not None,
    values=_values,
)
