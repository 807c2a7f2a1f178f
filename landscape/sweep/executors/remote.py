"""What a machine does that shares no folder with the sweep: compute a job, return its files."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

import landscape
from landscape.errors import UserError
from landscape.folders import writing
from landscape.sweep.config import RunConfig
from landscape.sweep.executors.executor import Event, Job, Places
from landscape.sweep.executors.parcel import Parcel, pack, unpack
from landscape.sweep.running import attempt
from landscape.sweep.store import RunStore

Versions = dict[str, str]


@dataclass(frozen=True)
class Reply:
    """Say what became of a job.

    Args:
        host: name of the machine.
        files: of the run, where it is finished.
        failed: the sentence of a user's mistake, "" without one.
        refused: the versions of a machine that has others than the sweep; it computed nothing.
    """

    host: str
    files: Parcel
    failed: str = ""
    refused: Versions | None = None


@cache
def versions() -> Versions:
    """Return what has to be the same wherever a sweep's runs are computed.

    The version of landscape is followed by a hash of its source, which a checkout changes without
    changing its version; torch's is without the name of its build.
    """
    root, digest = Path(landscape.__file__).parent, hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".c")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    found = {
        name: importlib.metadata.version(name).partition("+")[0]
        for name in ("torch", "transformers")
    }
    own = importlib.metadata.version("landscape-toolkit")
    return {"landscape": f"{own} ({digest.hexdigest()[:8]})", **found}


def order_of(job: Job, places: Places, store: RunStore, scratch: str | None) -> dict[str, Any]:
    """Return a job as JSON has it, for `compute_order` on another machine.

    Args:
        job: the run, and what is to be measured on it.
        places: where inputs lie, on the other machine.
        store: which the run's files will join; its path keeps sweeps apart there.
        scratch: folder of the other machine to compute in; None is that for temporary files.
    """
    sources = {
        name: os.path.abspath(os.path.expanduser(path)) for name, path in places.sources.items()
    }
    sweep = f"{socket.gethostname()}\0{store.folder.resolve()}\0{sources}\0{versions()}"
    return {
        "config": job.config.as_dict(),
        "measure": {name: dict(options) for name, options in job.measure.items()},
        "sources": sources,
        "device": places.device,
        "versions": versions(),
        "scratch": scratch,
        "sweep": hashlib.sha256(sweep.encode()).hexdigest()[:16],
    }


def compute_order(
    order: Mapping[str, Any], files: Mapping[str, bytes], tell: Callable[[int, int], None]
) -> Reply:
    """Compute a job in a folder of this machine, with one thread, and return its files.

    The folder is found again by whoever is given the same order: a process that was killed is gone
    on for from its last checkpoint, and waited for while it lives. It is removed at last.

    Args:
        order: of `order_of`.
        files: of the run, where it is finished and only measurements are asked for.
        tell: is told the number of a step and of all; two zeros as the run begins.
    """
    host = socket.gethostname()
    if order["versions"] != versions():
        return Reply(host, {}, refused=versions())
    torch.set_num_threads(1)
    job = Job(RunConfig.of(order["config"]), order["measure"])
    failed: list[Event] = []

    def hear(event: Event) -> None:
        if event.kind in ("began", "step"):
            tell(event.step, event.total)
        elif event.kind == "failed":
            failed.append(event)

    try:
        store = RunStore(_scratch(order["scratch"]) / order["sweep"])
        if files and job.config not in store:
            unpack(files, job.config, store)
        attempt(job, store, Places(order["sources"], order["device"]), hear)
    except UserError as error:
        return Reply(host, {}, failed=str(error))
    found = pack(store.path(job.config)) if job.config in store else {}
    shutil.rmtree(store.path(job.config), ignore_errors=True)
    return Reply(host, found, failed="".join(event.said for event in failed))


def _scratch(named: str | None) -> Path:
    """Return a folder to compute in that nobody else can write.

    Raises:
        UserError: another user made it.
    """
    if named is not None:
        return Path(named).expanduser()
    folder = Path(tempfile.gettempdir()) / f"landscape-{os.getuid()}"
    with writing(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not mine or found.st_mode & 0o077:
        raise UserError(
            f"expected a folder of this user's alone at {folder} on {socket.gethostname()}, got "
            "one that others can write or that is somebody else's; remove it"
        )
    return folder
