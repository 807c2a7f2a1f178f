"""The packed executor: rows as the local one writes them, and as if nobody had killed it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_jobs import Tiny, lasting

from landscape.errors import UserError
from landscape.sweep.executors import Event, Job
from landscape.sweep.executors import packed as module
from landscape.sweep.executors.local import local
from landscape.sweep.executors.packed import PACKS, packed
from landscape.sweep.progress import Counts, Progress
from landscape.sweep.store import RunStore
from landscape.training import pace
from landscape.training.packed.pack import Pack


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny.at(tmp_path_factory.mktemp("tiny"))


def jobs_of(tiny: Tiny) -> list[Job]:
    """Runs that are packed, of two models, and others that cannot be."""
    own = {"targets": ("*.query", "*.value"), "model": "bert"}
    return [
        *(tiny.job(seed=seed, lr=1e-2 * (1 + seed)) for seed in range(3)),
        *(tiny.job(seed=seed, method="bitfit", **own) for seed in range(2)),
        *(tiny.job(seed=seed, **own) for seed in range(2)),
        tiny.job(method="adapter", options={"width": 3}),
        tiny.job(method="snip", schedule="increment", count=40, options={"steps": 2}),
        tiny.job(method="none", lr=None),
    ]


def rows(jobs: list[Job], store: RunStore) -> list[dict[str, Any]]:
    return [lasting(store.row(job.config)) for job in jobs]


def close(found: Any, wanted: Any) -> bool:
    """Whether two results are equal, their numbers to float32's rounding."""
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(close(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(close, found, wanted))
    if isinstance(wanted, float):
        return found == pytest.approx(wanted, rel=2e-3, abs=1e-5)
    return bool(found == wanted)


def test_packed_rows_are_the_local_executors_to_rounding(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, train = [], module.finetune_packed
    monkeypatch.setattr(
        module, "finetune_packed", lambda m, t, lanes, **k: sizes.append(len(lanes)) or train(
            m, t, lanes, **k)
    )  # fmt: skip
    jobs, told = jobs_of(tiny), list[Event]()
    together, alone = RunStore(tmp_path / "packed"), RunStore(tmp_path / "local")
    packed()(jobs, together, tiny.places, told.append)
    local()(jobs, alone, tiny.places, lambda event: None)
    assert sizes == [3, 4]
    for found, wanted in zip(rows(jobs, together), rows(jobs, alone), strict=True):
        assert close(found, wanted), (found, wanted)
    ends = [event.job for event in told if event.kind in ("finished", "diverged")]
    assert sorted(job.config.address for job in ends) == sorted(j.config.address for j in jobs)
    assert not list((tmp_path / "packed" / PACKS).iterdir())
    told.clear()
    packed()(jobs, together, tiny.places, told.append)
    assert told == []


def test_a_killed_pack_goes_on_with_the_same_runs_whatever_is_asked_for_then(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [tiny.job(seed=seed, epochs=2) for seed in range(4)]
    quiet, killed = RunStore(tmp_path / "quiet"), RunStore(tmp_path / "killed")
    packed(2)(jobs, quiet, tiny.places, lambda event: None)
    step, taken = Pack.step, []

    def stopping(pack: Pack) -> bool:
        taken.append(len(pack.courses))
        if len(taken) == 6:
            raise KeyboardInterrupt
        return step(pack)

    monkeypatch.setattr(Pack, "step", stopping)
    monkeypatch.setattr(pace, "APART", 0.0)
    with pytest.raises(KeyboardInterrupt):
        packed(2)(jobs, killed, tiny.places, lambda event: None)
    packed(8)(jobs[1:], killed, tiny.places, lambda event: None)
    packed(8)(jobs, killed, tiny.places, lambda event: None)
    assert set(taken) == {2}
    assert len(taken) == 6 + (8 - 5) + 8  # no step that was taken is taken again
    assert rows(jobs, killed) == rows(jobs, quiet)


def test_a_run_that_was_begun_alone_goes_on_alone(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "APART", 0.0)
    jobs, told = [tiny.job(seed=seed, epochs=2) for seed in range(3)], list[Event]()
    quiet, killed = RunStore(tmp_path / "quiet"), RunStore(tmp_path / "killed")
    local()(jobs, quiet, tiny.places, lambda event: None)

    def stop(event: Event) -> None:
        if event.step == 6:  # of eight
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local()(jobs, killed, tiny.places, stop)
    packed()(jobs, killed, tiny.places, told.append)
    assert [e.step for e in told if e.kind == "step" and e.job == jobs[0]] == [7, 8]
    assert rows(jobs[:1], killed) == rows(jobs[:1], quiet)


def test_every_step_of_every_packed_run_is_told_and_the_time_left_is_known_from_the_first(
    tiny: Tiny, tmp_path: Path
) -> None:
    early = {"num_train": 16, "epochs": 4, "settings": {"patience": 1, "evaluate_every": 1}}
    jobs = [tiny.job(seed=seed, lr=lr, **early) for seed, lr in ((0, 1e-2), (1, 1e-9), (2, 1e-2))]
    told, counts, shown = list[Event](), Counts(known=len(jobs)), list[dict[str, str]]()

    def tell(event: Event) -> None:
        told.append(event)
        counts.count(event)
        shown.append(counts.row())

    packed()(jobs, RunStore(tmp_path / "packed"), tiny.places, tell)
    alone = list[Event]()
    local()(jobs, RunStore(tmp_path / "alone"), tiny.places, alone.append)
    for job in jobs:
        steps, others = ([(e.step, e.total) for e in events
                          if e.kind == "step" and e.job.config == job.config]
                         for events in (told, alone))  # fmt: skip
        assert steps == others
        assert len(steps) > 1
    assert len({sum(e.kind == "step" and e.job.config == j.config for e in told) for j in jobs}) > 1
    first = next(i for i, event in enumerate(told) if event.kind == "step")
    assert [row["time left"] for row in shown[:first]] == ["?"] * first
    assert all(row["time left"] != "?" for row in shown[first:])


def test_a_run_that_begins_once_more_has_done_what_it_had_done() -> None:
    counts, job = Counts(known=2), Tiny(Path()).job()
    counts.count(Event("began", job))
    assert counts.parts == {job.config.address: 0.0}
    counts.count(Event("step", job, 3, 4))
    counts.count(Event("began", job))
    assert counts.parts == {job.config.address: 0.75}


def test_a_pack_leaves_no_cached_memory_to_those_that_are_computed_alone(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("emptied"))

    def failing(*args: Any, **how: Any) -> None:
        done.append("pack")
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(module, "finetune_packed", failing)
    executor = module._Packed(8, lambda *args: done.append("alone"))
    jobs = [tiny.job(seed=seed) for seed in range(2)]
    executor(jobs, RunStore(tmp_path), tiny.places, lambda event: None)
    assert done == ["pack", "emptied", "alone"]


@pytest.mark.parametrize("when", [1, 3])
def test_a_pack_that_fails_says_why_and_its_rows_are_those_of_the_local_executor(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, when: int
) -> None:
    jobs, step, taken = [tiny.job(seed=seed) for seed in range(2)], Pack.step, list[int]()
    quiet, store, progress = RunStore(tmp_path / "a"), RunStore(tmp_path / "b"), Progress()
    local()(jobs, quiet, tiny.places, lambda event: None)

    def failing(pack: Pack) -> bool:
        taken.append(1)
        if len(taken) == when:
            raise RuntimeError("CUDA out of memory")
        return step(pack)

    monkeypatch.setattr(Pack, "step", failing)
    progress.plan(jobs, jobs, 0)
    packed()(jobs, store, tiny.places, progress.tell)
    assert rows(jobs, store) == rows(jobs, quiet)
    told = [line for line in capsys.readouterr().out.splitlines() if "instead" in line]
    said = "a pack is computed one run at a time instead: RuntimeError: CUDA out of memory"
    assert told == [said]
    assert (progress.counts.done, progress.counts.failed) == (2, set())


def test_a_pack_below_one_is_refused() -> None:
    with pytest.raises(UserError, match="pack"):
        packed(0)
