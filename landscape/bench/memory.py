"""Peak memory of this process, as Linux tells it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def peak_memory() -> Iterator[dict[str, int]]:
    """Measure this process: `bytes`, its peak resident memory within, and `before`."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    measured = {"before": resident("VmRSS")}
    yield measured
    measured["bytes"] = resident("VmHWM")


def resident(field: str) -> int:
    """Return a field of Linux's account of this process, in bytes: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))
