"""The executor on Ray: a real cluster of two nodes, whose parts are killed in mid-run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import glue_folder, model_folder

from landscape.errors import UserError
from landscape.sweep.config import RunConfig
from landscape.sweep.executors import Event, Job, Places, remote
from landscape.sweep.executors import ray as on_ray
from landscape.sweep.running import run_job
from landscape.sweep.store import RunStore

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray>=2.40'")
if sys.platform != "linux":
    pytest.skip("addresses 127.0.0.2 and 127.0.0.3 are Linux's", allow_module_level=True)
pytestmark = pytest.mark.slow

MEMORY = 80_000_000
"""Bytes of a node's object store, about the least that Ray takes."""
LONG = 120
"""Epochs of a run that takes some seconds."""


class Nodes:
    """Hold a cluster of two nodes with a CPU each, on addresses that only this machine has."""

    def __init__(self, cpus: int = 1) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True,
            head_node_args=self._node("127.0.0.2", cpus) | {"include_dashboard": False},
        )
        self.second = self.cluster.add_node(**self._node("127.0.0.3", cpus))
        self.address = self.cluster.address

    @staticmethod
    def _node(address: str, cpus: int) -> dict[str, Any]:
        return {"num_cpus": cpus, "node_ip_address": address, "object_store_memory": MEMORY}

    def lose(self) -> None:
        """End the second node, its worker and its object store without a farewell."""
        self.cluster.remove_node(self.second, allow_graceful=False)

    def restore(self) -> None:
        self.second = self.cluster.add_node(**self._node("127.0.0.3", 1))


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    made = Nodes()
    yield made
    made.cluster.shutdown()


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[str, Places]:
    """Make a tiny model and two-sentence films; return the model's path and the places."""
    model = model_folder(tmp_path / "opt")
    films = glue_folder(tmp_path / "SST-2", train=40, dev=12)
    return str(model), Places({"sst2": str(films)})


def jobs_of(model: str, count: int, **values: Any) -> list[Job]:
    shared = {"model": model, "task": "sst2", "num_train": 24, "num_dev": 8, "num_test": 8,
              "ratio": 0.05, "lr": 0.01, "epochs": 2} | values  # fmt: skip
    return [Job(RunConfig(**shared, seed=seed)) for seed in range(count)]


def found(store: RunStore) -> dict[str, Any]:
    """Return all rows by address, without what depends on the machine: times and provenance."""
    rows = {row["address"]: row for row in store.rows()}
    return {
        address: (row["config"], row["measured"], {
            k: v for k, v in row["outcome"].items() if k not in ("seconds", "peak_memory")
        })
        for address, row in rows.items()
    }  # fmt: skip


def expected(jobs: list[Job], places: Places, folder: Path) -> dict[str, Any]:
    """Return the rows that the local executor makes of the same jobs."""
    store, threads = RunStore(folder), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for job in jobs:
            run_job(job, store, places)
    finally:
        torch.set_num_threads(threads)
    return found(store)


def ends(told: list[Event]) -> Counter[str]:
    """Count how often each run was told to have ended."""
    return Counter(e.job.config.address for e in told if e.kind in ("finished", "diverged"))


