"""Figures of one instance, one file a law; each scans p by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from landscape.errors import UserError
from landscape.figures.canvas import save
from landscape.figures.style import look
from theory.figures.concentration import concentration
from theory.figures.constants import constants
from theory.figures.descents import descents
from theory.figures.distances import distances
from theory.figures.nested import nested
from theory.figures.scan import FEWEST
from theory.figures.signs import signs
from theory.figures.stability import stability
from theory.figures.trajectories import trajectories
from theory.problems import MaskedRegression

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES: dict[str, Callable[[MaskedRegression, int], Figure]] = {
    "concentration": concentration,
    "stability": stability,
    "trajectories": trajectories,
    "distances": distances,
    "signs": signs,
    "nested": nested,
    "descents": descents,
    "constants": constants,
}


def draw_figure(name: str, problem: MaskedRegression, seed: int = 0) -> Figure:
    """Draw one figure of an instance; its p is not used, the figures scan it.

    Args:
        name: one of ``FIGURES``.
        problem: at least 100 features, not all zero.
        seed: of the masks.

    Raises:
        UserError: an unknown name, too few features to scan p, or X = 0.
    """
    if name not in FIGURES:
        raise UserError(
            f"expected a figure among {', '.join(FIGURES)}, got {name!r}; choose one of them"
        )
    if problem.d < 5 * FEWEST or problem.moments.top == 0:
        raise UserError(
            f"expected at least {5 * FEWEST} features, not all zero, to draw figures, got "
            f"{problem.name}; raise --d"
        )
    with look():
        return FIGURES[name](problem, seed)


def draw_figures(problem: MaskedRegression, folder: str | Path, seed: int = 0) -> list[Path]:
    """Draw all figures of an instance as PNG files; see ``draw_figure``.

    Args:
        problem: at least 100 features, not all zero.
        folder: made where it is missing.
        seed: of the masks.

    Returns:
        The files. Cost: some hundred masks at p from 1/100 to 1; seconds at n = 32, d = 1e5.

    Raises:
        UserError: too few features to scan p, X = 0, or a folder that cannot be made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"expected a folder for figures, got {folder} ({error}); choose another"
        ) from None
    paths = [folder / f"{name}.png" for name in FIGURES]
    for path in paths:
        save(draw_figure(path.stem, problem, seed), path)
    return paths
