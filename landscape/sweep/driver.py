"""The driver of a sweep: plan, compute what is lacking, plan again, until nothing is wanted."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from landscape import checks
from landscape.errors import UserError
from landscape.sweep.executors import Event, Executor, Job, Places
from landscape.sweep.grid import Grid
from landscape.sweep.gridfile import Grids, grids_of
from landscape.sweep.measurements import key
from landscape.sweep.naming import known as known_name
from landscape.sweep.plan import at_most, wanted
from landscape.sweep.progress import Progress, differing, label
from landscape.sweep.rows import Row
from landscape.sweep.store import RunStore

if TYPE_CHECKING:
    import pandas as pd

ExecutorName = Literal["local", "packed", "ray"]
UNDONE = "it was neither finished nor refused; run the sweep again"


@dataclass
class Swept:
    """Hold what a sweep came to.

    Args:
        jobs: all that the grids need, as far as the rows tell.
        rows: the finished ones, by address.
        failed: address -> the sentence of a job that failed.
    """

    jobs: Sequence[Job] = ()
    rows: dict[str, Row] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def diverged(self) -> list[str]:
        """Return the addresses of the runs that diverged, which are results."""
        return [run for run in self._runs() if self.rows[run]["outcome"]["diverged"]]

    @property
    def ordered(self) -> list[Row]:
        """Return the finished rows in the order of the grids."""
        return [self.rows[run] for run in self._runs()]

    def sentences(self) -> list[str]:
        """Return what is to be said of each job that failed."""
        configs = {job.config.address: job.config for job in self.jobs}
        names = differing(list(configs.values()))
        return [f"{label(configs[run], names)}: {said}" for run, said in self.failed.items()]

    def _runs(self) -> list[str]:
        runs = dict.fromkeys(job.config.address for job in self.jobs)
        return [run for run in runs if run in self.rows]


def run_grid(
    grid: Grids,
    folder: str | Path,
    *,
    executor: ExecutorName | Executor = "local",
    workers: int = 1,
    pack: int | None = None,
    shared: bool = False,
    sources: Mapping[str, str] | None = None,
    device: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Compute the runs of a grid that a store lacks, and return the grid's runs as a frame.

    What was finished before, by this grid or another, is not computed again: a sweep that was
    stopped, or killed, goes on by the same call, and a grid that has grown computes what is new.

    Args:
        grid: one or several; also plain values, or the path of a file (`landscape.sweep.gridfile`).
        folder: of the store; made where it is missing.
        executor: "local", in processes of this machine; "packed", runs that share a frozen model
            together in one; "ray", on a Ray cluster; or one of your own.
        workers: processes of "local", and of "packed" for what is computed alone.
        pack: most runs that "packed" trains together; None is 8.
        shared: compute what other processes leave, which call the same at the same time, from any
            machine that sees the folder; the executor is "local". A run that one of them was killed
            in is gone on with by the next.
        sources: task -> folder with its files, instead of the hub.
        device: such as "cuda"; None is the CPU.
        progress: whether to show what is done.

    Returns:
        A row a run of the grid, in its order, with the columns of `landscape.runs`. Runs that
        diverged are results.

    Raises:
        UserError: a grid that cannot be, a folder that another sweep writes; a disk that is full or
            cannot be written, which ends it; or runs that failed: the others are finished first,
            and kept.
    """
    from landscape.sweep.frame import frame_of

    grids, store = grids_of(grid), RunStore(folder)
    places = Places({} if sources is None else dict(sources), device)
    computing = executor
    if isinstance(computing, str):
        computing = executor_of(computing, workers=workers, pack=pack, shared=shared)
    elif pack is not None:
        raise _no_pack("an executor of your own", pack)
    found = sweep(grids, store, computing, places, Progress(progress), shared=shared)
    if found.failed:
        raise UserError(
            f"expected every run to finish, got {len(found.failed)} that failed; mend what they "
            f"say and call again, the others are kept in {store.folder}: "
            + "; ".join(found.sentences()[:3])
        )
    return frame_of(found.ordered)


