"""A disk that is full or cannot be written ends a sweep in a sentence; it goes on afterwards."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from tiny_jobs import Tiny, lasting

import landscape as ls
from landscape import tensorfile
from landscape.errors import UserError
from landscape.sweep.driver import executor_of, sweep
from landscape.sweep.executors import Event
from landscape.sweep.gridfile import grids_of
from landscape.sweep.progress import Progress
from landscape.sweep.store import RunStore

FREE, NAME = "free some space, or name another folder", "name a folder that can be written"
USE = "name one that you may use"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny.at(tmp_path_factory.mktemp("tiny"))


def swept(tiny: Tiny, folder: Path, executor: str, workers: int = 1) -> list[Event]:
    """Sweep over three runs; return what was told."""
    told: list[Event] = []

    class Listening(Progress):
        def tell(self, event: Event) -> None:
            told.append(event)

    grid = {"shared": tiny.config(ratio=1e-2).named(), "axes": {"seed": [0, 1, 2]}}
    computing = executor_of(executor, workers=workers)
    try:
        sweep(grids_of(grid), RunStore(folder), computing, tiny.places, Listening(False))
    except UserError as error:
        told.append(Event("failed", tiny.job(), said=str(error)))
    return told


def begun(told: list[Event]) -> int:
    return sum(event.kind == "began" for event in told)


def strangers(folder: Path) -> list[str]:
    """Name files that are no whole ones of a store: what was being written."""
    names = [path.name for path in folder.rglob("*") if path.is_file()]
    return [n for n in names if n.startswith(".") and n != ".lock" and n not in ("store.lock",)]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [lasting(row) for row in RunStore(folder).rows()]


@contextmanager
def file_size(most: int) -> Iterator[None]:
    """Let the system refuse larger files, as a disk does that is full, to workers also."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def ends_and_goes_on(
    tiny: Tiny, store: Path, most: int, file: str, executor: str, workers: int = 1
) -> list[Event]:
    """Sweep where files above a size cannot be written, then where all can; return what failed."""
    RunStore(store).create()
    with file_size(most):
        *told, last = swept(tiny, store, executor, workers)
    assert f"got: {os.strerror(errno.EFBIG)}; check the path and the system" in last.said
    assert last.said.startswith(f"expected to write {store}")
    assert file in last.said
    assert strangers(store) == []
    assert rows(store) == []
    assert [event.kind for event in swept(tiny, store, executor, workers)].count("finished") == 3
    return told


@pytest.mark.parametrize(
    ("executor", "together", "most", "file"),
    [("local", 1, 1000, "config.json"), ("local", 1, 4096, "checkpoint.safetensors"),
     ("packed", 0, 1000, "pack.json"), ("packed", 3, 4096, "pack.safetensors")],
)  # fmt: skip
def test_what_the_system_does_not_let_be_written_ends_a_sweep_which_then_goes_on(
    tiny: Tiny, tmp_path: Path, executor: str, together: int, most: int, file: str
) -> None:
    told = ends_and_goes_on(tiny, tmp_path / "store", most, file, executor)
    assert begun(told) == together
    swept(tiny, tmp_path / "quiet", executor)
    assert rows(tmp_path / "store") == rows(tmp_path / "quiet")


@pytest.mark.slow
def test_what_a_worker_cannot_write_ends_a_sweep_and_is_not_tried_once_more(
    tiny: Tiny, tmp_path: Path
) -> None:
    told = ends_and_goes_on(tiny, tmp_path, 4096, "checkpoint.safetensors", "local", workers=2)
    assert begun(told) <= 2
    assert not multiprocessing.active_children()


def _fails(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def _fails_in_safetensors(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        said = f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})"
        raise SafetensorError(said)

    return fail


@pytest.mark.parametrize("executor", ["local", "packed"])
@pytest.mark.parametrize(("number", "do"), [(errno.ENOSPC, FREE), (errno.EDQUOT, FREE),
                                            (errno.EROFS, NAME), (errno.EACCES, USE)])  # fmt: skip
def test_the_sentence_says_what_and_where_and_what_to_do(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str, number: int, do: str
) -> None:
    full = number in (errno.ENOSPC, errno.EDQUOT)
    with monkeypatch.context() as patched:
        RunStore(tmp_path).create()
        if full:  # the tensors are the first that no longer fit
            patched.setattr(tensorfile, "save_file", _fails_in_safetensors(number))
        else:
            patched.setattr(tempfile, "mkstemp", _fails(number))
        *_, last = swept(tiny, tmp_path, executor)
    assert last.said.startswith(f"expected to write {tmp_path}")
    assert f", got: {os.strerror(number)}; {do}" in last.said
    assert strangers(tmp_path) == []


@pytest.mark.parametrize("executor", ["local", "packed"])
def test_a_folder_that_cannot_be_made_fails_its_run_and_the_others_go_on(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    barred, mkdir = RunStore(tmp_path).path(tiny.config(ratio=1e-2, seed=0)), Path.mkdir

    def refusing(path: Path, *args: Any, **kwargs: Any) -> None:
        if path == barred:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        mkdir(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refusing)
    told = swept(tiny, tmp_path, executor)
    assert sorted(event.kind for event in told if event.kind in ("finished", "failed")) == [
        "failed", "finished", "finished",
    ]  # fmt: skip
    (failed,) = (event for event in told if event.kind == "failed")
    assert failed.said.startswith(f"expected to write {barred}")
    assert failed.said.endswith(USE)
    assert not failed.ends


def test_a_training_that_cannot_keep_its_checkpoint_says_so(tmp_path: Path) -> None:
    from samples import tiny_task

    model, tokenizer = ls.tiny_model("opt"), ls.tiny_tokenizer()
    ls.attach(model, ls.random_mask(model, ratio=1e-2))
    task, options = tiny_task(16), {"lr": 1e-2, "epochs": 1, "folder": tmp_path / "run"}
    with file_size(4096), pytest.raises(UserError, match=r"expected to write .*checkpoint"):
        ls.finetune(model, tokenizer, task, **options)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "config.json", "provenance.json"
    ]  # fmt: skip
    assert not ls.finetune(model, tokenizer, task, **options).stored
