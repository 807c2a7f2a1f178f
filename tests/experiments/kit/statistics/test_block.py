"""The largest whole block of cells and seeds, and what a difference over cells says of the rest."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from experiments.kit.statistics import over_cells
from experiments.kit.statistics.block import largest_block


def best_of_all(cells: dict[int, set[int]]) -> int:
    """Return the most cells times seeds, with two seeds or more, over every subset of seeds."""
    seeds = sorted(set().union(*cells.values()))
    subsets = (set(c) for k in range(2, len(seeds) + 1) for c in combinations(seeds, k))
    return max(len(s) * sum(s <= own for own in cells.values()) for s in subsets)


@pytest.mark.parametrize("seed", range(8))
def test_of_tables_that_grow_by_seeds_it_is_the_best_of_all_blocks(seed) -> None:
    counts = np.random.default_rng(seed).integers(0, 6, size=7)
    cells = {i: set(range(count)) for i, count in enumerate([*counts, 3])}
    chosen, seeds = largest_block(cells)
    assert all(set(seeds) <= cells[i] for i in chosen)
    assert len(chosen) * len(seeds) == best_of_all(cells)


def test_a_cell_without_a_seed_is_outside_and_named() -> None:
    whole = {s: 1.0 + s for s in range(3)}
    zero = dict.fromkeys(range(3), 0.5)
    cells = {
        ("m", "sst2"): (whole, zero),
        ("m", "rte"): (whole, {}),
        ("l", "sst2"): ({7: 9.0},) * 2,
    }
    found = over_cells(cells)
    assert (found.mean, found.n) == (1.5, 3)
    assert "over 1 of 3 cells, without m rte, l sst2, which lack common seeds" in found.sentence()


def test_many_cells_of_one_seed_do_not_hide_a_few_that_decide() -> None:
    cells = {i: ({0: 1.0}, {0: 0.0}) for i in range(20)}
    cells[20] = ({0: 2.0, 1: 2.1, 2: 1.9}, dict.fromkeys(range(3), 0.0))
    assert over_cells(cells).n == 3
