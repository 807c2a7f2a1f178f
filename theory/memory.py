"""Refuse a computation that does not fit into memory, before it starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from landscape.errors import UserError


def available_bytes() -> int:
    """Return the memory that is free now; half of all where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (ValueError, OSError, AttributeError):
        return 1 << 32


def require_bytes(needed: Callable[[int], int], n: int, name: str) -> None:
    """Refuse an instance that needs more memory than is free.

    Args:
        needed: number of samples -> bytes, growing.
        n: samples of the instance.
        name: the instance, for the sentence.

    Raises:
        UserError: it does not fit; the sentence says what is free and the n that fits.
    """
    free = available_bytes()
    if needed(n) <= free:
        return
    fits = largest_that_fits(needed, free, n)
    do = f"n = {fits:,} fits: lower --n" if fits else "lower --d or --p"
    raise UserError(
        f"expected an instance that fits into {free / 2**30:.1f} GiB of free memory, got {name}, "
        f"which needs about {needed(n) / 2**30:,.1f} GiB; {do}"
    )


def largest_that_fits(needed: Callable[[int], int], free: int, n: int) -> int:
    """Return the largest number of samples below n whose bytes are free, 0 if not even one is.

    >>> largest_that_fits(lambda n: n * n, 120, 50)
    10
    """
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if needed(middle) <= free else (low, middle)
    return low
