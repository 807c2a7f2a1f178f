"""The local executor: each run once, whatever is killed, and rows as those of a quiet sweep."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny_jobs import Tiny, lasting

import landscape as ls
from landscape.sweep.executors import Event, Executor, Job
from landscape.sweep.executors import local as module
from landscape.sweep.executors.local import local
from landscape.sweep.executors.packed import packed
from landscape.sweep.lock import Elsewhere, claimed
from landscape.sweep.measurements import Measurement, Point
from landscape.sweep.running import run_job
from landscape.sweep.store import RunStore

pytestmark = pytest.mark.filterwarnings("ignore::landscape.NotConvergedWarning")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny.at(tmp_path_factory.mktemp("tiny"))


def _rows(store: RunStore) -> list[dict[str, Any]]:
    return [lasting(row) for row in store.rows()]


def test_a_run_that_two_grids_share_is_computed_once(tiny: Tiny, tmp_path: Path) -> None:
    store, told = RunStore(tmp_path), list[Event]()
    first, second = (
        [tiny.job(ratio=ratio, seed=seed) for seed in (0, 1)] for ratio in (1e-2, 1.0e-2)
    )
    local()([*first, *second], store, tiny.places, told.append)
    local()(second, store, tiny.places, told.append)
    kinds = [event.kind for event in told if event.kind != "step"]
    assert kinds == ["began", "finished"] * 2 + ["finished"] * 2
    assert [event.step for event in told if event.kind == "step"] == [1, 2, 3, 4] * 2
    assert len(_rows(store)) == 2


def test_a_job_that_fails_is_told_and_the_others_go_on(tiny: Tiny, tmp_path: Path) -> None:
    store, told = RunStore(tmp_path), list[Event]()
    jobs = [tiny.job(targets=("nowhere",)), tiny.job(lr=1e30), tiny.job()]
    local()(jobs, store, tiny.places, told.append)
    ends = [(e.kind, e.job) for e in told if e.kind not in ("began", "step")]
    assert ends == list(zip(("failed", "diverged", "finished"), jobs, strict=True))
    assert "nowhere" in next(e.said for e in told if e.kind == "failed")
    assert jobs[0].config not in store


def test_no_training_outlasts_its_run(tiny: Tiny, tmp_path: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        jobs = [tiny.job(ratio=None, method="full"), tiny.job()]
        local()(jobs, RunStore(tmp_path), tiny.places, lambda event: None)
        assert not [one for one in gc.get_objects() if type(one) is ls.Training]
    finally:
        gc.enable()


def test_what_another_process_computes_comes_last_and_is_not_computed_twice(
    tiny: Tiny, tmp_path: Path
) -> None:
    store, told = RunStore(tmp_path / "store"), list[Event]()
    store.create()
    jobs = [tiny.job(), tiny.job(seed=1)]
    held, free = threading.Event(), threading.Event()

    def compute() -> None:
        with claimed(store.path(jobs[0].config)):
            held.set()
            free.wait(30)
            # as that process would have it: its row is there when it gives the claim back
            row = run_job(jobs[0], other, tiny.places)
            store.write(jobs[0].config, row["outcome"])

    other = RunStore(tmp_path / "other")
    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    held.wait(30)
    with pytest.raises(Elsewhere), claimed(store.path(jobs[0].config), wait=False):
        pass

    def tell(event: Event) -> None:
        told.append(event)
        if event.kind == "finished" and event.job == jobs[1]:
            free.set()

    local()(jobs, store, tiny.places, tell)
    thread.join()
    began = [event.job for event in told if event.kind == "began"]
    assert began == [jobs[1]]
    assert len(_rows(store)) == 2


def test_an_interrupted_sweep_keeps_what_is_finished(tiny: Tiny, tmp_path: Path) -> None:
    store, jobs = RunStore(tmp_path), [tiny.job(seed=seed) for seed in (0, 1)]

    def stop(event: Event) -> None:
        if event.job == jobs[1] and event.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local()(jobs, store, tiny.places, stop)
    assert [job.config in store for job in jobs] == [True, False]


def test_workers_are_at_least_one() -> None:
    with pytest.raises(ls.UserError, match="at least 1"):
        local(0)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_runs_of_several_workers_are_computed_by_workers_one_alone_too(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """A run that a worker began goes on with a worker's one thread, whose rounding is another."""
    given: list[tuple[int, list[Job]]] = []

    class Noting:
        def __init__(self, workers: int, *_: Any) -> None:
            self._workers = workers

        def compute(self, jobs: list[Job]) -> None:
            given.append((self._workers, jobs))

    monkeypatch.setattr(module, "Workers", Noting)
    jobs, told = [tiny.job(seed=seed) for seed in range(count)], list[Event]()
    local(3)(jobs, RunStore(tmp_path), tiny.places, told.append)
    assert given == [(min(count, 3), jobs)]
    assert told == []


def _die_once(point: Point) -> dict[str, Any]:
    assert point.folder is not None
    mark = point.folder / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"died": True}


def _die(point: Point) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


