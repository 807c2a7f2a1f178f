"""All kernels for the gradient of k entries, and the choice among them by their cost models."""

from __future__ import annotations

import math

import torch

from landscape.kernels import dense, gather, gpu, native, sampled, spops, submatrix
from landscape.kernels.coordinates import Coordinates
from landscape.kernels.kernel import Kernel, Work

#: name -> kernel
KERNELS: dict[str, Kernel] = {
    module.KERNEL.name: module.KERNEL
    for module in (gather, native, sampled, dense, submatrix, spops, gpu)
}


def usable_kernels(
    at: Coordinates, dtype: torch.dtype, device: torch.device | None = None
) -> list[str]:
    """List the kernels that can compute the gradient of these entries.

    Args:
        at: the positions.
        dtype: of the activations; sampled products exist in float32 and float64 only.
        device: of the activations; None is that of the positions.
    """
    device = device or at.flat.device
    return [name for name, kernel in KERNELS.items() if kernel.is_usable(at, dtype, device)]


def choose_kernel(at: Coordinates, tokens: int, dtype: torch.dtype) -> str:
    """Choose the kernel with the smallest predicted time for the gradient of some entries.

    Args:
        at: the positions of k entries of a (rows, cols) matrix.
        tokens: number of rows of the activations.
        dtype: of the activations.

    Returns:
        Its name in `KERNELS`.
    """
    return _choose("values", at, tokens, dtype)


def choose_scatter(at: Coordinates, tokens: int, dtype: torch.dtype) -> str:
    """Choose the kernel whose product with the sparse matrix itself is predicted the fastest.

    Args, Returns:
        As for `choose_kernel`.
    """
    return _choose("scatter", at, tokens, dtype)


def _choose(purpose: str, at: Coordinates, tokens: int, dtype: torch.dtype) -> str:
    known = at.chosen.get((purpose, tokens, dtype))
    if known is None:
        usable = [KERNELS[name] for name in usable_kernels(at, dtype)]
        superseded = {name for kernel in usable for name in kernel.supersedes}
        work, costs = Work.of(at, tokens), {}
        for kernel in usable:
            times = 1.0
            if purpose == "scatter":
                times = kernel.scatter.cost if kernel.scatter else math.inf
            if kernel.name not in superseded:
                costs[kernel.name] = times * kernel.seconds(work)
        known = at.chosen[purpose, tokens, dtype] = min(costs, key=lambda name: costs[name])
    return known
