"""Sweeps that several processes share: each run by one of them, whoever is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from tiny_jobs import Tiny, lasting

import landscape as ls
from landscape.errors import UserError
from landscape.folders import write_json
from landscape.sweep.driver import executor_of, run_grid
from landscape.sweep.executors import Event, Job, Places
from landscape.sweep.store import RunStore

Tell = Callable[[Event], None]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny.at(tmp_path_factory.mktemp("tiny"))


def test_a_store_is_held_by_many_who_share_it_or_by_one_who_does_not(tmp_path: Path) -> None:
    one, two = RunStore(tmp_path), RunStore(tmp_path)
    with (
        one.locked(shared=True),
        two.locked(shared=True),
        pytest.raises(UserError, match=r"expected no other sweep on .*, got one: another process"),
        RunStore(tmp_path).locked(),
    ):
        pass
    with (
        one.locked(),
        pytest.raises(UserError, match=rf"got one: process {os.getpid()} on"),
        two.locked(shared=True),
    ):
        pass
    with two.locked(shared=True):
        pass


def test_an_executor_that_does_not_leave_runs_to_others_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected the executor local for a sweep that several"):
        run_grid(ls.Grid({"lr": 1.0, "ratio": 0.1}), tmp_path, executor="ray", shared=True)


def test_a_shared_sweep_computes_what_another_has_not_begun(tiny: Tiny, tmp_path: Path) -> None:
    grid = ls.Grid(tiny.config().named(), {"seed": [0, 1]})
    told = {"sources": tiny.places.sources, "progress": False}
    with RunStore(tmp_path / "shared").locked(shared=True):
        shared = run_grid(grid, tmp_path / "shared", shared=True, **told)
    run_grid(grid, tmp_path / "alone", **told)
    rows, others = (
        [lasting(row) for row in RunStore(tmp_path / name).rows()] for name in ("shared", "alone")
    )
    assert rows == others
    assert len(shared) == len(rows) == 2


def share(grid: str, folder: str, films: str) -> None:
    """Take part in a sweep, and print the address of every run that is computed here."""

    def compute(jobs: Sequence[Job], store: RunStore, places: Places, tell: Tell) -> None:
        def hear(event: Event) -> None:
            if event.step == 1:
                print(event.job.config.address, flush=True)
            tell(event)

        executor_of("local")(jobs, store, places, hear)

    torch.set_num_threads(1)
    run_grid(grid, folder, executor=compute, shared=True, sources={"sst2": films}, progress=False)


@pytest.mark.slow
def test_every_run_of_processes_that_share_a_sweep_is_computed_by_one_of_them(
    tiny: Tiny, tmp_path: Path
) -> None:
    values = tiny.config(epochs=40).named()
    del values["lr"], values["ratio"]
    grid = {"shared": values, "axes": {"seed": [0, 1], "ratio": [1e-2, 5e-2]},
            "rates": {"tried": [1e-3, 1e-2], "widen": 1}}  # fmt: skip
    write_json(tmp_path / "grid.json", grid)
    films = tiny.places.sources["sst2"]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", "import sys, test_shared; test_shared.share(*sys.argv[1:])",
             str(tmp_path / "grid.json"), str(tmp_path / "shared"), films],
            env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    killed = processes[0]
    assert killed.stdout is not None
    begun = killed.stdout.readline().strip()
    killed.kill()
    outputs = [process.communicate()[0] for process in processes[1:]]
    assert [process.returncode for process in processes[1:]] == [0, 0]
    rows = {row["address"]: lasting(row) for row in RunStore(tmp_path / "shared").rows()}
    computed = Counter("".join(outputs).split())
    assert computed.keys() | {begun} == rows.keys()
    assert set(computed.values()) == {1}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run_grid(grid, tmp_path / "alone", sources=tiny.places.sources, progress=False)
    torch.set_num_threads(threads)
    assert rows == {row["address"]: lasting(row) for row in RunStore(tmp_path / "alone").rows()}
