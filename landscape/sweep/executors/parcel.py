"""A run's files on their way between machines: bytes, checked before they enter a store."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from landscape.errors import UserError
from landscape.folders import draft_of, read_json, writing
from landscape.sweep.config import RunConfig
from landscape.sweep.rows import Row
from landscape.sweep.store import RunStore
from landscape.tensorfile import read_tensors

Parcel = dict[str, bytes]
"""Path of a file within its run's folder, with "/" between its parts -> what the file holds."""

RESULT = "result.json"
"""The file that finishes a run: written after all others."""

_NAME = re.compile(r"(?:\w[\w.-]*/){0,4}\w[\w.-]*\.(?:json|safetensors)", re.ASCII)
_ARRIVING = "arriving"
_UNFINISHED = "checkpoint.safetensors"


def pack(folder: Path) -> Parcel:
    """Return the files of a finished run: JSON and tensors; no checkpoint, no lock, no draft.

    Args:
        folder: of the run.
    """
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if _NAME.fullmatch(name) and path.is_file() and path.name != _UNFINISHED
    }


def unpack(
    parcel: Mapping[str, bytes],
    config: RunConfig,
    store: RunStore,
    refuse: Callable[[Row], None] | None = None,
) -> None:
    """Write a run's files into a store, once all are known to be whole and that run's own.

    A run that the store has already keeps its row and its files; measurements that it lacks join
    it. Killed at any moment, this leaves a run that is finished, or one that is not.

    Args:
        parcel: the files, from another machine.
        config: of the run.
        store: nobody else writes this run meanwhile.
        refuse: raises for a row that must not join the store; asked before anything does.

    Raises:
        UserError: the row is refused, a path leaves the run's folder, a file is damaged or of
            another run, or one of a kind that no run has; nothing is written then.
    """
    for name in parcel:
        if not _NAME.fullmatch(name):
            raise UserError(
                f"expected files of the run {config.address}, JSON and safetensors below its "
                f"folder, got {name[:80]!r}; do not use the machine that sent it"
            )
    store.create()
    with writing(store.folder), draft_of(store.folder / _ARRIVING) as draft:
        arrived = RunStore(draft)
        arrived.create()
        folder = arrived.path(config)
        for name, content in parcel.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            _check(place)
        arrived.begin(config)
        row = arrived.row(config)
        if refuse is not None and config not in store:
            refuse(row)
        _join(folder, store.path(config), finished=config in store)


def clear(store: RunStore) -> None:
    """Remove what a process that was killed has left of files that were arriving."""
    for left in store.folder.glob(f".{_ARRIVING}-*"):
        shutil.rmtree(left, ignore_errors=True)


def _check(path: Path) -> None:
    """Refuse a file that is not what its name says, or not as it was written."""
    if path.suffix == ".json":
        read_json(path)
    else:
        read_tensors(path, "tensors of a run", cure="run it again").check()


def _join(arrived: Path, folder: Path, *, finished: bool) -> None:
    """Move files to their places: what a finished run has stays, an unfinished one's goes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        os.rename(arrived, folder)
        return
    files = [path.relative_to(arrived) for path in arrived.rglob("*") if path.is_file()]
    if not finished:
        (folder / RESULT).unlink(missing_ok=True)
        for within in {name.parts[0] for name in files if len(name.parts) > 1}:
            shutil.rmtree(folder / within, ignore_errors=True)
    for name in sorted(files, key=lambda name: name == Path(RESULT)):
        if not (finished and (folder / name).exists()):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(arrived / name, folder / name)
