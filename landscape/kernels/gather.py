"""The gather kernel: take the k columns of each operand, multiply, sum over tokens.

It is torch's own indexing, for machines without a compiler and a GPU kernel, where it is the
fastest for few entries; the C kernel is 1.8 times faster or more wherever it exists.
"""

from __future__ import annotations

import torch
from torch import Tensor

from landscape.kernels.coordinates import Coordinates
from landscape.kernels.kernel import Kernel, Scatter, Work

#: Largest temporary, in numbers; `landscape bench kernels` times others.
CHUNK = 1 << 19
#: Numbers in a cache line.
LINE = 16


def gather(a: Tensor, b: Tensor, at: Coordinates, chunk: int | None = None) -> Tensor:
    """Return s_j = sum_t a[t, r_j] b[t, c_j], shape (k,), some tokens at a time.

    Args:
        a, b: shapes (tokens, rows) and (tokens, cols).
        at: the k positions.
        chunk: largest temporary, in numbers; None is `CHUNK`.
    """
    wide = torch.promote_types(a.dtype, torch.float32)
    total = torch.zeros(at.count, dtype=wide, device=a.device)
    rows, cols = at.rows, at.cols
    tokens = _tokens(at, chunk or CHUNK)
    for left, right in zip(a.split(tokens), b.split(tokens), strict=True):
        total += left.index_select(1, rows).to(wide).mul_(right.index_select(1, cols)).sum(0)
    return total


def units(work: Work) -> dict[str, float]:
    """Count the units of a call: entries times tokens, and cache lines where operands are far."""
    lines = _lines(work.rows, work.k) + _lines(work.cols, work.k)
    return {
        "gather.call": 1,
        "gather.entry": work.k * work.tokens,
        "gather.far_line": work.is_far * lines * work.tokens,
    }


def _scattered(v: Tensor, x: Tensor, at: Coordinates, transpose: bool) -> Tensor:
    source, sink = (at.cols, at.rows) if transpose else (at.rows, at.cols)
    width = at.shape[0] if transpose else at.shape[1]
    # nothing is written in place, which vmap would refuse
    parts = [
        some.new_zeros(some.shape[0], width).index_add(1, sink, some.index_select(1, source) * v)
        for some in x.split(_tokens(at, CHUNK))
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _tokens(at: Coordinates, chunk: int) -> int:
    return max(1, chunk // max(at.count, 1))


def _lines(width: int, k: int) -> float:
    """Return how many cache lines of a row of numbers k places are expected to touch."""
    lines = max(1, width // LINE)
    return lines * (1 - (1 - 1 / lines) ** k)


KERNEL = Kernel(
    name="gather",
    constants={"gather.call": 1.17e-04, "gather.entry": 1.38e-09, "gather.far_line": 7.92e-09},
    units=units,
    is_usable=lambda at, dtype, device: True,
    values=gather,
    # torch's scattered additions cost about four times its gathered ones
    scatter=Scatter(_scattered, cost=4.0),
)
