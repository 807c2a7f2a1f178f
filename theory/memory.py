"""Refuse a computation that does not fit into memory, before it starts."""

from __future__ import annotations

import os
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


def require_bytes(needed: int, name: str) -> None:
    """Refuse an instance that needs more memory than is free.

    Raises:
        UserError: it does; the sentence says both numbers.
    """
    free = available_bytes()
    if needed > free:
        raise UserError(
            f"expected an instance that fits into {free / 2**30:.1f} GiB of free memory, got "
            f"{name}, which needs about {needed / 2**30:,.1f} GiB; lower --n, --d or --p"
        )