def executor_of(
    name: str,
    *,
    workers: int = 1,
    pack: int | None = None,
    address: str | None = None,
    shared: bool = False,
) -> Executor:
    """Return an executor by its name.

    Args:
        name: "local", "packed" or "ray".
        workers: processes of "local", and of "packed" for what is computed alone.
        pack: most runs that "packed" trains together; None is 8.
        address: of a Ray cluster.
        shared: whether other processes compute the same sweep, which "local" knows to leave theirs.

    Raises:
        UserError: an unknown name, or a setting of another executor.
    """
    checks.choice("executor", name, get_args(ExecutorName))
    if workers != 1 and name == "ray":
        raise UserError(f"expected one worker with ray, got {workers}; its cluster says how many")
    if shared and name != "local":
        raise UserError(
            f"expected the executor local for a sweep that several processes share, got {name}; "
            "leave one of the two out"
        )
    if address is not None and name != "ray":
        raise UserError(f"expected no address with {name}, got {address}; it is of ray")
    if pack is not None and name != "packed":
        raise _no_pack(name, pack)
    options: dict[str, dict[str, Any]] = {
        "local": {"workers": workers},
        "packed": {"workers": workers} | ({} if pack is None else {"pack": pack}),
        "ray": {"address": address},
    }
    made = getattr(importlib.import_module(f"landscape.sweep.executors.{name}"), name)
    found: Executor = made(**options.get(name, {}))
    return found


def _no_pack(executor: str, pack: int) -> UserError:
    return UserError(
        f"expected no pack with {executor}, got {pack}; it is of packed: name that, or leave it out"
    )


def sweep(
    grids: Sequence[Grid],
    store: RunStore,
    executor: Executor,
    places: Places,
    progress: Progress,
    *,
    shared: bool = False,
) -> Swept:
    """Compute what grids need and a store lacks; every job is given to the executor once.

    Args:
        grids: checked before anything is computed.
        store: locked meanwhile.
        executor: called with the jobs that are lacking, again whenever their rows made more wanted.
        places: where inputs lie.
        progress: shown meanwhile.
        shared: lock the store for all processes that share it; damaged runs stay where they are.

    Returns:
        The jobs, finished and failed; a job that failed holds up those that follow from it alone.

    Raises:
        UserError: a grid that cannot be, a source of a task that it has not, a store that another
            sweep has locked, or a disk that is full or cannot be written.
    """
    tasks = dict.fromkeys(job.config.task for job in wanted(grids, {}))
    for name in places.sources:
        known_name("sources of tasks that the grid has", name, tasks)
    found, given = Swept(), set[str]()

    def tell(event: Event) -> None:
        if event.ends:
            raise UserError(event.said)
        if event.kind == "failed":
            found.failed[event.job.config.address] = event.said
        elif event.kind in ("finished", "diverged"):  # also one that was tried once more
            found.failed.pop(event.job.config.address, None)
        progress.tell(event)

    with store.locked(shared=shared), progress:
        for said in [] if shared else store.set_aside():
            progress.note(said)
        while True:
            found.jobs = known(grids, store, found.rows)
            open_ = [job for job in found.jobs if lacks(found.rows, job)]
            batch = _one_a_run([job for job in open_ if _asked(job) not in given])
            most = at_most(grids, found.rows)
            progress.plan(found.jobs, open_, len(found.diverged), most)
            if not batch:
                for job in open_:
                    found.failed.setdefault(job.config.address, UNDONE)
                left = {job.config.address for job in open_}  # another process finishes runs too
                found.failed = {run: said for run, said in found.failed.items() if run in left}
                return found
            given.update(map(_asked, batch))
            executor(batch, store, places, tell)
            for run in (*(job.config.address for job in batch), *found.failed):
                found.rows.pop(run, None)  # what was measured since is in the row


def known(grids: Sequence[Grid], store: RunStore, rows: dict[str, Row]) -> list[Job]:
    """Plan with the rows that a store has, of which those that are new are added to `rows`."""
    while True:
        jobs = wanted(grids, rows)
        new = {job.config.address: job.config for job in jobs if job.config.address not in rows}
        there = {run: store.row(config) for run, config in new.items() if config in store}
        if not there:
            return jobs
        rows.update(there)


def lacks(rows: Mapping[str, Row], job: Job) -> bool:
    """Tell whether a job is not finished: its row is missing, or what is measured on it."""
    row = rows.get(job.config.address)
    return row is None or any(key(n, how) not in row["measured"] for n, how in job.measure.items())


def _asked(job: Job) -> str:
    """Return what distinguishes a job from others of the same run."""
    keys = sorted(key(name, options) for name, options in job.measure.items())
    return " ".join([job.config.address, *keys])


def _one_a_run(jobs: Sequence[Job]) -> list[Job]:
    """Return the first job of each run: two at once would compute it twice."""
    found: dict[str, Job] = {}
    for job in jobs:
        found.setdefault(job.config.address, job)
    return list(found.values())
