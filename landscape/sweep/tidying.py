"""What a store can do without: checkpoints, packs, damaged runs, files half written, dead locks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from landscape.errors import UserError
from landscape.folders import leftovers, read_json, writing
from landscape.sweep.config import RunConfig
from landscape.sweep.lock import left_by
from landscape.sweep.store import LOCK, PACKS, RunStore

Kind = Literal["checkpoint", "pack", "damaged run", "half-written file", "lock"]


@dataclass(frozen=True)
class Removable:
    """Hold something that a store can do without.

    Args:
        path: a file or a folder.
        kind: what it is.
        size: bytes.
    """

    path: Path
    kind: Kind
    size: int


def removable(store: RunStore) -> list[Removable]:
    """List what a store can do without; rows, configurations and trained parameters stay.

    These are checkpoints of finished trainings, packs whose runs are all finished (another executor
    did so), runs that were set aside as damaged, files that a kill has kept from their places, and
    the lock of a process that is gone. Links are not followed.
    """
    packs = list(_packs(store))
    inside = {one.path for one in packs}
    found = [one for one in _below(store) if not inside & {*one.path.parents}] + packs
    aside = store.folder / "damaged"
    if aside.is_dir() and not aside.is_symlink():
        found += [Removable(p, "damaged run", _size(p)) for p in sorted(aside.iterdir())]
    lock = store.folder / LOCK
    if left_by(lock):
        found.append(Removable(lock, "lock", _size(lock)))
    return found


def remove(store: RunStore) -> list[Removable]:
    """Remove what a store can do without, while no sweep runs on it, and list it.

    Raises:
        UserError: a sweep runs, or something cannot be removed.
    """
    lock = [one for one in removable(store) if one.kind == "lock"]  # ours follows
    with store.locked():
        found = [one for one in removable(store) if one.kind != "lock"]
        for one in found:
            with writing(one.path):
                if one.path.is_dir() and not one.path.is_symlink():
                    shutil.rmtree(one.path)
                else:
                    one.path.unlink(missing_ok=True)
    return found + lock


def _below(store: RunStore) -> Iterator[Removable]:
    """List what can be removed beside rows, in the folders of runs and of the store."""
    finished = {store.folder / "runs" / address for address in store.addresses()}
    for place, folders, files in os.walk(store.folder):
        folder = Path(place)
        if folder == store.folder and "damaged" in folders:
            folders.remove("damaged")
        for path in leftovers(folder):
            yield Removable(path, "half-written file", _size(path))
        ended = {"checkpoint.safetensors", "result.json"} <= {*files}  # this training itself
        if ended and finished & {folder, *folder.parents}:
            path = folder / "checkpoint.safetensors"
            yield Removable(path, "checkpoint", _size(path))


def _packs(store: RunStore) -> Iterator[Removable]:
    """List the packs that were begun and whose runs are all finished."""
    finished = store.addresses()
    folder = store.folder / PACKS
    for path in [] if folder.is_symlink() else sorted(folder.glob("*/pack.json")):
        try:
            given = read_json(path).get("runs")
            runs = [RunConfig.of(one).address for one in given] if isinstance(given, list) else []
        except UserError:
            continue  # whoever goes on with it says what is wrong
        if runs and {*runs} <= {*finished}:
            yield Removable(path.parent, "pack", _size(path.parent))


def _size(path: Path) -> int:
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    return sum((Path(p) / f).lstat().st_size for p, _, files in os.walk(path) for f in files)
