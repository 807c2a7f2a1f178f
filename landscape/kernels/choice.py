"""The cost model of the gradient kernels: which is the fastest for given sizes."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import get_args

import torch

from landscape.kernels import native, spops
from landscape.kernels.coordinates import Coordinates, Kernel

#: Operands of more numbers than this leave the last cache, and cost more to turn and to read.
CACHE = 1 << 22
#: Numbers in a cache line.
LINE = 16

#: Seconds per unit of work on a processor in float32. `landscape bench kernels` fits them.
SECONDS: Mapping[str, float] = {
    "gather.call": 1.17e-04,
    "gather.entry": 1.38e-09,
    "gather.far_line": 7.92e-09,
    "native.call": 4.1e-05,
    "native.index": 6.0e-09,
    "native.direct": 3.1e-09,
    "native.turn": 3.3e-10,
    "native.entry": 5.3e-11,
    "sampled.call": 9.49e-05,
    "sampled.index": 3.22e-09,
    "sampled.turn": 1.43e-09,
    "sampled.far_turn": 3.00e-09,
    "sampled.entry": 8.25e-11,
    "sampled.far_entry": 6.07e-12,
    "dense.product": 1.31e-11,
    "dense.cell": 2.76e-10,
    "dense.entry": 1.33e-09,
    "slices.call": 1.90e-05,
    "slices.product": 1.86e-11,
    "slices.copy": 2.25e-10,
    "spops.call": 1.40e-04,
    "spops.index": 1.07e-09,
    "spops.turn": 1.17e-09,
    "spops.far_turn": 1.70e-09,
    "spops.entry": 1.50e-10,
    "spops.far_entry": 2.65e-10,
    # counted, not fitted: a gather whose six passes over temporaries are left out of eight
    "triton.call": 9.0e-5,
    "triton.entry": 4.0e-10,
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
        turned = (self.rows + self.cols) * tokens
        far = float(turned > CACHE)
        if kernel == "gather":
            lines = _lines(self.rows, k) + _lines(self.cols, k)
            return {"gather.call": 1, "gather.entry": k * tokens,
                    "gather.far_line": far * lines * tokens}  # fmt: skip
        if kernel == "native":
            fast = float(native.turns(k, self.rows, self.cols))
            return {"native.call": 1, "native.index": k, "native.direct": (1 - fast) * k * tokens,
                    "native.turn": fast * turned, "native.entry": fast * k * tokens}  # fmt: skip
        if kernel == "triton":
            return {"triton.call": 1, "triton.entry": k * tokens}
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
        return {f"{kernel}.call": 1, f"{kernel}.index": k, f"{kernel}.turn": turned,
                f"{kernel}.far_turn": far * turned, f"{kernel}.entry": k * tokens,
                f"{kernel}.far_entry": far * k * tokens}  # fmt: skip

    def seconds(self, kernel: Kernel, constants: Mapping[str, float] = SECONDS) -> float:
        """Return the time that the model predicts for a kernel."""
        return sum(constants[name] * unit for name, unit in self.units(kernel).items())


def _lines(width: int, k: int) -> float:
    """Return how many cache lines of a row of numbers k places are expected to touch."""
    lines = max(1, width // LINE)
    return lines * (1 - (1 - 1 / lines) ** k)


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
        "native": native.is_usable(at.shape, dtype, device),
        "sampled": dtype in (torch.float32, torch.float64),
        "dense": True,
        "slices": at.slices is not None,
        "spops": spops.is_usable(at.shape, dtype, device),
        "triton": device.type == "cuda" and _has_triton(),
    }
    return [kernel for kernel in get_args(Kernel) if possible[kernel]]


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def choose_kernel(at: Coordinates, tokens: int, dtype: torch.dtype) -> Kernel:
    """Choose the kernel with the smallest predicted time for the gradient of some entries.

    Args:
        at: the positions of k entries of a (rows, cols) matrix.
        tokens: number of rows of the activations.
        dtype: of the activations.
    """
    if (tokens, dtype) not in at.chosen:
        work = Work.of(at, tokens)
        at.chosen[tokens, dtype] = min(usable_kernels(at, dtype), key=work.seconds)
    return at.chosen[tokens, dtype]
