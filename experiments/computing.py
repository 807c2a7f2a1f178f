"""Computing the runs of artefacts as a command line says: where, by how many, from which files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from landscape.cli.computing import computing, computing_arguments
from landscape.cli.guard import resuming
from landscape.sweep.grid import Grid

__all__ = ["compute", "computing_arguments"]


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
