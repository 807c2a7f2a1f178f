"""Computing the runs of artefacts as a command line says: where, by how many, from which files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from landscape.cli.computing import computing, computing_arguments, dry_run, dry_run_argument
from landscape.cli.guard import resuming
from landscape.cli.shared import Outcome
from landscape.sweep.grid import Grid

__all__ = ["compute", "computing_arguments", "cost", "dry_run_argument"]


def compute(chosen: argparse.Namespace, grids: Sequence[Grid], store: Path) -> None:
    """Compute the runs of some grids as the command line says.

    Raises:
        UserError: an argument without a meaning, or as `landscape.run_grid`.
    """
    from landscape.sweep.driver import run_grid

    executor, places = computing(chosen)
    with resuming(store, "store.json"):
        run_grid(
            grids, store, executor=executor, shared=chosen.shared, sources=places.sources,
            device=places.device,
        )  # fmt: skip


def cost(chosen: argparse.Namespace, grids: Sequence[Grid], store: Path) -> Outcome:
    """Say how many runs grids need, how many a store has, and what the others would cost.

    Raises:
        UserError: an argument without a meaning, or a grid that cannot be.
    """
    from landscape.sweep.store import RunStore

    _, places = computing(chosen)
    return dry_run(grids, RunStore(store), places)
