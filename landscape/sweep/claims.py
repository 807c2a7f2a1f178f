"""Claims: one process at a time computes a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from landscape.folders import writing

try:
    import fcntl
except ImportError:  # Unix alone has it; elsewhere one sweep at a time has to do
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""The file in a run's folder that a process locks while it computes the run."""


class Elsewhere(Exception):
    """Say that another process computes a run."""


@contextmanager
def claimed(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Claim a run's folder, which is made where it is missing; the system frees what has died.

    Args:
        folder: of the run.
        wait: until another process has given it back.

    Raises:
        Elsewhere: without `wait`, another process computes the run.
        Unwritable: the folder cannot be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    with lock:
        if fcntl is None:
            yield
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Elsewhere(folder.name) from None
        yield
