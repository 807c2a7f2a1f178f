"""Cells and seeds that are whole: what an unfinished table can be judged by."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Set
from typing import TypeVar

Cell = TypeVar("Cell", bound=Hashable)


def largest_block(cells: Mapping[Cell, Set[int]]) -> tuple[list[Cell], list[int]]:
    """Return the most cells times seeds such that every cell has every seed.

    What runs are there decides, not what they found: the block is the same whatever the values.
    Of equals the one with more seeds is taken, for seeds are what is repeated.

    Args:
        cells: the seeds of each.

    Returns:
        The cells in their order, and the seeds, ascending; of a whole table all of both. Only
        blocks that are the cells with some least number of seeds are considered.

    >>> largest_block({"sst2": {0, 1, 2}, "rte": {0, 1, 2}, "boolq": {0}})
    (['sst2', 'rte'], [0, 1, 2])
    >>> largest_block({"sst2": {0, 1}, "rte": {0, 1}, "cb": {0, 1}, "boolq": {0, 1, 2}})[1]
    [0, 1]
    """
    blocks = []
    for least in {len(seeds) for seeds in cells.values()}:
        chosen = [cell for cell, seeds in cells.items() if len(seeds) >= least]
        blocks.append((chosen, sorted(set.intersection(*(set(cells[cell]) for cell in chosen)))))
    if not blocks:
        return [], []
    return max(blocks, key=lambda block: (len(block[0]) * len(block[1]), len(block[1])))


def over_how_many(chosen: int, cells: int) -> str:
    """Say over how many cells a mean is taken.

    >>> over_how_many(2, 2), over_how_many(5, 7)
    ('over 2 cells', 'over 5 of 7 cells, the others lack seeds')
    """
    return (
        f"over {cells} cells"
        if chosen == cells
        else (f"over {chosen} of {cells} cells, the others lack seeds")
    )
