"""What a gradient kernel is: one record, with its cost model, its limits and its functions.

A kernel computes s_j = sum_t a[t, r_j] b[t, c_j] for the k entries (r_j, c_j) of a matrix. To add
one, write a file with its record and name it in `landscape.kernels.choice.KERNELS`; whoever chooses
among kernels, runs or times them reads the records there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.kernels.coordinates import Coordinates

#: Operands of more numbers than this leave the last cache, and cost more to transpose and to read.
CACHE = 1 << 22


@dataclass(frozen=True)
class Work:
    """Hold the sizes that a kernel's time depends on.

    Args:
        k: number of entries.
        rows, cols: of the matrix.
        tokens: number of rows of the activations.
        submatrix: (rows, cols) of the submatrix that most entries fill, or None.
    """

    k: int
    rows: int
    cols: int
    tokens: int
    submatrix: tuple[int, int] | None = None

    @classmethod
    def of(cls, at: Coordinates, tokens: int) -> Work:
        """Return the sizes of some coordinates under activations of that many tokens."""
        inner = at.submatrix
        sizes = None if inner is None else (inner.rows.numel(), inner.cols.numel())
        return cls(at.count, *at.shape, tokens, sizes)

    @property
    def operands(self) -> int:
        """Return how many numbers both operands hold."""
        return (self.rows + self.cols) * self.tokens

    @property
    def is_far(self) -> bool:
        """Tell whether the operands are too large for the last cache."""
        return self.operands > CACHE


@dataclass(frozen=True)
class Scatter:
    """Hold a kernel's way to the product with the sparse matrix itself, x S(v)^T or x S(v).

    Args:
        product: (v, x, coordinates, transpose) -> the product in x's dtype; see `spmm_values`.
        cost: time of the product over the predicted time of the kernel's gradient.
    """

    product: Callable[[Tensor, Tensor, Coordinates, bool], Tensor]
    cost: float


@dataclass(frozen=True)
class Kernel:
    """Hold all that is known of one way to compute the gradient of k entries.

    Args:
        name: by which it is chosen, timed and reported.
        constants: of its cost model, ``<name>.<unit>`` -> seconds a unit, on a CPU in float32;
            `landscape bench kernels` fits them.
        units: sizes -> how many units of each constant a call takes.
        is_usable: (coordinates, dtype, device) of a product -> whether it can compute that here;
            never raises.
        values: (a, b, coordinates) -> s, shape (k,); a of shape (tokens, rows), b (tokens, cols).
        scatter: its way to the product with the sparse matrix, if it has one.
        supersedes: kernels that are never faster where this one is usable, and then do not take
            part in the choice.
    """

    name: str
    constants: Mapping[str, float]
    units: Callable[[Work], dict[str, float]]
    is_usable: Callable[[Coordinates, torch.dtype, torch.device], bool]
    values: Callable[[Tensor, Tensor, Coordinates], Tensor]
    scatter: Scatter | None = None
    supersedes: tuple[str, ...] = ()

    def seconds(self, work: Work, constants: Mapping[str, float] | None = None) -> float:
        """Return the time that the cost model predicts: the sum of units times seconds.

        Args:
            work: the sizes.
            constants: others than the record's, of every kernel or of this one.
        """
        known = self.constants if constants is None else constants
        return sum(known[name] * unit for name, unit in self.units(work).items())
