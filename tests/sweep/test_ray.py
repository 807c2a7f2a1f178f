"""The executor on Ray: a real cluster of two nodes, whose parts are killed in mid-run."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_jobs import Tiny, lasting

import landscape as ls
from landscape.errors import UserError
from landscape.sweep.executors import Event, Job, Places, cluster, remote
from landscape.sweep.executors import ray as on_ray
from landscape.sweep.executors.local import local
from landscape.sweep.store import RunStore

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray>=2.40'")
if sys.platform != "linux":
    pytest.skip("127.0.0.2 and 127.0.0.3 are addresses of Linux", allow_module_level=True)
pytestmark = pytest.mark.slow

MEMORY = 80_000_000
"""Bytes of a node's object store, about the least that Ray takes."""
LONG = 80
"""Epochs of a run that takes some seconds."""
Tell = Callable[[Event], None]


class Nodes:
    """Hold a cluster of two nodes with a CPU each, on addresses that only this machine has."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = self._node("127.0.0.2") | {"include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.second = self.cluster.add_node(**self._node("127.0.0.3"))
        self.address = self.cluster.address

    @staticmethod
    def _node(address: str) -> dict[str, Any]:
        return {"num_cpus": 1, "node_ip_address": address, "object_store_memory": MEMORY}

    def lose(self) -> None:
        """End the second node, its worker and its object store without a farewell."""
        self.cluster.remove_node(self.second, allow_graceful=False)

    def restore(self) -> None:
        self.second = self.cluster.add_node(**self._node("127.0.0.3"))


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Start a cluster that this process is connected to: the tests share its workers."""
    threads, made = torch.get_num_threads(), Nodes()
    torch.set_num_threads(1)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.cluster.shutdown()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny.at(tmp_path_factory.mktemp("tiny"))


def found(store: RunStore) -> list[Any]:
    return [lasting(row) for row in store.rows()]


def expected(jobs: list[Job], places: Places, folder: Path) -> list[Any]:
    """Return what the local executor finds."""
    local()(jobs, RunStore(folder), places, lambda event: None)
    return found(RunStore(folder))


def ends(told: list[Event]) -> Counter[str]:
    """Count how often each run was told to have ended."""
    return Counter(e.job.config.address for e in told if e.kind in ("finished", "diverged"))


def once_each(jobs: list[Job]) -> Counter[str]:
    return Counter({job.config.address: 1 for job in jobs})


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
    while not over.wait(0.2):
        if (pid := holder(scratch, job)) is not None:
            os.kill(pid, signal.SIGKILL)


def at_first_step(told: list[Event], act: Tell) -> Tell:
    """Return a listener that keeps what it is told, and acts on the first step of a run."""

    def tell(event: Event) -> None:
        first = event.kind == "step" and not any(e.kind == "step" for e in told)
        told.append(event)
        if first:
            act(event)

    return tell


def test_rows_of_a_cluster_are_those_of_the_local_executor(
    nodes: Nodes, tiny: Tiny, tmp_path: Path
) -> None:
    jobs = [
        *(tiny.job(seed=seed) for seed in range(3)), tiny.job(lr=1e30), tiny.job(method="lora"),
        tiny.job({"sharpness": {"examples": 4}}, model="bert"), tiny.job(method="none", lr=None),
    ]  # fmt: skip
    told: list[Event] = []
    store = RunStore(tmp_path / "store")
    on_ray.ray(scratch=str(tmp_path / "nodes"))(jobs, store, tiny.places, told.append)
    assert found(store) == expected(jobs, tiny.places, tmp_path / "local")
    assert ends(told) == once_each(jobs)
    assert Counter(e.job.config.address for e in told if e.kind == "began") == once_each(jobs)
    assert [e.kind for e in told if e.job == jobs[3]][-1] == "diverged"
    assert not list((tmp_path / "nodes").rglob("*.safetensors"))


