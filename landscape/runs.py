"""A run's folder: configuration, provenance and result as JSON, each file written whole or not."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landscape.errors import UserError

#: what a run leaves beside its configuration; the result, which marks it as finished, goes first
_PRODUCTS = (
    "result.json", "theta.safetensors", "checkpoint.safetensors", "delta.safetensors",
    "trajectory.safetensors",
)  # fmt: skip
#: the name of a file that `write_whole` has not moved into its place
_LEFTOVER = re.compile(r"\..+\.(json|safetensors)\.[a-z0-9_]{8}")
#: levels of lists and objects that a file's JSON may have
_DEPTH = 32
_PACKAGES = (
    "landscape-toolkit", "torch", "transformers", "tokenizers", "numpy", "scipy", "safetensors"
)  # fmt: skip


def open_folder(
    directory: str | Path,
    config: Mapping[str, Any],
    *,
    identity: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Create a run's folder, or return to the one that holds the same run.

    A process may have been killed at any instant: a folder without its configuration is begun
    again, and files that were being written are removed.

    Args:
        directory: the folder; made with its parents.
        config: the settings that determine the run's numbers; must be JSON.
        identity: hashes of its inputs, by plural names that a sentence can use ("base weights"); a
            dict compares rows, with their "count". Stored under "identity"; where it is given,
            the config's "model" is a name that is not compared.
        overwrite: remove the run that the folder holds, whatever it is, and start anew.

    Returns:
        The folder, holding ``config.json`` and ``provenance.json``.

    Raises:
        UserError: the folder holds another run (the sentence names what differs), is a file, or
            holds something that is no run.
    """
    folder = Path(directory).expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"expected a folder for the run, got the file {folder}; name another")
    path = folder / "config.json"
    wanted = _written(config if identity is None else {**config, "identity": identity})
    leftovers = [p for p in folder.glob(".*") if _LEFTOVER.fullmatch(p.name)]
    cleared = path.exists() and overwrite
    if cleared:
        for name in (*_PRODUCTS, path.name):  # without products the configuration is harmless
            (folder / name).unlink(missing_ok=True)
    elif path.exists():
        _refuse_another(folder, read_json(path), wanted)
        _remove(leftovers)
        return folder
    known = {"provenance.json", *(p.name for p in leftovers)}
    strangers = folder.exists() and any(p.name not in known for p in folder.iterdir())
    if strangers and not cleared:
        raise UserError(f"{folder} is not empty and holds no run; choose an empty or new folder")
    folder.mkdir(parents=True, exist_ok=True)
    _remove(leftovers)
    write_json(folder / "provenance.json", provenance())
    write_json(path, wanted)
    return folder


def _refuse_another(folder: Path, present: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a folder whose configuration or inputs are others than those asked for."""
    inputs, asked = present.get("identity"), wanted.get("identity")
    skipped = {"identity"} if asked is None else {"identity", "model"}
    changes = [
        f"{key} {present.get(key)!r} there, {wanted.get(key)!r} asked for"
        for key in sorted((wanted.keys() | present.keys()) - skipped)
        if wanted.get(key) != present.get(key)
    ]
    if asked is not None and not isinstance(inputs, dict):
        changes.append("which weights and rows it was made with is not said, as in older versions")
    elif asked != inputs:
        changes += _other_inputs(inputs or {}, asked or {})
    if changes:
        advice = (
            "remove that one" if asked is None else "start it anew with overwrite=True (--force)"
        )
        raise UserError(
            f"{folder} holds a run of another configuration ({', '.join(changes[:4])}); "
            f"choose another folder or {advice}"
        )


def _other_inputs(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Name the inputs whose hashes differ; one that is null on either side is not known."""
    changes = []
    for key in sorted(there.keys() | here.keys()):
        old, new = there.get(key, ""), here.get(key, "")
        if old == new or old is None or new is None:
            continue
        if not (isinstance(old, dict) and isinstance(new, dict)):
            changes.append(f"the {key} differ")
        elif old.get("count") != new.get("count"):
            changes.append(f"the {key} differ: {old.get('count')} there, {new['count']} asked for")
        else:
            parts = [part for part in new if old.get(part) != new[part]] or ["columns"]
            changes.append(f"the {key} differ in their {' and '.join(parts)}")
    return changes


def _remove(leftovers: list[Path]) -> None:
    for path in leftovers:
        with contextlib.suppress(OSError):  # a folder that cannot be written can still be read
            path.unlink()


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
    """Return this process's peak resident memory in bytes, None where the system does not say."""
    try:
        import resource
    except ImportError:  # Unix alone has it
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: the file is missing or is not a JSON object.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"expected a JSON object in {path}, could not read one: {error}") from error
    return json_object(text, path)


def json_object(text: str, path: str | Path) -> dict[str, Any]:
    """Parse the JSON object that a file holds, of at most 32 levels.

    Raises:
        UserError: the text is no JSON, nested deeper, or something else than an object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error).split(";")[0]
        raise UserError(f"expected a JSON object in {path}, could not read one: {reason}") from None
    if not isinstance(value, dict):
        raise UserError(f"expected a JSON object in {path}, got a {type(value).__name__}")
    level: list[Any] = [value]
    for _ in range(_DEPTH):
        inner = [item for v in level for item in (v.values() if isinstance(v, dict) else v)]
        level = [item for item in inner if isinstance(item, dict | list)]
    if level:
        raise UserError(f"expected at most {_DEPTH} levels of JSON in {path}, got more")
    return value


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all; numbers that JSON lacks become null."""
    text = json.dumps(finite(value), indent=1, sort_keys=False, allow_nan=False) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def finite(value: Any) -> Any:
    """Return a JSON value with null for numbers that JSON lacks, and plain numbers for numpy's."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, np.generic):
        return finite(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _written(value: Any) -> Any:
    """Return a configuration as its file holds it; infinity and NaN are settings, by name."""
    if isinstance(value, Mapping):
        return {str(key): _written(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(item) for item in value]
    if isinstance(value, np.generic):
        return _written(value.item())
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and move it there in one step, so no reader sees a part."""
    target = Path(path).expanduser()
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
