"""What of a surface can be drawn: its finite cells, their levels, a way over them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import Tensor

from landscape.errors import UserError
from landscape.surface import Surface


def drawable(surface: Surface, trajectory: Tensor | None = None) -> np.ma.MaskedArray:
    """Return the losses of a surface, those masked that are not finite.

    Raises:
        UserError: no cell is finite, or the trajectory is none of this surface.
    """
    losses: np.ma.MaskedArray = np.ma.masked_invalid(surface.losses.numpy())
    if losses.count() == 0:
        raise UserError("expected a finite loss somewhere, got none; take a smaller span")
    if trajectory is not None and trajectory.shape[1:] != (len(surface.axes),):
        raise UserError(
            f"expected a trajectory of shape (points, {len(surface.axes)}), got "
            f"{tuple(trajectory.shape)}; project it on the directions of this surface"
        )
    return losses


def levels(losses: np.ma.MaskedArray, count: int) -> np.ndarray:
    """Return at most so many levels, equidistant in rank, the lowest and the highest loss included.

    A surface of a single loss has two levels around it.
    """
    found = np.unique(np.quantile(losses.compressed(), np.linspace(0, 1, count)))
    return found if len(found) > 1 else found[0] + np.array([-0.5, 0.5])


def written(values: Iterable[float]) -> list[str]:
    """Return numbers with as many digits, three to nine, as tell apart those that differ.

    >>> written([0.6948, 0.6951, 0.6954]), written([0.5, 0.5, 12.0])
    (['0.6948', '0.6951', '0.6954'], ['0.5', '0.5', '12'])
    """
    at, most = list(values), 9
    different = len({f"{value:.{most}g}" for value in at})
    digits = next(n for n in range(3, most + 1) if len({f"{v:.{n}g}" for v in at}) == different)
    return [f"{value:.{digits}g}" for value in at]


def lowest(losses: np.ma.MaskedArray) -> tuple[int, ...]:
    """Return the indices of the cell with the lowest loss."""
    return tuple(int(i) for i in np.unravel_index(losses.argmin(), losses.shape))
