"""Worker processes: each computes one run at a time, and goes on with one that was begun."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from landscape.sweep.executors.executor import Event, Job, Places
from landscape.sweep.lock import Elsewhere
from landscape.sweep.running import attempt
from landscape.sweep.store import RunStore

THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "GOMP_SPINCOUNT": "2000"}
"""The environment of a worker: one thread, which does not spin for long while it waits."""

TRIES = 2
"""How often a job is given out whose worker dies."""

READY, ELSEWHERE = "ready", "elsewhere"


@dataclass
class _Asked:
    """A job, how often it was given out, and whether its worker waits for another process."""

    job: Job
    tries: int = 0
    wait: bool = False


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    asked: _Asked | None = None

    def stop(self) -> None:
        """End the process, whatever it does: its run goes on from its checkpoint another time."""
        self.pipe.close()
        self.process.terminate()
        self.process.join()


class Workers:
    """Compute jobs in several processes, each exactly once.

    Args:
        count: processes.
        store, places: of the jobs.
        tell: is told, in this process, what happens to each job.
    """

    def __init__(
        self, count: int, store: RunStore, places: Places, tell: Callable[[Event], None]
    ) -> None:
        self._count, self._tell = count, tell
        self._given = (store.folder, places)
        self._waiting: deque[_Asked] = deque()
        self._workers: list[_Worker] = []

    def compute(self, jobs: Sequence[Job]) -> None:
        """Compute jobs; interrupted, end all workers."""
        self._waiting = deque(_Asked(job) for job in jobs)
        try:
            while self._waiting or any(w.asked for w in self._workers):
                self._hand_out()
                busy = {worker.pipe: worker for worker in self._workers if worker.asked}
                for pipe in wait(list(busy)):
                    self._hear(busy[pipe])  # type: ignore[index]
        finally:
            for worker in self._workers:
                worker.stop()
            self._workers.clear()

    def _hand_out(self) -> None:
        """Give every idle worker a job, and start workers while jobs are left for them."""
        for asked in [self._waiting.popleft() for _ in range(self._free())]:
            idle = [worker for worker in self._workers if not worker.asked]
            worker = idle[0] if idle else self._start()
            asked.tries += 1
            worker.asked = asked
            try:
                worker.pipe.send((asked.job, asked.wait))
            except OSError:  # it has died: the pipe's end is heard next
                continue

    def _free(self) -> int:
        busy = sum(worker.asked is not None for worker in self._workers)
        return min(len(self._waiting), self._count - busy)

    def _start(self) -> _Worker:
        """Start a worker; `spawn` gives it nothing of this process, its pipes neither."""
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there, *self._given), daemon=True)
        with _environment(THREADS):
            process.start()
        there.close()
        self._workers.append(_Worker(process, here))
        return self._workers[-1]

    def _hear(self, worker: _Worker) -> None:
        """Take what a worker says; the end of its pipe is its death."""
        asked = worker.asked
        assert asked is not None
        try:
            said = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker, asked)
            return
        if isinstance(said, Event):
            self._tell(said)
            return
        worker.asked = None
        if said == ELSEWHERE:  # after all others, and then wait for that process
            self._waiting.append(_Asked(asked.job, wait=True))

    def _bury(self, worker: _Worker, asked: _Asked) -> None:
        """Tell of a worker's death, and give its job out again where that was the first."""
        self._workers.remove(worker)
        worker.stop()
        again = asked.tries < TRIES
        then = "it is tried once more" if again else "free memory, or run it alone"
        self._tell(Event(
            "failed", asked.job,
            said=f"expected a worker that finishes the run, got one that {_death(worker)}; {then}",
        ))  # fmt: skip
        if again:
            self._waiting.append(asked)


def _death(worker: _Worker) -> str:
    code = worker.process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"was ended by {name}" + (", as for want of memory" if name == "SIGKILL" else "")
    return f"ended by itself with code {code}, its error above"


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(pipe: Connection, folder: Any, places: Places) -> None:
    """Compute the jobs that a pipe brings, until it ends: the life of a worker."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is the parent's, who ends this
    torch.set_num_threads(1)
    store = RunStore(folder)
    while True:
        try:
            job, waits = pipe.recv()
        except EOFError:
            return
        try:
            attempt(job, store, places, pipe.send, wait=waits)
            pipe.send(READY)
        except Elsewhere:
            pipe.send(ELSEWHERE)
        except BrokenPipeError:  # the parent has died
            return
