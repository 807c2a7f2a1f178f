"""The dense product, of which k entries are taken: the fastest where most entries are wanted."""

from __future__ import annotations

import torch
from torch import Tensor

from landscape.kernels.coordinates import Coordinates
from landscape.kernels.kernel import Kernel, Scatter, Work


def _values(a: Tensor, b: Tensor, at: Coordinates) -> Tensor:
    return (a.t() @ b.to(a.dtype)).reshape(-1).index_select(0, at.flat)


def _scattered(v: Tensor, x: Tensor, at: Coordinates, transpose: bool) -> Tensor:
    zeros = torch.zeros(at.shape[0] * at.shape[1], dtype=x.dtype, device=x.device)
    matrix = zeros.index_copy(0, at.flat, v).view(at.shape)
    return x @ (matrix.t() if transpose else matrix)


def _units(work: Work) -> dict[str, float]:
    cells = work.rows * work.cols
    return {"dense.product": cells * work.tokens, "dense.cell": cells, "dense.entry": work.k}


KERNEL = Kernel(
    name="dense",
    constants={"dense.product": 1.31e-11, "dense.cell": 2.76e-10, "dense.entry": 1.33e-09},
    units=_units,
    is_usable=lambda at, dtype, device: True,
    values=_values,
    # the matrix has to be filled and copied first
    scatter=Scatter(_scattered, cost=2.0),
)
