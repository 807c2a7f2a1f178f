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
        raise UserError(
            f"expected {name} to be {kind}, got shape {found.shape} of {found.dtype}; give an "
            f"array of shape ({size},)"
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
            f"{found.dtype} of shape {found.shape}; numpy.flatnonzero makes them of a boolean mask"
        )
    return found.astype(np.int64, copy=False)


def probabilities(p: object, delta: object) -> None:
    """Refuse a p outside [0, 1] or a delta outside (0, 1).

    Raises:
        UserError: the one that is.
    """
    checks.number("p", p, least=0, most=1)
    checks.number("delta", delta, above=0, below=1)
