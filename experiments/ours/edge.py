"""Sharpness while a mask trains: full-batch gradient descent and AdamW at the edge of stability.

Gradient descent with rate eta is stable on a quadratic whose largest eigenvalue is below 2 / eta.
On whole networks training makes the sharpness rise to that edge and stay there (Cohen et al. 2021);
with Adam the same holds for the preconditioned sharpness and (2 + 2 beta1) / ((1 - beta1) eta)
(Cohen et al. 2022). Here every training example is in every step, as there, but only a random mask
of a pretrained model moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns
from experiments.kit.view import Artefact
from experiments.ours.edge_report import check, drawn, table
from landscape.sweep.grid import Grid

DESCENTS = "experiments.measurements.descents:DESCENTS"
ENCODER = {"model": "minilm-l6", "task": "rotten_tomatoes", "method": "none",
           "targets": ("*.self.[qv]*.weight",), "num_train": 640}  # fmt: skip
#: preset -> the pretrained model, whose head is fitted to all its training examples; ratios;
#: losses; options of the descents
SETTINGS: Mapping[str, tuple[Mapping[str, Any], Sequence[float], Sequence[str], dict[str, Any]]] = {
    "smoke": (
        ENCODER | {"num_train": 24, "num_dev": 16, "num_test": 24}, (1e-2,), ("cross-entropy",),
        {"examples": 4, "gd": (0.7,), "adamw": (1e-5,), "steps": 8, "every": 4, "tol": 0.1,
         "max_matvecs": 16},
    ),
    "local": (
        ENCODER | {"num_dev": 8, "num_test": 8}, (1e-2, 1e-3), ("cross-entropy", "square"),
        {"examples": 16, "batch_size": 16, "gd": (0.7, 1.5), "adamw": (1e-5,), "steps": 80,
         "tol": 0.1, "max_matvecs": 40},
    ),
    "paper": (
        {"model": "facebook/opt-125m", "task": "sst2", "method": "none",
         "targets": ("*.[qv]_proj",)},
        (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), ("cross-entropy", "square"), {},
    ),
}  # fmt: skip


def grids(preset: str) -> Sequence[Grid]:
    """List the descents: each measures the pretrained model inside a mask of its own."""
    shared, ratios, losses, options = SETTINGS[preset]
    return [
        Grid(shared, {"seed": (0,)}, measure={DESCENTS: {**options, "ratio": r, "loss": loss}})
        for r in ratios for loss in losses
    ]  # fmt: skip


ARTEFACT = Artefact(
    name="edge",
    title="Sharpness during training inside a mask",
    source="Cohen et al. 2021 and 2022, inside the masks of Xu & Zhang 2024",
    grids=grids,
    tables={"Descents": columns.Lines(table)},
    statements={},
    further=check,
    panels=drawn,
    lead=(
        "Gradient descent with rate eta is stable on a quadratic while the largest Hessian "
        "eigenvalue is below 2 / eta; Adam while the preconditioned one is below (2 + 2 beta1) "
        "/ ((1 - beta1) eta). Whole networks train at that edge. Here a random mask of a "
        "pretrained model descends, every example in every step, under cross-entropy, whose "
        "curvature fades when the examples are fitted, and under a squared loss, whose does "
        "not. AdamW's first step is left out: its preconditioner is then one gradient, whose "
        "rounding decides the value."
    ),
    caption="Sharpness over its edge (1: unstable on a quadratic), and the training loss",
)  # fmt: skip