DYING_ONCE = Measurement("kills its process at the first time", after=_die_once)
DYING = Measurement("kills its process", after=_die)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_its_job_one_more_try_and_no_other_job_any(
    tiny: Tiny, tmp_path: Path
) -> None:
    store, told = RunStore(tmp_path), list[Event]()
    jobs = [
        tiny.job(seed=0), tiny.job({f"{__name__}:DYING_ONCE": {}}, seed=1), tiny.job(seed=2),
        tiny.job({f"{__name__}:DYING": {}}, seed=3), tiny.job(seed=4),
    ]  # fmt: skip
    local(2)(jobs, store, tiny.places, told.append)
    ends = {
        job.config.seed: [e.kind for e in told if e.job == job and e.kind not in ("began", "step")]
        for job in jobs
    }
    assert ends == {0: ["finished"], 1: ["failed", "finished"], 2: ["finished"],
                    3: ["failed", "failed"], 4: ["finished"]}  # fmt: skip
    said = [event.said for event in told if event.kind == "failed"]
    assert all("SIGKILL" in sentence for sentence in said)
    quiet = RunStore(tmp_path / "quiet")
    local()([Job(job.config) for job in jobs[:3]], quiet, tiny.places, lambda event: None)
    assert all(
        lasting(store.row(job.config)) | {"measured": {}} == lasting(quiet.row(job.config))
        for job in jobs[:3]
    )


@pytest.mark.slow
def test_an_interruption_ends_all_workers(tiny: Tiny, tmp_path: Path) -> None:
    store, jobs = RunStore(tmp_path), [tiny.job(seed=seed, epochs=50) for seed in range(4)]

    def stop(event: Event) -> None:
        if event.step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local(2)(jobs, store, tiny.places, stop)
    assert not multiprocessing.active_children()
    with claimed(store.path(jobs[0].config), wait=False):
        pass  # nobody is at it any more


def _differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Return where two values of JSON differ, and how."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{place}: {one.keys() ^ other.keys()}"]
        return [said for k in one for said in _differences(one[k], other[k], f"{place}.{k}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [said for i, (a, b) in pairs for said in _differences(a, b, f"{place}.{i}")]
    return [] if one == other else [f"{place}: {one} and {other}"]


KILLS, PACKED_KILLS = 24, 8
"""Kills at random points, at least: of one sweep, or of several in turn."""


def _sweep(folder: Path, jobs: list[Job], tiny: Tiny, executor: Executor) -> None:
    def tell(event: Event) -> None:
        assert event.kind != "failed", event.said

    executor(jobs, RunStore(folder), tiny.places, tell)


def _killed_sweep(
    sweep: Callable[[Path], None], folder: Path, most: int, seconds: Callable[[], float]
) -> int:
    """Kill a sweep again and again until it ends, or is left alone at last; count the kills."""
    fork = multiprocessing.get_context("fork")
    for kills in range(most + 1):
        process = fork.Process(target=sweep, args=(folder,))
        process.start()
        process.join(seconds() if kills < most else None)
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
    assert process.exitcode == 0
    return kills


def _kill_again_and_again(
    jobs: list[Job], tiny: Tiny, folder: Path, executor: Executor, most: int, longest: float
) -> None:
    """Kill sweeps, each until it ends; rows and files are those of one that nobody killed.

    Args:
        jobs, tiny, executor: of the sweep.
        folder: for the stores.
        most: kills, at least.
        longest: time before a kill, in units of the quiet sweep's.
    """
    quiet, draw = folder / "quiet", random.Random(0)
    sweep = partial(_sweep, jobs=jobs, tiny=tiny, executor=executor)
    begun = time.monotonic()
    sweep(quiet)
    whole, kills = time.monotonic() - begun, 0
    expected = _rows(RunStore(quiet))
    assert len(expected) == len(jobs)
    while kills < most:
        killed = folder / f"killed-{kills}"
        seconds = partial(draw.uniform, 0.01 * whole, longest * whole)
        kills += _killed_sweep(sweep, killed, most, seconds)
        assert not _differences(expected, _rows(RunStore(killed)))
        left = {p.name for p in killed.rglob("*") if p.is_file()}
        assert left <= {
            ".lock", "store.json", "config.json", "result.json", "training.watched",
            "provenance.json", "theta.safetensors",
        } | {p.name for p in quiet.rglob("measured/*.json")}  # fmt: skip


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_has_the_rows_of_a_quiet_one(
    tiny: Tiny, tmp_path: Path
) -> None:
    measure: dict[str, Any] = {
        "sharpness": {"examples": 4, "max_matvecs": 6},
        "tracking": {"examples": 4, "every": 8, "max_matvecs": 4},
    }
    ways: list[dict[str, Any]] = [
        {"ratio": 1e-3}, {"method": "bitfit"}, {"lr": 1e30},
        {"method": "gradient", "schedule": "repeat", "count": 30},
        {"method": "structured", "count": 40, "settings": {"lr_schedule": "cosine"}},
        {"model": "bert", "count": 40}, {"method": "none", "lr": None},
    ]  # fmt: skip
    common: dict[str, Any] = {"epochs": 8, "settings": {"evaluate_every": 4}}
    jobs = [
        tiny.job({} if values.get("method") in ("none", "gradient") else measure,
                 **{**common, **values})
        for values in ways
    ]  # fmt: skip
    _kill_again_and_again(jobs, tiny, tmp_path, local(), KILLS, longest=0.08)


@pytest.mark.slow
def test_a_packed_sweep_that_is_killed_again_and_again_has_the_rows_of_a_quiet_one(
    tiny: Tiny, tmp_path: Path
) -> None:
    """Two packs, one of them with a run that diverges, and one run alone."""
    common: dict[str, Any] = {"epochs": 8, "settings": {"evaluate_every": 4}}
    sharpness: dict[str, Any] = {"sharpness": {"examples": 4, "max_matvecs": 6}}
    jobs = [
        *(tiny.job(seed=seed, **common) for seed in range(3)),
        tiny.job(sharpness, ratio=1e-3, **common), tiny.job(lr=1e30, **common),
        tiny.job(method="adapter", options={"width": 3}, **common),
    ]  # fmt: skip
    _kill_again_and_again(jobs, tiny, tmp_path, packed(3), PACKED_KILLS, longest=0.3)
