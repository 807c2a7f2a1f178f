"""Slices of the loss inside the mask: how much flatter a smaller mask is, and where training went.

Around each trained point two planes: of the two top eigenvectors, all ratios at one displacement,
and of the two principal directions of the training path, each at the path's own extent. At both
ends of training two lines, along the top eigenvector and along a random filter-normalised
direction, at the displacement of the planes. Each slice has its quadratic prediction beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns
from experiments.kit.view import Artefact
from experiments.ours.surfaces_figure import drawn
from experiments.ours.surfaces_report import check, table
from experiments.ours.trained import trained
from landscape.sweep.grid import Grid

SLICES = "experiments.measurements.slices:SLICES"
#: preset -> options of the slices; the span is the displacement a at which a^2 lambda / 2 is 1 for
#: the sharpest mask, known beforehand: lambda is 3.4427 of preset local
SETTINGS: Mapping[str, dict[str, Any]] = {
    "smoke": {"span": 1.0, "plane_points": 3, "line_points": 3, "path_points": 2, "examples": 2,
              "tol": 0.2, "max_matvecs": 10},
    "local": {"span": 0.7621929455143756, "plane_points": 13, "line_points": 15, "path_points": 10,
              "examples": 32, "batch_size": 32, "tol": 0.1, "max_matvecs": 40},
    "paper": {},
}  # fmt: skip


def grids(preset: str) -> Sequence[Grid]:
    """List each mask's training with its slices."""
    return [trained(preset, {SLICES: SETTINGS[preset]})]


ARTEFACT = Artefact(
    name="surfaces",
    title="Slices of the loss inside a mask",
    source="Li et al. 2018 (slices), inside the masks of Xu & Zhang 2024",
    grids=grids,
    tables={"Slices": columns.Lines(table)},
    statements={},
    further=check,
    panels=drawn,
    lead=(
        "The loss on planes and lines in the space of the trainable weights, at three ratios. "
        "Axes are true displacements: the planes of the two top eigenvectors and all lines "
        "have one scale, so a flatter landscape looks flatter; the planes of the training path "
        "have the path's, which goes from the square to the cross. White dashes are the "
        "quadratic prediction from one gradient and two Hessian-vector products."
    ),
    caption="Planes of the top eigenvectors; planes of the training path, with their share of "
    "its squared length; lines at one scale",
)  # fmt: skip
