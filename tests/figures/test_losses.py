"""What of a surface is drawn, by hand: its finite cells, levels of equal rank, the lowest cell."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from landscape.errors import UserError
from landscape.figures.losses import drawable, levels, lowest, written
from landscape.surface import Surface

AXIS = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
LOSSES = [[math.nan, 4.0, 3.0], [8.0, 1.0, 2.0], [math.inf, 6.0, 5.0]]


def surface(losses: list[list[float]] = LOSSES) -> Surface:
    return Surface((AXIS, AXIS), torch.tensor(losses, dtype=torch.float64), 1.0)


def test_cells_that_are_not_finite_are_masked_and_no_others() -> None:
    found = drawable(surface())
    assert found.mask.tolist() == [[True, False, False], [False] * 3, [True, False, False]]
    assert found.compressed().tolist() == [4.0, 3.0, 8.0, 1.0, 2.0, 6.0, 5.0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.6948, 0.6951, 0.6954], ["0.6948", "0.6951", "0.6954"]),
        ([1.5, 1.5, 20.0], ["1.5", "1.5", "20"]),  # the same number is the same word
        ([0.1, 0.1 + 1e-12, 0.104], ["0.1", "0.1", "0.104"]),  # rounding is no difference
        ([1.0, 1.00000001], ["1", "1.00000001"]),
        ([], []),
    ],
)
def test_numbers_have_as_many_digits_as_tell_them_apart_and_three_at_least(values, words) -> None:
    assert written(values) == words


def test_a_surface_without_a_finite_cell_is_refused() -> None:
    with pytest.raises(UserError, match="a finite loss somewhere, got none; take a smaller span"):
        drawable(surface([[math.nan, math.inf, -math.inf]]))


def test_a_trajectory_has_a_coordinate_for_each_axis() -> None:
    assert drawable(surface(), torch.zeros(5, 2)).shape == (3, 3)
    for shape in ((5, 3), (5, 1), (2,)):
        with pytest.raises(UserError, match=r"of shape \(points, 2\), got \(.*; project it"):
            drawable(surface(), torch.zeros(shape))


def test_levels_are_equidistant_in_rank_and_include_both_ends() -> None:
    losses = drawable(surface())  # 1 2 3 4 5 6 8
    assert levels(losses, 2) == pytest.approx([1, 8])
    assert levels(losses, 3) == pytest.approx([1, 4, 8])
    assert levels(losses, 7) == pytest.approx([1, 2, 3, 4, 5, 6, 8])
    assert levels(losses, 4) == pytest.approx([1, 3, 5, 8])


def test_equal_losses_share_a_level_and_a_single_loss_lies_between_two() -> None:
    some = np.ma.masked_invalid([[2.0, 2.0, 2.0, 2.0, 7.0]])
    assert levels(some, 5) == pytest.approx([2, 7])
    assert levels(np.ma.masked_invalid([[3.0, math.nan]]), 5).tolist() == [2.5, 3.5]


def test_the_lowest_cell_is_the_first_of_the_finite_ones() -> None:
    assert lowest(drawable(surface())) == (1, 1)
    assert lowest(drawable(surface([[-math.inf, 5.0, 4.0], [4.0, 9.0, 9.0]]))) == (0, 2)
