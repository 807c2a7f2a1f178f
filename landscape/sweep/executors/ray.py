"""Ray: the runs of a sweep on the machines of a Ray cluster, which share nothing but results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from landscape import checks
from landscape.errors import UserError
from landscape.folders import Unwritable
from landscape.sources.carriers import optional
from landscape.sweep.changed import Arrivals
from landscape.sweep.config import RunConfig
from landscape.sweep.executors.cluster import connected
from landscape.sweep.executors.executor import Event, Executor, Job, Places
from landscape.sweep.executors.parcel import clear, pack, unpack
from landscape.sweep.executors.remote import Reply, compute_order, order_of, versions
from landscape.sweep.running import is_done
from landscape.sweep.store import RunStore

RETRIES = 5
"""How often a job is begun again elsewhere, after its process was killed or its machine lost."""

EVERY = 1.0
"""Seconds between two looks at the cluster, and between what one run tells of its steps."""

AHEAD = 2
"""Jobs given to the cluster for each of its CPUs: those that wait need no machine yet."""


def ray(address: str | None = None, *, gpus: float = 1.0, scratch: str | None = None) -> Executor:
    """Make an executor that computes on a Ray cluster, a CPU and a thread a run.

    Every machine needs landscape as it is here, the models and the data; each run is computed in
    a folder of its machine and comes back as files, which this process alone writes into the store.
    A run whose process or machine is lost is begun again, by the same machine from its last
    checkpoint; whatever is killed, it is finished once. A run of a machine whose model or task's
    files are not those of the store's finished runs fails.

    Ray trusts everybody who reaches its ports: keep a cluster in a network of your own.

    Args:
        address: of the cluster: host:port, or ray://host:port from outside it; None is that of
            `ray start` on this machine, or the environment's RAY_ADDRESS.
        gpus: GPUs a run, where the device is cuda; 0.25 lets four share one.
        scratch: folder of the machines that runs are computed in; None is each one's folder for
            temporary files. With one that the machines share, another goes on from a lost one's
            checkpoint.

    Raises:
        UserError: Ray is not installed, or not so many GPUs; called, the executor raises for a
            cluster that is not there, has no CPU (or GPU), or another version of landscape.
    """
    optional("ray")
    most = checks.number("gpus", gpus, above=0)
    if most > 1 and most != int(most):
        raise UserError(f"expected a share of a GPU or whole ones, got gpus={gpus}; round it")
    return _OnRay(address, most, scratch)


@dataclass(frozen=True)
class _OnRay:
    address: str | None
    gpus: float
    scratch: str | None

    def __call__(
        self,
        jobs: Sequence[Job],
        store: RunStore,
        places: Places,
        tell: Callable[[Event], None],
    ) -> None:
        """Compute the jobs that the store lacks, or whose measurements it lacks."""
        needs = self._needs(places)
        store.create()
        clear(store)
        waiting = [job for job in _one_a_run(jobs) if not is_done(job, store)]
        with connected(self.address, needs):
            _Sending(waiting, store, places, tell, needs, self.scratch).run()

    def _needs(self, places: Places) -> dict[str, float]:
        if places.device in (None, "cpu"):
            return {"CPU": 1.0}
        if places.device != "cuda":
            raise UserError(
                f"expected the device cuda or cpu, got {places.device!r}: Ray says which GPU of a "
                "machine a run gets; leave the number out"
            )
        return {"CPU": 1.0, "GPU": self.gpus}


class _Sending:
    """Keep a cluster busy with jobs, and take in what it returns."""

    def __init__(
        self,
        jobs: Sequence[Job],
        store: RunStore,
        places: Places,
        tell: Callable[[Event], None],
        needs: Mapping[str, float],
        scratch: str | None,
    ) -> None:
        self._ray = optional("ray")
        self._jobs, self._store, self._places, self._tell = list(jobs), store, places, tell
        self._scratch, self._arrivals = scratch, Arrivals(store)
        options = {"num_cpus": needs["CPU"], "num_gpus": needs.get("GPU", 0)}
        self._send = self._ray.remote(**options, max_retries=RETRIES)(_compute)
        self._news = self._ray.remote(num_cpus=0, max_restarts=-1)(_news()).remote()
        self._sent: dict[Any, int] = {}
        self._begun: set[int] = set()

    def run(self) -> None:
        """Compute all jobs; those that are under way are given up where this raises."""
        following = iter(range(len(self._jobs)))
        try:
            while self._fill(following):
                ready, _ = self._ray.wait(list(self._sent), num_returns=1, timeout=EVERY)
                self._listen()
                for reference in ready:
                    number = self._sent.pop(reference)
                    self._begin(number)
                    self._take(self._jobs[number], reference)
        finally:
            for reference in self._sent:
                with contextlib.suppress(self._ray.exceptions.RayError):
                    self._ray.cancel(reference, force=True)

    def _fill(self, following: Iterator[int]) -> bool:
        """Send jobs until the cluster has enough; tell whether any is under way."""
        room = AHEAD * max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        while len(self._sent) < room and (number := next(following, None)) is not None:
            job = self._jobs[number]
            order = order_of(job, self._places, self._store, self._scratch)
            files = pack(self._store.path(job.config)) if job.config in self._store else {}
            self._sent[self._send.remote(order, files, number, self._news)] = number
        return bool(self._sent)

    def _listen(self) -> None:
        """Tell what runs have said of their steps; the news may be lost with a machine."""
        try:
            news = self._ray.get(self._news.take.remote(), timeout=EVERY)
        except (self._ray.exceptions.RayError, TimeoutError):
            return
        going = set(self._sent.values())
        for number, (step, total) in news.items():
            if number in going:
                self._begin(number)
                if total:
                    self._tell(Event("step", self._jobs[number], step, total))

    def _begin(self, number: int) -> None:
        """Tell that a job has begun, once."""
        if number not in self._begun:
            self._begun.add(number)
            self._tell(Event("began", self._jobs[number]))

    def _take(self, job: Job, reference: Any) -> None:
        """Write what came back of a job into the store."""
        try:
            reply: Reply = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise _unready(error) or error.as_instanceof_cause() from error
        except self._ray.exceptions.RayError as error:
            said = (
                f"expected the run to end, got a {type(error).__name__} from Ray after "
                f"{RETRIES + 1} tries; see whether its machine has the memory, and sweep again"
            )
            self._tell(Event("failed", job, said=said))
            return
        if reply.refused is not None:
            raise UserError(_differing(reply))
        # a machine whose own disk is full ends nothing: other ones have theirs
        failed, ends = f"{reply.failed} (on {reply.host})" if reply.failed else "", False
        try:
            if reply.files:
                unpack(reply.files, job.config, self._store, self._arrivals.refuse_other)
        except UserError as error:
            failed = f"{error} (sent by {reply.host})"
            ends = isinstance(error, Unwritable) and error.everywhere
        if failed or not is_done(job, self._store):
            said = failed or f"expected a finished run from {reply.host}, got none; sweep again"
            self._tell(Event("failed", job, said=said, ends=ends))
            return
        diverged = self._store.row(job.config)["outcome"]["diverged"]
        self._tell(Event("diverged" if diverged else "finished", job))


def _one_a_run(jobs: Sequence[Job]) -> list[Job]:
    """Return a job for each run, with all that is to be measured on it: no two compute it."""
    measure: dict[str, tuple[RunConfig, dict[str, Any]]] = {}
    for job in jobs:
        measure.setdefault(job.config.address, (job.config, {}))[1].update(job.measure)
    return [Job(config, asked) for config, asked in measure.values()]


def _compute(order: Mapping[str, Any], files: Mapping[str, bytes], number: int, news: Any) -> Reply:
    """Compute a job: the function that Ray calls on a machine."""
    told = -EVERY

    def tell(step: int, total: int) -> None:
        nonlocal told
        if not total or time.monotonic() - told >= EVERY:
            told = time.monotonic() if total else told
            news.put.remote(number, step, total)

    return compute_order(order, files, tell)


def _news() -> type:
    """Return what holds the last step of every run that has told one since it was asked.

    A class of a function travels whole, so that its process need not import landscape and torch.
    """

    class News:
        def __init__(self) -> None:
            self._last: dict[int, tuple[int, int]] = {}

        def put(self, number: int, step: int, total: int) -> None:
            self._last[number] = (step, total)

        def take(self) -> dict[int, tuple[int, int]]:
            found, self._last = self._last, {}
            return found

    return News


def _unready(error: Exception) -> UserError | None:
    """Return the sentence about a machine without landscape; None for another failure."""
    if "No module named 'landscape" not in str(error):
        return None
    return UserError(
        "expected landscape on every machine of the cluster, got one without it; install it there"
    )


def _differing(reply: Reply) -> str:
    here, there = versions(), reply.refused or {}
    names = [name for name in here if here[name] != there.get(name)]
    shown = [f"{name} {there.get(name, 'none')} instead of {here[name]}" for name in names]
    return (
        f"expected the versions of this machine on {reply.host}, got {', '.join(shown)}; install "
        "the same there, so that all runs are computed alike"
    )
