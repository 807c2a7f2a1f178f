"""The local executor: runs of a sweep one after the other in this process, or in several."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from landscape import checks
from landscape.sweep.changed import refuse_changed
from landscape.sweep.executors.executor import Event, Executor, Job, Places
from landscape.sweep.executors.workers import Workers
from landscape.sweep.inputs import refuse_lacking
from landscape.sweep.lock import Elsewhere
from landscape.sweep.running import attempt, is_done
from landscape.sweep.store import RunStore


def local(workers: int = 1) -> Executor:
    """Return an executor that computes runs on this machine.

    Whatever ends it, an interruption or a kill of any of its processes, the store keeps what is
    finished, and the next call goes on where this one was.

    Args:
        workers: processes, at least 1. 1 is this process, with the threads it has; more are started
            anew with one thread of torch each, whose rounding is another than that of several
            threads. A worker that is killed has its job told as failed and tried once more.

    Raises:
        UserError: a number below 1; called, the executor raises before it computes any run
            where this machine lacks a package, model, task or device that runs need, or where the
            store's finished runs had other files.
    """
    return _Local(checks.whole("workers", workers, least=1))


@dataclass(frozen=True)
class _Local:
    workers: int

    def __call__(
        self, jobs: Sequence[Job], store: RunStore, places: Places, tell: Callable[[Event], None]
    ) -> None:
        store.create()
        left = [job for job in jobs if not is_done(job, store)]
        refuse_lacking(left, places)
        refuse_changed(left, store, places)
        if self.workers > 1 and left:  # one alone too: it may go on with a worker's, to the bit
            Workers(min(self.workers, len(left)), store, places, tell).compute(left)
            return
        here, elsewhere = deque(left), deque[Job]()
        while here or elsewhere:
            wait = not here  # what another process computes comes last
            job = (here or elsewhere).popleft()
            try:
                attempt(job, store, places, tell, wait=wait)
            except Elsewhere:
                elsewhere.append(job)
