"""A run's folder: configuration, provenance and result as JSON, each file written whole or not."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from landscape.errors import UserError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_PACKAGES = (
    "landscape-toolkit", "torch", "transformers", "tokenizers", "numpy", "scipy", "safetensors"
)  # fmt: skip


def open_folder(directory: str | Path, config: Mapping[str, Any]) -> Path:
    """Create a run's folder, or return to the one that holds the same configuration.

    Args:
        directory: the folder; made with its parents.
        config: everything that determines the run's numbers; must be JSON.

    Returns:
        The folder, holding ``config.json`` and ``provenance.json``.

    Raises:
        UserError: the folder holds another configuration (the sentence lists what differs), is
            a file, or holds something that is no run.
    """
    folder = Path(directory)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"expected a folder for the run, got the file {folder}; name another")
    path = folder / "config.json"
    wanted = json.loads(json.dumps(dict(config)))
    if path.exists():
        present = read_json(path)
        differing = sorted(key for key in wanted | present if wanted.get(key) != present.get(key))
        if differing:
            changes = ", ".join(
                f"{key} {present.get(key)!r} there, {wanted.get(key)!r} asked for"
                for key in differing[:4]
            )
            raise UserError(
                f"{folder} holds a run of another configuration ({changes}); "
                "choose another folder or remove that one"
            )
        return folder
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no run; choose an empty or new folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "provenance.json", provenance())
    write_json(path, wanted)
    return folder


def provenance() -> dict[str, Any]:
    """Return what a result needs to be traced: command, commit, versions, device, threads, date."""
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | _versions(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def peak_memory() -> int | None:
    """Return this process's peak resident memory in bytes, None where the system does not tell."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: the file is missing or is not a JSON object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"expected a JSON object in {path}, could not read one: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"expected a JSON object in {path}, got a {type(value).__name__}")
    return value


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all; numbers that JSON lacks become null."""
    text = json.dumps(finite(value), indent=1, sort_keys=False, allow_nan=False) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def finite(value: Any) -> Any:
    """Return a JSON value with null for numbers that JSON lacks."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and move it there in one step, so no reader sees a part."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _commit() -> str | None:
    """Return the project's commit, marked when the tree differs; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    git = ["git", "-C", str(root)]
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


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
