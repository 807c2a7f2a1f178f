from .config import RunConfig
from .driver import run_grid
from .frame import frame_of, runs
from .grid import Grid
from .gridfile import read_grids
from .joining import Joined, join
from .published import RowFile, open_rows, read_rows, write_rows
from .rates import Rates
from .rows import Row, Rows
from .store import RunStore

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