def test_a_worker_killed_in_mid_run_is_begun_again_and_its_run_finished_once(
    nodes: Nodes, tiny: Tiny, tmp_path: Path
) -> None:
    jobs, scratch = [tiny.job(seed=s, epochs=LONG) for s in range(3)], tmp_path / "nodes"
    told, killed = list[Event](), list[int]()

    def kill(event: Event) -> None:
        pid = holder(scratch, event.job)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    store = RunStore(tmp_path / "store")
    on_ray.ray(scratch=str(scratch))(jobs, store, tiny.places, at_first_step(told, kill))
    assert len(killed) == 1
    assert found(store) == expected(jobs, tiny.places, tmp_path / "local")
    assert ends(told) == once_each(jobs)


def test_the_run_of_a_lost_node_is_finished_by_the_other(
    nodes: Nodes, tiny: Tiny, tmp_path: Path
) -> None:
    jobs, told = [tiny.job(seed=seed, epochs=LONG) for seed in range(4)], list[Event]()
    store, tell = RunStore(tmp_path / "store"), at_first_step(told, lambda event: nodes.lose())
    try:
        on_ray.ray(scratch=str(tmp_path / "nodes"))(jobs, store, tiny.places, tell)
    finally:
        nodes.restore()
    assert found(store) == expected(jobs, tiny.places, tmp_path / "local")
    assert ends(told) == once_each(jobs)


DRIVER = """
import sys
from pathlib import Path
from test_ray import RunStore, interrupted_jobs, on_ray
from tiny_jobs import Tiny
address, films, folder = sys.argv[1:]
executor, tiny = on_ray.ray(address, scratch=folder + "/nodes"), Tiny(Path(films))
say = lambda event: print(event.kind, flush=True)
executor(interrupted_jobs(tiny), RunStore(folder + "/store"), tiny.places, say)
"""


def interrupted_jobs(tiny: Tiny) -> list[Job]:
    """Return two short runs and two that are longer."""
    return [tiny.job(seed=seed, epochs=1 if seed < 2 else LONG) for seed in range(4)]


def test_a_sweep_whose_driver_was_killed_computes_what_is_left(
    nodes: Nodes, tiny: Tiny, tmp_path: Path
) -> None:
    jobs, store = interrupted_jobs(tiny), RunStore(tmp_path / "store")
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, nodes.address, str(tiny.folder), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert driver.stdout is not None
    seen: Counter[str] = Counter()
    while seen["finished"] < 2 or not seen["step"]:
        seen[driver.stdout.readline().strip() or pytest.fail("the driver ended")] += 1
    driver.kill()
    driver.wait()
    before = {p: p.read_bytes() for p in store.folder.glob("runs/*/result.json")}
    assert 2 <= len(before) < 4
    told: list[Event] = []
    on_ray.ray(scratch=str(tmp_path / "nodes"))(jobs, store, tiny.places, told.append)
    assert {p: p.read_bytes() for p in before} == before
    assert len(ends(told)) == 4 - len(before)
    assert found(store) == expected(jobs, tiny.places, tmp_path / "local")


def test_a_measurement_asked_for_later_joins_a_row_that_stays(
    nodes: Nodes, tiny: Tiny, tmp_path: Path
) -> None:
    store, executor = RunStore(tmp_path / "store"), on_ray.ray(scratch=str(tmp_path / "nodes"))
    job = tiny.job({"sharpness": {"examples": 4}})
    executor([Job(job.config)], store, tiny.places, lambda event: None)
    files = {p: p.read_bytes() for p in store.path(job.config).rglob("*.*") if p.is_file()}
    executor([job], store, tiny.places, lambda event: None)
    assert {p: p.read_bytes() for p in files} == files
    assert found(store) == expected([job], tiny.places, tmp_path / "local")


def test_a_job_that_fails_is_told_and_the_others_go_on(
    nodes: Nodes, tiny: Tiny, tmp_path: Path
) -> None:
    wrong, right, told = tiny.job(method="ramdom"), tiny.job(), list[Event]()
    store = RunStore(tmp_path / "store")
    on_ray.ray()([wrong, right], store, tiny.places, told.append)
    assert ["ramdom" in e.said for e in told if e.kind == "failed"] == [True]
    assert [row["address"] for row in store.rows()] == [right.config.address]


