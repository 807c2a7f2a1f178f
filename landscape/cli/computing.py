"""Where and how the runs of a sweep are computed, as command lines say it."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from landscape.cli.arguments import device, whole
from landscape.cli.shared import Outcome
from landscape.cli.task import task_folder
from landscape.errors import UserError
from landscape.shown import counted

if TYPE_CHECKING:
    from landscape.sweep.executors import Executor, Places
    from landscape.sweep.grid import Grid
    from landscape.sweep.store import RunStore


def computing_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that say where and how runs are computed."""
    where = parser.add_argument_group("where runs are computed")
    where.add_argument(
        "--executor", choices=("local", "packed", "ray"), default="local",
        help="processes here, runs packed into one, or a Ray cluster (local)",
    )  # fmt: skip
    where.add_argument(
        "--workers", type=whole(least=1), default=1,
        help="processes of local, and of packed for runs that cannot be packed (1)",
    )  # fmt: skip
    where.add_argument(
        "--pack", type=whole(least=1), help="most runs that packed trains together (8)"
    )
    where.add_argument(
        "--shared", action="store_true",
        help="compute beside other processes of the same sweep, wherever the folder is seen",
    )  # fmt: skip
    where.add_argument(
        "--address", help="of the Ray cluster, such as ray://HOST:PORT (this machine's)"
    )
    where.add_argument("--device", type=device, help="where runs are computed, such as cuda (cpu)")
    where.add_argument(
        "--source", action="append", type=task_folder, default=[], metavar="TASK=FOLDER",
        help="folder of a task's files, instead of the hub; repeatable",
    )  # fmt: skip


def computing(chosen: argparse.Namespace) -> tuple[Executor, Places]:
    """Return the executor and the places that a command line says.

    Raises:
        UserError: an argument of another executor, a task with two folders, or Ray is not there.
    """
    from landscape.sweep.driver import executor_of
    from landscape.sweep.executors import Places

    sources: dict[str, str] = {}
    for task, folder in chosen.source:
        if sources.setdefault(task, folder) != folder:
            raise UserError(
                f"expected one --source for {task}, got {sources[task]} and {folder}; leave one out"
            )
    executor = executor_of(
        chosen.executor, workers=chosen.workers, pack=chosen.pack, address=chosen.address,
        shared=chosen.shared,
    )  # fmt: skip
    return executor, Places(sources, chosen.device)


def dry_run_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that asks for a dry run."""
    parser.add_argument("--dry-run", action="store_true", help="say what it would cost, and end")


def dry_run(grids: Sequence[Grid], store: RunStore, places: Places) -> Outcome:
    """Print how many runs grids need, how many a store has, and what the others would cost.

    Raises:
        UserError: a run that is lacking could be computed nowhere.
    """
    from landscape.folders import kind_of
    from landscape.sweep.cost import estimate
    from landscape.sweep.driver import known, lacks
    from landscape.sweep.inputs import refuse_impossible
    from landscape.sweep.progress import duration
    from landscape.sweep.rows import Row

    rows: dict[str, Row] = {}
    jobs = known(grids, store, rows)
    refuse_impossible([job for job in jobs if lacks(rows, job)])
    every = list(store.examined())
    for one in every:
        if isinstance(one, UserError):
            print(f"left out: {one}")
    found = estimate(
        grids, rows, (one for one in every if not isinstance(one, UserError)), places.device
    )
    more, time = found.most - found.known, "of processor time " * (kind_of(places.device) == "cpu")
    of = f"{time}on {found.device}"
    print(f"{counted(found.known, 'run')} needed, {found.finished:,} finished")
    if found.seconds is not None:
        print(f"{duration(found.seconds)} {of}")
    if more:
        print(
            f"up to {more:,} more, once the finished ones choose rates: rates beyond, other seeds"
        )
        if found.most_seconds is not None:
            print(f"at most {duration(found.most_seconds)} {of} with them")
    print("\n".join(found.basis))
    return Outcome({"dry_run": True, **dataclasses.asdict(found)})
