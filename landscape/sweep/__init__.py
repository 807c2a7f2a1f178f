"""Sweeps: a grid becomes runs, each with an address; one store keeps them, each is done once."""

from landscape.sweep.config import RunConfig
from landscape.sweep.driver import run_grid
from landscape.sweep.frame import frame_of, runs
from landscape.sweep.grid import Grid
from landscape.sweep.gridfile import read_grids
from landscape.sweep.joining import Joined, join
from landscape.sweep.published import RowFile, open_rows, read_rows, write_rows
from landscape.sweep.rates import Rates
from landscape.sweep.rows import Row, Rows
from landscape.sweep.store import RunStore

__all__ = [
    "Grid",
    "Joined",
    "Rates",
    "Row",
    "RowFile",
    "Rows",
    "RunConfig",
    "RunStore",
    "frame_of",
    "join",
    "open_rows",
    "read_grids",
    "read_rows",
    "run_grid",
    "runs",
    "write_rows",
]