def holder(scratch: Path, job: Job) -> int | None:
    """Return the process that has a run's lock open in a folder of the nodes."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            target = os.readlink(link)
            if target.startswith(str(scratch)) and target.endswith(f"{job.config.address}/.lock"):
                return int(link.parts[2])
    return None


def kill_whoever(scratch: Path, job: Job, over: threading.Event) -> None:
    """Kill every process that computes a run, until it is over."""
    while not over.wait(0.3):
        if (pid := holder(scratch, job)) is not None:
            os.kill(pid, signal.SIGKILL)


def once(act: Callable[[Event], None]) -> Callable[[Event], None]:
    """Return a listener that acts on the first step in the middle of a run, and keeps all events."""
    told: list[Event] = []

    def tell(event: Event) -> None:
        first = event.kind == "step" and not any(e.kind == "step" for e in told)
        told.append(event)
        if first:
            act(event)

    tell.told = told  # type: ignore[attr-defined]
    return tell


def test_rows_of_a_cluster_are_those_of_the_local_executor(nodes, inputs, tmp_path) -> None:
    model, places = inputs
    jobs = [
        *jobs_of(model, 3), *jobs_of(model, 1, lr=1e6), *jobs_of(model, 1, method="none", lr=None,
        ratio=None), *jobs_of(model, 1, method="lora", ratio=None),
    ]  # fmt: skip
    told: list[Event] = []
    store = RunStore(tmp_path / "store")
    on_ray.ray(nodes.address, scratch=str(tmp_path / "nodes"))(jobs, store, places, told.append)
    assert found(store) == expected(jobs, places, tmp_path / "local")
    assert ends(told) == Counter({job.config.address: 1 for job in jobs})
    assert not list((tmp_path / "nodes").rglob("*.safetensors"))


def test_a_worker_killed_in_mid_run_is_begun_again_and_its_run_finished_once(
    nodes, inputs, tmp_path
) -> None:
    model, places = inputs
    jobs, scratch, killed = jobs_of(model, 3, epochs=LONG), tmp_path / "nodes", []

    def kill(event: Event) -> None:
        assert (pid := holder(scratch, event.job)) is not None
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    tell, store = once(kill), RunStore(tmp_path / "store")
    on_ray.ray(nodes.address, scratch=str(scratch))(jobs, store, places, tell)
    assert len(killed) == 1
    assert found(store) == expected(jobs, places, tmp_path / "local")
    assert ends(tell.told) == Counter({job.config.address: 1 for job in jobs})


def test_a_lost_node_has_its_run_finished_by_the_other(nodes, inputs, tmp_path) -> None:
    model, places = inputs
    jobs = jobs_of(model, 4, epochs=LONG)
    tell, store = once(lambda event: nodes.lose()), RunStore(tmp_path / "store")
    try:
        on_ray.ray(nodes.address, scratch=str(tmp_path / "nodes"))(jobs, store, places, tell)
    finally:
        nodes.restore()
    assert found(store) == expected(jobs, places, tmp_path / "local")
    assert ends(tell.told) == Counter({job.config.address: 1 for job in jobs})


DRIVER = """
import sys
from test_ray import jobs_of, on_ray, Places, RunStore
address, model, films, folder = sys.argv[1:]
executor = on_ray.ray(address, scratch=folder + "/nodes")
jobs = jobs_of(model, 2) + jobs_of(model, 2, epochs=120)
executor(jobs, RunStore(folder + "/store"), Places({"sst2": films}), lambda event: print(event.kind, flush=True))
"""


def test_a_sweep_whose_driver_was_killed_computes_what_is_left(nodes, inputs, tmp_path) -> None:
    model, places = inputs
    jobs = jobs_of(model, 2) + jobs_of(model, 2, epochs=120)
    given = [nodes.address, model, places.sources["sst2"], str(tmp_path)]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, *given], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert driver.stdout is not None
    seen: Counter[str] = Counter()
    for line in driver.stdout:
        seen[line.strip()] += 1
        if seen["finished"] >= 2 and seen["step"]:
            break
    time.sleep(0.5)
    driver.kill()
    driver.wait()
    store = RunStore(tmp_path / "store")
    before = {p: p.read_bytes() for p in (tmp_path / "store").glob("runs/*/result.json")}
    assert 2 <= len(before) < 4
    told: list[Event] = []
    on_ray.ray(nodes.address, scratch=str(tmp_path / "nodes"))(jobs, store, places, told.append)
    assert {p: p.read_bytes() for p in before} == before
    assert len(ends(told)) == 4 - len(before)
    assert found(store) == expected(jobs, places, tmp_path / "local")


def test_a_measurement_asked_for_later_joins_a_row_that_stays(nodes, inputs, tmp_path) -> None:
    model, places = inputs
    store, executor = RunStore(tmp_path / "store"), on_ray.ray(nodes.address)
    executor(jobs_of(model, 1), store, places, lambda event: None)
    path = store.path(jobs_of(model, 1)[0].config) / "result.json"
    before = path.read_bytes()
    (job,) = [Job(job.config, {"sharpness": {"n": 8}}) for job in jobs_of(model, 1)]
    executor([job], store, places, lambda event: None)
    assert path.read_bytes() == before
    assert found(store) == expected([job], places, tmp_path / "local")
    assert store.row(job.config)["measured"]


def test_a_job_that_fails_is_told_and_the_others_go_on(nodes, inputs, tmp_path) -> None:
    model, places = inputs
    wrong, right = jobs_of(model, 1, method="nobody")[0], jobs_of(model, 1)[0]
    told: list[Event] = []
    store = RunStore(tmp_path / "store")
    on_ray.ray(nodes.address)([wrong, right], store, places, told.append)
    assert [e.said for e in told if e.kind == "failed" and e.job == wrong][0].count("nobody")
    assert right.config in store
    assert wrong.config not in store


def test_a_node_with_another_version_of_landscape_is_refused_by_name(
    nodes, inputs, tmp_path, monkeypatch
) -> None:
    model, places = inputs
    here = remote.versions() | {"landscape": "0.0.9"}
    for module in (remote, on_ray):
        monkeypatch.setattr(module, "versions", lambda: here)
    with pytest.raises(UserError, match=r"on \S+, got landscape \S+ \(\w{8}\) instead of 0\.0\.9"):
        on_ray.ray(nodes.address)(
            jobs_of(model, 2), RunStore(tmp_path / "store"), places, lambda event: None
        )
    assert not ray.is_initialized()


def test_a_run_that_kills_every_worker_fails_and_the_others_go_on(
    nodes, inputs, tmp_path, monkeypatch
) -> None:
    model, places = inputs
    monkeypatch.setattr(on_ray, "RETRIES", 1)
    doomed, scratch = jobs_of(model, 1, epochs=LONG)[0], tmp_path / "nodes"
    right = jobs_of(model, 2)[1]
    told: list[Event] = []
    store = RunStore(tmp_path / "store")
    over = threading.Event()
    killer = threading.Thread(target=kill_whoever, args=(scratch, doomed, over))
    killer.start()
    try:
        on_ray.ray(nodes.address, scratch=str(scratch))(
            [doomed, right], store, places, told.append
        )
    finally:
        over.set()
        killer.join()
    assert [e.job for e in told if e.kind == "failed"] == [doomed]
    assert right.config in store


def test_a_cluster_without_cpus_is_refused(inputs, tmp_path) -> None:
    model, places = inputs
    bare = Nodes(cpus=0)
    try:
        with pytest.raises(UserError, match="expected a Ray cluster with 1 CPU for a run, got"):
            on_ray.ray(bare.address)(
                jobs_of(model, 1), RunStore(tmp_path / "store"), places, lambda event: None
            )
    finally:
        bare.cluster.shutdown()
