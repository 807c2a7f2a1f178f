"""Dealing rows to train, dev and test, so that rows that belong together stay together."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from landscape.errors import UserError


def deal(
    keys: Sequence[Sequence[Hashable]], shares: Mapping[str, float], seed: int, name: str
) -> dict[str, list[int]]:
    """Deal rows to "train" and to the splits that take a share.

    Rows with a key in common, directly or through others, are in one split. Such units are taken
    in random order; each goes to the first split of the shares that still has room for all of it,
    or else to train. So no split gets more than its share, and without common keys each gets
    exactly that, rounded. It is not stratified: a share of a class is what chance makes it.

    Args:
        keys: of each row.
        shares: split -> share of all rows, above 0, of together less than 1.
        seed: of the order.
        name: of the data, for sentences.

    Returns:
        Split -> indices of rows, in random order.

    Raises:
        UserError: a split gets no row.

    >>> found = deal([("a",), ("b",), ("a",), ("c",)], {"test": 0.25}, 0, "four rows")
    >>> {split: sorted(rows) for split, rows in found.items()}
    {'test': [1], 'train': [0, 2, 3]}
    """
    units, random = _units(keys), np.random.RandomState(seed)
    room = {split: max(1, round(share * len(keys))) for split, share in shares.items()}
    found: dict[str, list[int]] = {split: [] for split in (*shares, "train")}
    for i in random.permutation(len(units)):
        unit = units[i]
        split = next((s for s, most in room.items() if len(found[s]) + len(unit) <= most), "train")
        found[split] += unit
    for split, rows in found.items():
        if not rows:
            sizes = sorted(map(len, units))
            most = f", for which there is room for {room[split]:,}" if split in room else ""
            raise UserError(
                f"expected rows of {name} for {split}{most}, got none: its {len(keys):,} rows make "
                f"{len(units):,} groups that stay together, of {sizes[0]:,} to {sizes[-1]:,} rows; "
                "give more rows, other shares, or files for dev and test"
            )
    return {split: [rows[i] for i in random.permutation(len(rows))]
            for split, rows in found.items()}  # fmt: skip


def _units(keys: Sequence[Sequence[Hashable]]) -> list[list[int]]:
    """Join rows with a common key, in the order of their first rows."""
    parent = list(range(len(keys)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[Hashable, int] = {}
    for i, own in enumerate(keys):
        for key in own:
            a, b = root(first.setdefault(key, i)), root(i)
            parent[max(a, b)] = min(a, b)
    units: dict[int, list[int]] = {}
    for i in range(len(keys)):
        units.setdefault(root(i), []).append(i)
    return list(units.values())
