"""Cells: what an artefact measures, each named by its coordinates; keys follow from them.

A cell is a dict of a kind and coordinates, such as ``{"kind": "train", "ratio": 1e-3, "rate": 0.01,
"seed": 0}``. An artefact lists its cells from its configuration alone; a coordinate that only the
rows decide, such as the learning rate that dev chooses, is None until they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Cell = dict[str, Any]


class Rows(Protocol):
    """Give the row of a key."""

    def __getitem__(self, key: str, /) -> Mapping[str, Any]:
        """Return the row."""


def key(cell: Mapping[str, Any]) -> str:
    """Return the key of a cell's row: kind and texts as they are, numbers with their names.

    >>> key({"kind": "train", "mask": "random", "ratio": 1e-3, "rate": None, "seed": 1})
    'train/random/ratio=0.001/*/seed=1'
    """
    return "/".join(_written(name, value) for name, value in cell.items())


def _written(name: str, value: Any) -> str:
    if value is None or isinstance(value, str):
        return "*" if value is None else value
    return f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"


def tuned(cell: Cell, rates: Sequence[float], seed: int, first: int) -> list[Cell]:
    """List the training cells of one seed: every rate with the first seed, else the best alone.

    Args:
        cell: kind and coordinates, without rate and seed.
        rates: the learning rates tried with the first seed.
        seed: of these cells.
        first: the seed that chooses.

    >>> tuned({"kind": "train"}, (0.1, 0.2), seed=1, first=0)
    [{'kind': 'train', 'rate': None, 'seed': 1}]
    """
    tried: Sequence[float | None] = rates if seed == first else (None,)
    return [{**cell, "rate": rate, "seed": seed} for rate in tried]


def chosen(rows: Rows, cell: Cell, rates: Sequence[float], seed: int, first: int) -> Cell:
    """Return the training cell of a seed at the rate that was best on dev with the first seed.

    Args:
        rows: those of the first seed, by their keys.
        cell: as for `tuned`.
        rates: as for `tuned`.
        seed: of the cell that is returned.
        first: the seed that chooses.
    """
    tried = [rows[key(cell | {"rate": rate, "seed": first})] for rate in rates]
    return cell | {"rate": float(best_on_dev(tried)["rate"]), "seed": seed}


def best_on_dev(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the row with the best dev accuracy; ties go to the lower loss, then to the first."""
    return max(rows, key=lambda row: (row.get("dev_accuracy", -1.0), -row.get("dev_loss", 1e9)))
