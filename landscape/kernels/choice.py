"""The cost model of the gradient kernels: which is the fastest for given sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from landscape.kernels import spops
from landscape.kernels.coordinates import Coordinates

Kernel = Literal["gather", "sampled", "dense", "slices", "spops"]

#: Operands of more numbers than this leave the last cache, and cost more to turn and to read.
CACHE = 1 << 22

#: Seconds per unit of work on two processor cores in float32. `landscape bench kernels` fits them.
SECONDS: Mapping[str, float] = {
    "gather.call": 2.0e-5,
    "gather.entry": 2.3e-9,
    "sampled.call": 2.0e-5,
    "sampled.turn": 0.85e-9,
    "sampled.far_turn": 0.9e-9,
    "sampled.entry": 5.0e-11,
    "sampled.far_entry": 4.0e-11,
    "dense.product": 4.9e-12,
    "dense.cell": 1.0e-10,
    "dense.entry": 1.0e-9,
    "slices.call": 3.0e-5,
    "slices.product": 5.0e-12,
    "slices.copy": 5.0e-10,
    "spops.call": 1.0e-4,
    "spops.turn": 0.9e-9,
    "spops.far_turn": 1.0e-10,
    "spops.entry": 4.5e-11,
    "spops.far_entry": 5.0e-11,
}


@dataclass(frozen=True)
class Work:
    """Hold the sizes that a kernel's time depends on.

    Args:
        k: number of entries.
        rows, cols: of the matrix.
        tokens: number of rows of the activations.
        grid: (rows, cols) of the grid that most entries form, or None.
    """

    k: int
    rows: int
    cols: int
    tokens: int
    grid: tuple[int, int] | None = None

    @classmethod
    def of(cls, at: Coordinates, tokens: int) -> Work:
        """Return the sizes of some coordinates under activations of that many tokens."""
        slices = at.slices
        grid = None if slices is None else (slices.rows.numel(), slices.cols.numel())
        return cls(at.count, *at.shape, tokens, grid)

    def units(self, kernel: Kernel) -> dict[str, float]:
        """Return how many units of each constant a call of a kernel takes."""
        k, tokens = self.k, self.tokens
        if kernel == "gather":
            return {"gather.call": 1, "gather.entry": k * tokens}
        if kernel == "dense":
            cells = self.rows * self.cols
            return {"dense.product": cells * tokens, "dense.cell": cells,
                    "dense.entry": k}  # fmt: skip
        if kernel == "slices":
            rows, cols = self.grid or (self.rows, self.cols)
            left = k - rows * cols
            rest = Work(left, self.rows, self.cols, tokens).units("gather") if left else {}
            return {"slices.call": 1, "slices.product": rows * cols * tokens,
                    "slices.copy": (rows + cols) * tokens, **rest}  # fmt: skip
        turned = (self.rows + self.cols) * tokens
        far = float(turned > CACHE)
        return {f"{kernel}.call": 1, f"{kernel}.turn": turned, f"{kernel}.far_turn": far * turned,
                f"{kernel}.entry": k * tokens, f"{kernel}.far_entry": far * k * tokens}  # fmt: skip

    def seconds(self, kernel: Kernel, constants: Mapping[str, float] = SECONDS) -> float:
        """Return the time that the model predicts for a kernel."""
        return sum(constants[name] * unit for name, unit in self.units(kernel).items())


def usable_kernels(
    at: Coordinates, dtype: torch.dtype, device: torch.device | None = None
) -> list[Kernel]:
    """List the kernels that can compute the gradient of these entries.

    Args:
        at: the positions.
        dtype: of the activations; sampled products exist in float32 and float64 only.
        device: of the activations; None is that of the positions.
    """
    device = device or at.flat.device
    possible = {
        "gather": True,
        "sampled": dtype in (torch.float32, torch.float64),
        "dense": True,
        "slices": at.slices is not None,
        "spops": spops.is_usable(at.shape, dtype, device),
    }
    return [kernel for kernel in get_args(Kernel) if possible[kernel]]


def choose_kernel(at: Coordinates, tokens: int, dtype: torch.dtype) -> Kernel:
    """Choose the kernel with the smallest predicted time for the gradient of some entries.

    Args:
        at: the positions of k entries of a (rows, cols) matrix.
        tokens: number of rows of the activations.
        dtype: of the activations.
    """
    work = Work.of(at, tokens)
    return min(usable_kernels(at, dtype), key=work.seconds)
