"""Long vectors: inner products, orthogonalisation, rotation, at the speed of memory.

A basis of m vectors is read from memory once by `inner` and once by the subtraction. Sums over a
vector's entries are made in its own type over short pieces and in float64 over the pieces: as
exact as a rounding of the entries, at half the bytes. Nothing here follows `torch.autocast`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from jaxtyping import Float, Float64
from torch import Tensor

_P = ParamSpec("_P")
_R = TypeVar("_R")

_PIECE = {"cpu": 1 << 14}
"""Entries that are summed in the vectors' own type; a graphic card sums as a tree, by itself."""

_WIDE = 1 << 13
"""Entries of each vector that are widened to float64 at a time."""


def _as_given(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function compute in its arguments' own types, inside autocast too."""

    @wraps(function)
    def exact(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        device = next(a.device for a in args if isinstance(a, Tensor))
        with torch.autocast(device.type, enabled=False):
            return function(*args, **kwargs)

    return exact


@_as_given
def inner(rows: Float[Tensor, "m size"], v: Float[Tensor, " size"]) -> Float64[Tensor, " m"]:
    """Return the inner products of rows (m, size) with v, float64, on the CPU."""
    piece = _PIECE.get(rows.device.type, 1 << 22)
    parts = rows.new_empty(-(-v.numel() // piece), len(rows))
    for number, start in enumerate(range(0, v.numel(), piece)):
        part = slice(start, start + piece)
        torch.mv(rows[:, part], v[part], out=parts[number])
    return parts.double().sum(0).cpu()


@_as_given
def norm(v: Float[Tensor, "*shape"]) -> float:
    """Return the Euclidean norm of a vector."""
    piece = _PIECE.get(v.device.type, 1 << 22)
    squares = v.new_empty(-(-v.numel() // piece))
    for number, start in enumerate(range(0, v.numel(), piece)):
        part = v[start : start + piece]
        torch.dot(part, part, out=squares[number])
    total = float(squares.double().sum())
    if 1e-20 < total < 1e30:  # else squares may be too large or too small for their type
        return math.sqrt(total)
    return float(torch.linalg.vector_norm(v, dtype=torch.float64))


def unit(v: Tensor) -> Tensor:
    """Return v / ||v||."""
    return v / norm(v)


@_as_given
def subtract(
    rows: Float[Tensor, "m size"], coefficients: Float[Tensor, " m"], w: Float[Tensor, " size"]
) -> None:
    """Subtract the combination of rows (m, size) with coefficients (m,) from w, in place."""
    w.addmv_(rows.t(), coefficients.to(w), alpha=-1)


@_as_given
def remove(
    rows: Float[Tensor, "m size"], w: Float[Tensor, " size"]
) -> tuple[Float[Tensor, " m"], float]:
    """Remove the span of orthonormal rows from w, in place.

    Once more as long as that takes more than half of w away, since what is left is then rounding
    in part: twice is enough (Kahan and Parlett), unless w is rounding altogether.

    Returns:
        The coefficients of what was removed, (m,), and the norm of what is left.
    """
    total = torch.zeros(len(rows), dtype=torch.float64, device="cpu")
    for _ in range(4):
        step = inner(rows, w) if len(rows) else total
        if len(rows):
            subtract(rows, step, w)
        total += step
        left = norm(w)
        if float(step @ step) <= 3 * left**2:  # what was there is the sum of these squares
            break
    return total, left


@_as_given
def append(rows: Float[Tensor, "m size"], count: int, v: Float[Tensor, " size"]) -> float:
    """Write what v adds to the first `count` orthonormal rows behind them, as a unit vector.

    This is Gram-Schmidt, a vector at a time; v is used up.

    Args:
        rows: shape (m, size), m above `count`; row `count` is written.
        count: rows that are orthonormal already.
        v: shape (size,).

    Returns:
        The share of ||v|| that is outside the rows, from 0 to 1; 0 for v = 0. Where it is
        near rounding, so is the row that was written: do not count it.
    """
    before = norm(v)
    left = remove(rows[:count], v)[1]
    torch.div(v, left or 1.0, out=rows[count])
    return left / before if before else 0.0


@_as_given
def rotate(
    rows: Float[Tensor, "m size"], weights: Float[Tensor, "k m"], out: Tensor | None = None
) -> Tensor:
    """Return weights (k, m) times rows (m, size), accumulated in float64.

    `out` may be the first k of the rows themselves: no second basis is made.
    """
    out = rows.new_empty(len(weights), rows.shape[1]) if out is None else out
    wide = weights.to(device=rows.device, dtype=torch.float64)
    for start in range(0, rows.shape[1], _WIDE):
        part = slice(start, start + _WIDE)
        out[:, part] = (wide @ rows[:, part].double()).to(out)
    return out


@_as_given
def residual(
    y: Float[Tensor, " size"], product: Float[Tensor, " size"]
) -> tuple[float, float, Float[Tensor, " size"]]:
    """Return the Rayleigh quotient y'w of a unit vector, ||w - (y'w) y||, and that vector.

    Where w = A y, some eigenvalue of a symmetric A is no farther than the norm (Weinstein).
    """
    value = torch.zeros((), dtype=torch.float64, device=y.device)
    for start in range(0, y.numel(), _WIDE):
        part = slice(start, start + _WIDE)
        value += y[part].double() @ product[part].double()
    rest = product - float(value) * y
    return float(value), norm(rest), rest
