"""What theory is given beyond single numbers: vectors, sets of columns, probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from landscape import checks
from landscape.errors import UserError


def array(name: str, value: object) -> npt.NDArray[Any]:
    """Return an array of any shape and kind, as numpy reads it.

    Raises:
        UserError: rows of unequal length.
    """
    try:
        return np.asarray(value)
    except ValueError:
        checks.refuse(name, "an array", "rows of unequal length", "give each as many numbers")


def vector(name: str, value: object, size: int, *, finite: bool = True) -> npt.NDArray[np.float64]:
    """Return real numbers, one for each of a few places, as float64 (size,).

    Args:
        name: what the sentence calls it.
        value: an array or a sequence of numbers.
        size: how many.
        finite: whether NaN and infinity are refused, too.

    Raises:
        UserError: another shape, what are no real numbers, or a number that is not finite.
    """
    found, kind = array(name, value), f"{size} {'finite' if finite else 'real'} numbers"
    if found.shape != (size,) or (found.dtype.kind not in "fiu" and size):
        do = f"give an array of shape ({size},)"
        if found.shape == (size,):
            do = "convert them first"
        if found.dtype.kind == "b":
            do = "write the two numbers they stand for, as in 2.0 * y - 1 or 1.0 * y"
        raise UserError(
            f"expected {name} to be {kind}, got shape {found.shape} of {found.dtype}; {do}"
        )
    if finite and not np.isfinite(found).all():
        at = int(np.flatnonzero(~np.isfinite(found))[0])
        raise UserError(
            f"expected {name} to be {kind}, got {found[at]} at place {at}; remove or impute it"
        )
    return found.astype(np.float64, copy=False)


def columns(name: str, indices: object, d: int) -> npt.NDArray[np.int64]:
    """Return sorted indices of distinct columns, (k,).

    Raises:
        UserError: another shape or kind of numbers, one below 0 or not below d, or unsorted ones.
    """
    found = array(name, indices)
    fine = found.ndim == 1 and (found.dtype.kind in "iu" or found.size == 0)
    if not fine or (found.size and (found.min() < 0 or found.max() >= d
                                    or (found[1:] <= found[:-1]).any())):  # fmt: skip
        raise UserError(
            f"expected {name} to be sorted indices of distinct columns below d={d}, got "
            f"{_odd(found, d)}; numpy.unique makes them of a list, numpy.flatnonzero of a mask"
        )
    return found.astype(np.int64, copy=False)


def _odd(found: npt.NDArray[Any], d: int) -> str:
    """Return why an array is no set of columns below d: the first entry that is wrong."""
    if found.ndim != 1 or found.dtype.kind not in "iu":
        return f"{found.dtype} of shape {found.shape}"
    outside = found[(found < 0) | (found >= d)]
    if len(outside):
        return str(outside[0])
    at = int(np.flatnonzero(found[1:] <= found[:-1])[0])
    first, second = found[at : at + 2]
    return f"{first} twice" if first == second else f"{second} after {first}"


def probabilities(p: object, delta: object) -> None:
    """Refuse a p outside [0, 1] or a delta outside (0, 1).

    Raises:
        UserError: the one that is.
    """
    checks.number("p", p, least=0, most=1)
    checks.number("delta", delta, above=0, below=1)
