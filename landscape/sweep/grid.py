"""Grids: the product of some axes, and how each cell's learning rate is found."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from landscape.errors import UserError
from landscape.sweep.config import RunConfig, nearest


@dataclass(frozen=True)
class Rates:
    """Say how a cell's learning rate is chosen: on dev with the first seed, from rates that widen.

    Args:
        tried: each of these over the ratio (`over_ratio`), or as they stand.
        over_ratio: whether they are divided by the cell's ratio.
        most: largest rate tried.
        widen: how often the grid may grow, by its own step, while the best lies on its edge.
        every_seed: whether each seed chooses its own rate, or the first for all.
    """

    tried: tuple[float, ...]
    over_ratio: bool = False
    most: float = 1.0
    widen: int = 2
    every_seed: bool = False


@dataclass(frozen=True)
class Grid:
    """Hold a grid of runs: values that all share, axes whose product is taken, and rates.

    Args:
        shared: values of `RunConfig` that all runs have.
        axes: name -> values; a name is a field of `RunConfig`, or several joined by "+" that move
            together, whose values are tuples. The last axis moves fastest.
        rates: how the learning rate is chosen where neither `shared` nor an axis says it.
        measure: measurement -> its options, made on every run (`landscape.sweep.measurements`).
    """

    shared: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    rates: Rates | None = None
    measure: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = [f.name for f in dataclasses.fields(RunConfig)]
        for axis in (*self.shared, *(part for a in self.axes for part in a.split("+"))):
            if axis not in known:
                raise UserError(
                    f"expected an axis among {', '.join(known)}, got {axis!r}{nearest(axis, known)}"
                )

    def cells(self) -> Iterator[RunConfig]:
        """List the runs of the grid, in order; where rates are chosen, without a learning rate.

        >>> [c.seed for c in Grid({"ratio": 1e-3, "lr": 0.1}, {"seed": [0, 1]}).cells()]
        [0, 1]
        """
        names = [axis.split("+") for axis in self.axes]
        for values in itertools.product(*self.axes.values()):
            cell = dict(self.shared)
            for parts, value in zip(names, values, strict=True):
                cell |= zip(parts, value if len(parts) > 1 else (value,), strict=True)
            yield RunConfig.of(cell)
