"""The one way in which rows become train, dev and test, as in the papers' code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from landscape.errors import UserError

_Row = TypeVar("_Row")


class Sizes(NamedTuple):
    """Hold how many examples each split gets."""

    train: int
    dev: int
    test: int


PAPERS = Sizes(train=1000, dev=500, test=1000)
"""Sizes in the papers' protocol, where a data set has so many rows."""


def split_rows(
    name: str, training: Sequence[_Row], validation: Sequence[_Row], sizes: Sizes, seed: int
) -> tuple[list[_Row], list[_Row], list[_Row]]:
    """Deal rows to train, dev and test.

    One permutation of the training rows gives train (its first) and dev (those after them); test
    is the first of a permutation of the validation rows with the same seed, or all of them where
    they are fewer. The permutation is numpy's legacy one, as in the papers' code; the global
    random state is left alone.

    Args:
        name: of the task, for sentences.
        training: rows of the official training split.
        validation: rows of the official validation split, whose labels are public.
        sizes: at least 1 each.
        seed: of both permutations.

    Returns:
        The rows of train, dev and test.

    Raises:
        UserError: no rows, or more training and dev examples than there are rows.

    Source: Malladi et al. 2023 (MeZO), whose data code Xu & Zhang 2024 take.
    """
    if sizes.train + sizes.dev > len(training):
        raise UserError(
            f"expected at most {len(training)} training and dev examples together, the rows of "
            f"the training split of {name}, got {sizes.train} + {sizes.dev}: some would be in "
            "both; ask for fewer"
        )
    order = np.random.RandomState(seed).permutation(len(training))
    tested = np.random.RandomState(seed).permutation(len(validation))[: sizes.test]
    return (
        [training[i] for i in order[: sizes.train]],
        [training[i] for i in order[sizes.train : sizes.train + sizes.dev]],
        [validation[i] for i in tested],
    )


def split_one_file(
    name: str, rows: Sequence[_Row], sizes: Sizes, seed: int
) -> tuple[list[_Row], list[_Row], list[_Row]]:
    """Deal the rows of a data set without a training split to train, dev and test.

    The three follow each other in the permutation of `split_rows`; test is all that is left where
    that is less.

    Args:
        name, sizes, seed: as of `split_rows`.
        rows: all there are, each once.

    Raises:
        UserError: no row is left for test.
    """
    if sizes.train + sizes.dev >= len(rows):
        raise UserError(
            f"expected fewer than {len(rows)} training and dev examples together, the rows of the "
            f"one file of {name}, got {sizes.train} + {sizes.dev}: none would be left for test; "
            "ask for fewer"
        )
    train, dev, _ = split_rows(name, rows, (), sizes, seed)
    order = np.random.RandomState(seed).permutation(len(rows))
    held = order[sizes.train + sizes.dev :][: sizes.test]
    return train, dev, [rows[i] for i in held]
