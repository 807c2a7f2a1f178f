"""A run's folder: its configuration, and hashes of its inputs, which a second run must share."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landscape.errors import UserError
from landscape.folders.files import leftovers, read_json, write_json, writing
from landscape.folders.origin import provenance

#: what a run leaves beside its configuration; the result, which marks it as finished, goes first
_PRODUCTS = (
    "result.json", "theta.safetensors", "checkpoint.safetensors", "delta.safetensors",
    "trajectory.safetensors", "before.json",
)  # fmt: skip


def open_folder(
    folder: str | Path,
    config: Mapping[str, Any],
    *,
    identity: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    device: torch.device | None = None,
) -> Path:
    """Create a run's folder, or return to the one that holds the same run.

    A process may have been killed at any instant: a folder without its configuration is begun
    again, and files that were being written are removed.

    Args:
        folder: the folder; made with its parents.
        config: the settings that determine the run's results; must be JSON.
        identity: hashes of its inputs, by plural names that a sentence can use ("base weights"); a
            dict compares rows, with their "count". Stored under "identity"; where it is given,
            the config's "model" is a name that is not compared.
        overwrite: remove the run that the folder holds, whatever it is, and start anew.
        device: that computes the run, for its provenance; None is the processor.

    Returns:
        The folder, holding ``config.json`` and ``provenance.json``.

    Raises:
        UserError: the folder holds another run (the sentence names what differs), is a file, or
            holds something that is no run.
    """
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"expected a folder for the run, got the file {folder}; name another")
    path = folder / "config.json"
    wanted = _written(config if identity is None else {**config, "identity": identity})
    begun = leftovers(folder)
    cleared = path.exists() and overwrite
    if cleared:
        for name in (*_PRODUCTS, path.name):  # without products the configuration is harmless
            (folder / name).unlink(missing_ok=True)
    elif path.exists():
        _refuse_another(folder, read_json(path), wanted)
        _remove(begun)
        return folder
    known = {"provenance.json", *(p.name for p in begun)}
    strangers = folder.exists() and any(p.name not in known for p in folder.iterdir())
    if strangers and not cleared:
        raise UserError(
            f"expected an empty or new folder, got {folder}, which is not empty and holds no run; "
            "choose another"
        )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _remove(begun)
    write_json(folder / "provenance.json", provenance(device))
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
            f"expected the same run in {folder}, which holds a run of another configuration "
            f"({', '.join(changes[:4])}); choose another folder or {advice}"
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


def _remove(paths: list[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # a folder that cannot be written can still be read
            path.unlink()


def _written(value: Any) -> Any:
    """Return a configuration as its file holds it; infinity and NaN are settings, by name."""
    if isinstance(value, Mapping):
        return {str(key): _written(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(item) for item in value]
    if isinstance(value, np.generic):
        return _written(value.item())
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
