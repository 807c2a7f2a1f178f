"""Computing runs as a command line says: where, by how many processes, from which files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from landscape.cli.arguments import device, whole
from landscape.cli.guard import resuming
from landscape.cli.task import task_folder
from landscape.sweep.grid import Grid


def computing_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that say where and how runs are computed."""
    parser.add_argument(
        "--executor", choices=("local", "packed", "ray"), default="local",
        help="processes here, runs packed into one, or a Ray cluster (local)",
    )  # fmt: skip
    parser.add_argument("--workers", type=whole(least=1), default=1, help="processes of local (1)")
    parser.add_argument(
        "--address", help="of the Ray cluster, such as ray://HOST:PORT (this machine's)"
    )
    parser.add_argument("--device", type=device, help="where runs are computed, such as cuda (cpu)")
    parser.add_argument(
        "--source", action="append", type=task_folder, default=[], metavar="TASK=FOLDER",
        help="a task's files, instead of the hub; repeatable",
    )  # fmt: skip


def compute(chosen: argparse.Namespace, grids: Sequence[Grid], store: Path) -> None:
    """Compute the runs of some grids as the command line says.

    Raises:
        UserError: an argument without a meaning, or as `landscape.run_grid`.
    """
    from landscape.sweep.driver import executor_of, run_grid

    workers = {"workers": chosen.workers} if chosen.executor == "local" else {}
    executor = executor_of(chosen.executor, address=chosen.address, **workers)
    with resuming(store, "store.json"):
        run_grid(grids, store, executor=executor, sources=dict(chosen.source), device=chosen.device)
