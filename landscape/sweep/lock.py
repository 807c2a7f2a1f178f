"""One sweep a folder, and one process a run: locks that the system frees when a holder ends."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from landscape.errors import UserError
from landscape.folders import writing

LOCK = ".lock"
"""The file in a run's folder that a process locks while it computes the run."""


class Elsewhere(Exception):
    """Say that another process computes a run."""


@contextmanager
def held(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock file, which says who holds it and since when.

    The lock is the system's (``flock``): a killed process leaves the file, and no lock.

    Args:
        path: of the file, in a folder that is there.
        shared: let others hold it at the same time, who share it too.

    Raises:
        UserError: another process holds it for itself, or the file cannot be written.
    """
    descriptor = _taken(path, shared)
    try:
        with writing(path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"" if shared else json.dumps(_here()).encode())
        yield
    finally:
        os.ftruncate(descriptor, 0)
        os.close(descriptor)


@contextmanager
def claimed(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Claim a run's folder, which is made where it is missing.

    Args:
        folder: of the run.
        wait: until another process has given it back.

    Raises:
        Elsewhere: without `wait`, another process computes the run.
        Unwritable: the folder cannot be made.
    """
    import fcntl

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Elsewhere(folder.name) from None
        yield


def left_by(path: Path) -> str | None:
    """Return who left a lock file without giving it back; None for one that is held, or nobody's.

    Args:
        path: of the file, which need not be there.
    """
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return _holder(descriptor)
    except BlockingIOError:
        return None
    finally:
        os.close(descriptor)


def _taken(path: Path, shared: bool) -> int:
    """Return the descriptor of a lock file that is locked, and still has its name."""
    import fcntl  # Unix alone has it, as it alone has what sweeps start processes with

    while True:
        with writing(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise UserError(
                    f"expected a file system with locks below {path}, got: {error.strerror}; name "
                    "a folder of another one"
                ) from None
            raise UserError(
                f"expected no other sweep on {path.parent}, got one: {holder or 'another process'};"
                " wait until it ends, or stop it"
            ) from None
        os.close(descriptor)  # it was removed meanwhile: another process may hold a new one


def _here() -> dict[str, object]:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:500],
    }


def _holder(descriptor: int) -> str | None:
    """Return what a lock file says of its holder, None where it says nothing."""
    try:
        said = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {said['process']} on {said['host']} since {said['since']}"
    except (ValueError, TypeError, KeyError):
        return None