def test_a_run_of_other_inputs_than_the_stores_fails_by_name(nodes: Nodes, tmp_path: Path) -> None:
    tiny = Tiny.at(tmp_path)
    before, after, store = tiny.job(seed=0), tiny.job(seed=1), RunStore(tmp_path / "store")
    told = list[Event]()
    on_ray.ray()([before], store, tiny.places, told.append)
    path = tiny.folder / "SST-2" / "train.tsv"
    path.write_text(path.read_text(encoding="utf-8").replace("fine", "good"), encoding="utf-8")
    on_ray.ray()([after], store, tiny.places, told.append)
    said = [e.said for e in told if e.kind == "failed"]
    assert len(said) == 1
    assert (
        f"other examples of sst2 than 1 finished run of the store ({before.config.address}"
        in said[0]
    )
    assert store.addresses() == [before.config.address]


def test_a_run_that_no_worker_survives_fails_and_the_others_go_on(
    nodes: Nodes, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "RETRIES", 1)
    doomed, right, scratch = tiny.job(epochs=LONG), tiny.job(), tmp_path / "nodes"
    told, store, over = list[Event](), RunStore(tmp_path / "store"), threading.Event()
    killer = threading.Thread(target=kill_whoever, args=(scratch, doomed, over))
    killer.start()
    try:
        on_ray.ray(scratch=str(scratch))([doomed, right], store, tiny.places, told.append)
    finally:
        over.set()
        killer.join()
    assert [e.job for e in told if e.kind == "failed"] == [doomed]
    assert [row["address"] for row in store.rows()] == [right.config.address]


def test_a_node_with_another_version_of_landscape_is_refused_by_name(
    nodes: Nodes, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = remote.versions() | {"landscape": "0.0.9"}
    for module in (remote, on_ray):
        monkeypatch.setattr(module, "versions", lambda: here)
    said = rf"on {socket.gethostname()}, got landscape \S+ \(\w{{8}}\) instead of 0\.0\.9; install"
    store = RunStore(tmp_path)
    with pytest.raises(UserError, match=said):
        on_ray.ray()([tiny.job(), tiny.job(seed=1)], store, tiny.places, lambda event: None)
    assert found(store) == []


def test_a_cluster_that_lacks_what_a_run_needs_is_refused(nodes: Nodes, tiny: Tiny) -> None:
    with pytest.raises(UserError, match=r"expected a Ray cluster with 0\.5 GPU for a run, got"):
        on_ray.ray(gpus=0.5)(
            [tiny.job()], RunStore(tiny.folder / "s"), Places(device="cuda"), print
        )
    few = "expected a Ray cluster with 64 CPU for a run, got one with 2 in all"
    with pytest.raises(UserError, match=few), cluster.connected(None, {"CPU": 64}):
        pass


def test_a_connection_to_another_cluster_is_refused_and_left(nodes: Nodes, tiny: Tiny) -> None:
    with pytest.raises(UserError, match=r"another Ray cluster than 127\.0\.0\.9:1, got one to 127"):
        on_ray.ray("127.0.0.9:1")([], RunStore(tiny.folder / "s"), tiny.places, print)
    assert ray.is_initialized()


def test_a_grid_is_swept_on_a_cluster_as_on_this_machine(
    nodes: Nodes, tiny: Tiny, tmp_path: Path
) -> None:
    grid = ls.Grid(tiny.config().named() | {"lr": 0.01}, {"seed": [0, 1]})
    frames = [
        ls.run_grid(grid, tmp_path / name, executor=name, sources=tiny.places.sources)
        for name in ("ray", "local")
    ]
    one, other = (f.drop(columns=[c for c in f if "seconds" in c or "memory" in c]) for f in frames)
    same = [c for c in one if c not in ("date", "commit", "device", "command")]
    assert one[same].equals(other[same])
