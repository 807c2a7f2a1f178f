"""Files of grids: TOML or JSON, one grid or several that share some of their parts."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from landscape import checks
from landscape.errors import UserError
from landscape.folders import read_json
from landscape.sweep.grid import Grid

Grids: TypeAlias = "Grid | Mapping[str, Any] | str | Path | Iterable[Grid | Mapping[str, Any]]"
"""What a sweep takes: a grid, one in plain values, a file of them, or several."""


def grids_of(given: Grids) -> list[Grid]:
    """Return the grids that were given in any of the ways of `Grids`.

    Raises:
        UserError: none was, or one of them cannot be.

    >>> len(grids_of([{"shared": {"lr": 0.1}}, Grid({"lr": 0.2})]))
    2
    """
    if isinstance(given, str | Path):
        return read_grids(given)
    if isinstance(given, Grid):
        return [given]
    if isinstance(given, Mapping):
        return _grids(given)
    checks.several("grid", given, "grids")
    found = [one for several in given for one in grids_of(several)]
    if not found:
        raise UserError("expected a grid, got none; give at least one")
    return found


def read_grids(path: str | Path) -> list[Grid]:
    """Read the grids of a file.

    The file holds a grid: tables ``shared``, ``axes``, ``rates`` and ``measure``; or several, as
    ``[[grid]]`` (in JSON, a list under "grid"), each of which has its own tables added to those
    that stand outside:

        shared = {task = "sst2", lr = 1e-3}
        axes = {seed = [0, 1, 2]}
        [[grid]]
        axes = {ratio = [1e-2, 1e-3]}
        [[grid]]
        shared = {method = "bitfit"}

    Args:
        path: of a file that ends in .toml or .json.

    Raises:
        UserError: the file cannot be read, or a grid of it cannot be; the sentence names the file.
    """
    place = Path(path).expanduser()
    if place.suffix.lower() not in (".toml", ".json"):
        raise UserError(f"expected a file of grids in TOML or JSON, got {path}; name one of them")
    found = read_json(place) if place.suffix.lower() == ".json" else _toml(place)
    try:
        return _grids(found)
    except UserError as error:
        raise UserError(f"in {path}: {error}") from None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).split(";")[0]
        raise UserError(
            f"expected TOML in {path}, could not read it: {reason}; mend or name the file"
        ) from None


def _grids(given: Mapping[str, Any]) -> list[Grid]:
    """Return the grids of a table: itself, or those under "grid", each with what stands outside."""
    if "grid" not in given:
        return [Grid.of(given)]
    outside = {name: value for name, value in given.items() if name != "grid"}
    checks.several("grid", given["grid"], "tables; write each as [[grid]]")
    found = [Grid.of(_joined(outside, inside)) for inside in given["grid"]]
    if not found:
        raise UserError("expected a grid, got none; give at least one [[grid]]")
    return found


def _joined(outside: Mapping[str, Any], inside: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a grid: tables are joined, and what stands inside wins."""
    checks.instance("a grid", inside, Mapping, "give a table of shared, axes, rates, measure")
    joined = {**outside, **inside}
    for name in outside.keys() & inside.keys():
        if isinstance(outside[name], Mapping) and isinstance(inside[name], Mapping):
            joined[name] = {**outside[name], **inside[name]}
    return joined
