"""Cells and seeds that are whole: what an unfinished table can be judged by."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from typing import TypeVar

Cell = TypeVar("Cell", bound=Hashable)


def largest_block(cells: Mapping[Cell, Set[int]]) -> tuple[list[Cell], list[int]]:
    """Return the most cells times seeds such that every cell has every seed.

    Which runs are there decides, not what they found. A block of one seed decides nothing and is
    the last choice; of equals the one with more seeds is taken, for seeds are what is repeated.

    Args:
        cells: the seeds of each.

    Returns:
        The cells in their order, and the seeds, ascending: of a whole table all of both, of one
        without a seed none. Considered are each cell's seeds, with the cells that have them all.

    >>> largest_block({"sst2": {0, 1, 2}, "rte": {0, 1, 2}, "boolq": {0}})
    (['sst2', 'rte'], [0, 1, 2])
    >>> largest_block({"sst2": {0, 1}, "rte": {0, 1}} | dict.fromkeys("abc", {0}))
    (['sst2', 'rte'], [0, 1])
    >>> largest_block({"sst2": {0, 1}, "rte": {2}})
    (['sst2'], [0, 1])
    >>> largest_block({"sst2": {0, 1}, "rte": {0, 1}, "cb": {0, 1}, "boolq": {0, 1, 2}})[1]
    [0, 1]
    """
    best: tuple[list[Cell], list[int]] = [], []
    for seeds in filter(None, cells.values()):
        block = [cell for cell, own in cells.items() if seeds <= own], sorted(seeds)
        best = max(best, block, key=_worth)
    return best


def _worth(block: tuple[list[Cell], list[int]]) -> tuple[bool, int, int]:
    chosen, seeds = block
    return len(seeds) > 1, len(chosen) * len(seeds), len(seeds)


def over_which(chosen: Sequence[Cell], cells: Iterable[Cell]) -> str:
    """Say over how many cells a mean is taken, and name those that it leaves out.

    >>> over_which([("m", "sst2")], [("m", "sst2")])
    'over 1 cells'
    >>> over_which([("m", "rte", 0.1)], [("m", "rte", 0.1), ("m", "cb", 1e-05), ("l", "rte", None)])
    'over 1 of 3 cells, without m cb 1e-05, l rte, which lack common seeds'
    """
    every = list(cells)
    out = [cell for cell in every if cell not in chosen]
    if not out:
        return f"over {len(chosen)} cells"
    named = (
        " ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in place if part)
        for place in (cell if isinstance(cell, tuple) else (cell,) for cell in out)
    )
    without = f"without {', '.join(named)}, which lack common seeds"
    return f"over {len(chosen)} of {len(every)} cells, {without}"
