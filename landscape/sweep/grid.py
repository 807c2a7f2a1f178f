"""Grids: the product of some axes, and how each cell's learning rate is found."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from landscape import checks
from landscape.errors import UserError
from landscape.sweep.config import RunConfig
from landscape.sweep.naming import known
from landscape.sweep.rates import Rates

AXES = tuple(f.name for f in dataclasses.fields(RunConfig))
"""Names of the axes: the fields of a run's configuration."""


@dataclass(frozen=True)
class Grid:
    """Hold a grid of runs: values that all share, axes whose product is taken, and rates.

    Args:
        shared: values of `RunConfig` that all runs have.
        axes: name -> values; a name is a field of `RunConfig`, or several joined by "+" that move
            together, whose values are tuples. The last axis moves fastest.
        rates: how the learning rate is chosen where neither `shared` nor an axis says it.
        measure: measurement -> its options, made on every run of the grid; of the runs that only
            find a rate, on none (`landscape.sweep.measurements`).

    Raises:
        UserError: an axis or a measurement that is none (the nearest name is offered); an axis that
            is empty, or is given twice; a value that an axis cannot have; rates beside an lr of all
            runs.
    """

    shared: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    rates: Rates | None = None
    measure: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.instance("shared", self.shared, Mapping, "give a dict of values")
        checks.instance("axes", self.axes, Mapping, "give a dict of lists")
        axes = {name: _values(name, values) for name, values in self.axes.items()}
        seen: set[str] = set()
        for name in (*self.shared, *(part for axis in axes for part in axis.split("+"))):
            known("an axis", name, AXES)
            if name in seen:
                raise UserError(
                    f"expected each axis once, got {name} twice; leave one of the two out"
                )
            seen.add(name)
        _check(self.shared)
        for name, values in axes.items():
            for value in values:
                _check(_named(name, value))
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "measure", _measure(self.measure))
        if self.rates is not None:
            checks.instance("rates", self.rates, Rates, "give a table of tried, over_ratio, ...")
            _refuse_idle(self.shared, axes)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Grid:
        """Make a grid of plain values, as JSON and TOML have them.

        Raises:
            UserError: as the grid itself, or a part that a grid has not.

        >>> grid = Grid.of({"shared": {"ratio": 1e-3}, "axes": {"seed": [0, 1]},
        ...                 "rates": {"tried": [1e-6, 1e-5], "over_ratio": True}})
        >>> grid.rates.start(1e-3)
        (0.001, 0.01)
        """
        checks.instance("a grid", given, Mapping, "give a table of shared, axes, rates, measure")
        parts = [f.name for f in dataclasses.fields(cls)]
        for name in given:
            known("a part of a grid", name, parts)
        rates = given.get("rates")
        return cls(**{**given, "rates": Rates.of(rates) if isinstance(rates, Mapping) else rates})

    def cells(self) -> Iterator[RunConfig]:
        """List the runs of the grid, in order; where rates are chosen, without a learning rate.

        >>> [c.seed for c in Grid({"ratio": 1e-3, "lr": 0.1}, {"seed": [0, 1]}).cells()]
        [0, 1]
        """
        for values in itertools.product(*self.axes.values()):
            cell = dict(self.shared)
            for axis, value in zip(self.axes, values, strict=True):
                cell |= _named(axis, value)
            yield RunConfig.of(cell)


def _refuse_idle(shared: Mapping[str, Any], axes: Mapping[str, Sequence[Any]]) -> None:
    """Refuse rates where every run's rate is given: none of them would be tried."""
    named = [[_named(axis, v)["lr"] for v in values] for axis, values in axes.items()
             if "lr" in axis.split("+")]  # fmt: skip
    given = [[shared.get("lr")], *named]
    if any(all(rate is not None for rate in rates) for rates in given):
        raise UserError(
            "expected a learning rate or rates to choose from, got both, lr and rates; leave one "
            "of the two out"
        )


def _check(given: Mapping[str, Any]) -> None:
    """Refuse values that a run cannot have, and names that nobody knows."""
    RunConfig.of(given)
    for axis, names in _names().items():
        if axis in given:
            known(f"a {axis}", given[axis], names)


def _names() -> dict[str, tuple[str, ...]]:
    """Return the names that there are, on the axes whose values are names."""
    from landscape.sweep.methods import METHODS
    from landscape.tasks import DATASETS, REVIEWS
    from landscape.training.schedule import Kind

    return {"task": (REVIEWS, *DATASETS), "method": METHODS, "schedule": ("", *get_args(Kind))}


def _named(axis: str, value: Any) -> dict[str, Any]:
    """Return the values that one value of an axis gives its parts."""
    parts = axis.split("+")
    return dict(zip(parts, value if len(parts) > 1 else (value,), strict=True))


def _values(axis: str, values: Any) -> tuple[Any, ...]:
    """Return the values of an axis, each once."""
    checks.several(f"the axis {axis}", values, "values")
    found = tuple(values)
    if not found:
        raise UserError(f"expected values on the axis {axis}, got none; give some or leave it out")
    parts = axis.split("+")
    for place, value in enumerate(found):
        fits = isinstance(value, list | tuple) and len(value) == len(parts)
        if len(parts) > 1 and not fits:
            what = f"the axis {axis} to have values of {len(parts)} parts each"
            raise UserError(f"expected {what}, got {checks.shown(value)}; give a list of such")
        if value in found[:place]:
            raise UserError(
                f"expected different values on the axis {axis}, got {checks.shown(value)} twice; "
                "leave one out"
            )
    return found


def _measure(given: Any) -> dict[str, Mapping[str, Any]]:
    """Return measurements that there are with their options; names alone have none."""
    if not isinstance(given, Mapping):
        names = [given] if isinstance(given, str) else checks.texts("measure", given)
        given = {name: {} for name in names}
    from landscape.sweep.measurements import measurement_named

    for name, options in given.items():
        has = measurement_named(name).options
        checks.instance(f"the options of {name}", options, Mapping, "give a dict, {} for none")
        for option in options:
            known(f"an option of {name}", option, options if has is None else has)
    return dict(given)
