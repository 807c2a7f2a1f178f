"""Positions of the entries of a sparse matrix, and the structure they have."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Int32
from torch import Tensor

Kernel = Literal["gather", "native", "sampled", "dense", "slices", "spops", "triton"]


class Coordinates:
    """Hold the positions of k entries of a (rows, cols) matrix, from sorted flat indices."""

    def __init__(self, indices: Tensor, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.flat = indices
        #: (tokens, dtype) -> the kernel that the cost model chose
        self.chosen: dict[tuple[int, torch.dtype], Kernel] = {}

    @property
    def count(self) -> int:
        """Return k."""
        return self.flat.numel()

    # rows and columns are computed whenever a kernel asks: 2 k numbers that need not be kept
    @property
    def rows(self) -> Int32[Tensor, " k"]:
        """Return the row of every entry, shape (k,), int32."""
        return torch.div(self.flat, self.shape[1], rounding_mode="floor").int()

    @property
    def cols(self) -> Int32[Tensor, " k"]:
        """Return the column of every entry, shape (k,), int32."""
        return (self.flat % self.shape[1]).int()

    @cached_property
    def row_offsets(self) -> Int32[Tensor, " offsets"]:
        """Return where each row begins among the k entries, shape (rows + 1,), int32."""
        edges = torch.arange(self.shape[0] + 1, device=self.flat.device) * self.shape[1]
        return torch.searchsorted(self.flat, edges, out_int32=True)

    def csr(self, dtype: torch.dtype) -> Tensor:
        """Return the pattern as a CSR tensor of zeros, shape (rows, cols)."""
        zeros = torch.zeros(self.count, dtype=dtype, device=self.flat.device)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
            return torch.sparse_csr_tensor(
                self.row_offsets, self.cols, zeros, self.shape, device=zeros.device,
                check_invariants=False,
            )  # fmt: skip

    @cached_property
    def slices(self) -> Slices | None:
        """Return the grid of whole rows and columns that most entries form, None without one."""
        found = [f for f in (_grid(self, "cols"), _grid(self, "rows")) if f is not None]
        return max(found, key=lambda f: f.size, default=None)

    @cached_property
    def narrow_cols(self) -> tuple[Tensor, Coordinates] | None:
        """Return the columns in use and the entries among those alone; None where most are."""
        used, place = _used(self.flat % self.shape[1], self.shape[1])
        if used is None:
            return None
        width = used.numel()
        return used, Coordinates(self.rows.long() * width + place, (self.shape[0], width))

    @cached_property
    def narrow_rows(self) -> tuple[Tensor, Coordinates] | None:
        """Return the rows in use and the entries among those alone; None where most are."""
        used, place = _used(self.flat // self.shape[1], self.shape[0])
        if used is None:
            return None
        return used, Coordinates(place * self.shape[1] + self.cols, (used.numel(), self.shape[1]))


@dataclass(frozen=True)
class Slices:
    """Hold the part of some coordinates that is a full grid rows x cols, and what is left.

    Args:
        rows: sorted rows of the grid.
        cols: sorted columns of the grid.
        place: which of the k entries the grid holds, row by row; None where it holds all.
        rest: which of the k entries it does not hold.
        rest_at: the positions of those.
    """

    rows: Tensor
    cols: Tensor
    place: Tensor | None
    rest: Tensor
    rest_at: Coordinates

    @property
    def size(self) -> int:
        """Return the number of entries of the grid."""
        return self.rows.numel() * self.cols.numel()


def _grid(at: Coordinates, side: str) -> Slices | None:
    """Find the grid of the fullest columns (or rows), if it holds at least half of the entries."""
    if not at.count:
        return None
    across, along = at.flat // at.shape[1], at.flat % at.shape[1]
    own, other = (along, across) if side == "cols" else (across, along)
    counts = torch.bincount(own, minlength=at.shape[side == "cols"])
    full = counts == counts.max()
    inside = full[own]
    if 2 * int(inside.sum()) < at.count:
        return None
    lines, others = torch.nonzero(full).reshape(-1), torch.unique(other[inside])
    rows, cols = (others, lines) if side == "cols" else (lines, others)
    place = torch.nonzero(inside).reshape(-1)
    if rows.numel() * cols.numel() != place.numel():
        return None
    rest = torch.nonzero(~inside).reshape(-1)
    rest_at = Coordinates(at.flat[rest], at.shape)
    return Slices(rows, cols, place if rest.numel() else None, rest, rest_at)


def _used(side: Tensor, width: int) -> tuple[Tensor | None, Tensor]:
    """Return the sorted members of a side and each entry's place among them, if they are few."""
    present = torch.zeros(width, dtype=torch.bool, device=side.device)
    present[side] = True
    used = torch.nonzero(present).reshape(-1)
    if not used.numel() or 4 * used.numel() >= width:
        return None, side
    return used, torch.searchsorted(used, side)
