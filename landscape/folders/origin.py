"""Where a result comes from: command, commit, versions, machine."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

_PACKAGES = (
    "landscape-toolkit", "torch", "transformers", "tokenizers", "numpy", "scipy", "safetensors"
)  # fmt: skip


def provenance(device: torch.device | str | None = None) -> dict[str, Any]:
    """Return what a result needs to be traced: command, commit, versions, device, threads, date.

    Args:
        device: that computed it; None is the processor.
    """
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | _versions(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def device_name(device: torch.device | str | None = None) -> str:
    """Return a device's name as its maker calls it, or its kind where that is not known here.

    >>> device_name() == device_name("cpu")
    True
    """
    kind = kind_of(device)
    if kind == "cpu":
        return _cpu()
    if kind == "cuda" and torch.cuda.is_available():
        with contextlib.suppress(AssertionError, RuntimeError):  # no such number here
            return str(torch.cuda.get_device_name(device))
    return kind


def kind_of(device: torch.device | str | None) -> str:
    """Return the kind of a device, such as "cuda" of "cuda:1"; None is the processor.

    >>> kind_of("cuda:1"), kind_of(None)
    ('cuda', 'cpu')
    """
    return "cpu" if device is None else str(device).partition(":")[0]


def peak_memory() -> int | None:
    """Return this process's peak resident memory in bytes, None where the system does not say."""
    try:
        import resource
    except ImportError:  # Unix alone has it
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@functools.cache
def _commit() -> str | None:
    """Return the project's commit, marked when the tree differs; None outside a checkout.

    It is what a process finds first: a commit made while it runs is not of the code that it loaded.
    """
    root = Path(__file__).resolve().parents[2]
    git = ["git", "--no-optional-locks", "-C", str(root)]  # whoever works there is not disturbed
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        state = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if state.stdout.strip() else "")


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
