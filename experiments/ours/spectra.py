"""The spectrum of the masked Hessian before and after training, from a few matvecs.

At every ratio and at both ends, beside the exact spectrum of a mask that is small enough for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns
from experiments.kit.view import Artefact
from experiments.ours.spectra_figure import drawn
from experiments.ours.spectra_report import check, spectra_table, training_table
from experiments.ours.trained import SHARED, trained
from landscape.sweep.grid import Grid

SPECTRUM = "experiments.measurements.spectra:SPECTRUM"
EXACT = "experiments.measurements.spectra:EXACT"
#: preset -> options of the estimates, of the loss, and of the exact spectrum
SETTINGS: Mapping[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "smoke": (
        {"vectors": 2, "steps": 6, "trace_matvecs": 6, "tol": 0.1, "max_matvecs": 12},
        {"examples": 2}, {"count": 12, "examples": 2},
    ),
    "local": (
        {"batch_size": 32, "vectors": 5, "steps": 12, "trace_matvecs": 12, "tol": 5e-2,
         "max_matvecs": 24},
        {"examples": 32}, {"count": 200, "examples": 16},
    ),
    "paper": ({}, {}, {"examples": 16}),
}  # fmt: skip


def grids(preset: str) -> Sequence[Grid]:
    """List each mask's training with its spectrum at both ends; then the exact one."""
    estimate, loss, exact = SETTINGS[preset]
    pretrained = {**SHARED[preset], "method": "none"}
    return [
        trained(preset, {SPECTRUM: estimate | loss}),
        Grid(pretrained, {"seed": (0,)}, measure={EXACT: estimate | exact}),
    ]


ARTEFACT = Artefact(
    name="spectra",
    title="The spectrum inside a mask, before and after training",
    source="Hessian spectra inside the masks of Xu & Zhang 2024, beside their figure 4",
    grids=grids,
    tables={
        "Spectra": columns.Lines(spectra_table),
        "Training": columns.Lines(training_table),
    },
    statements={},
    further=check,
    panels=drawn,
    lead=(
        "The Hessian on the trainable weights is a principal submatrix of the model's. Its "
        "two ends come from Lanczos with residuals (some eigenvalue lies within), the density "
        "between them from a few products with random vectors, its trace from Hutch++; on a "
        "mask of a few hundred weights the exact spectrum judges the estimate."
    ),
    caption="Spectral densities (bands: one standard error over probes, without the error of the "
    "quadrature itself), their ends, their negative share",
)  # fmt: skip
