"""From masked linear regression to a network: predicted and measured sharpness, rate, distance.

Nothing is fine-tuned by the sweep engine here: two measurements of the pretrained model, once a
ratio, find the curvature inside masks and descend inside them to one loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns
from experiments.kit.view import Artefact
from experiments.random_masking.linear_report import check, curvature_table, descents_table, drawn
from landscape.sweep.grid import Grid

CURVATURE = "experiments.measurements.predictions:CURVATURE"
APPROACHES = "experiments.measurements.predictions:APPROACHES"
PRETRAINED = {"model": "smollm2-135m", "task": "rotten_tomatoes", "method": "none",
              "targets": ("*.[qv]_proj",), "num_dev": 8, "num_test": 8}  # fmt: skip
#: preset -> the pretrained model, ratios, seeds, options of both measurements, and of each
SETTINGS: Mapping[str, tuple[Any, ...]] = {
    "smoke": (
        PRETRAINED | {"model": "minilm-l6", "targets": ("auto",), "num_train": 16},
        (1e-2,), (0,),
        {"examples": 2, "tol": 0.2, "max_matvecs": 5}, {"random": 1, "columns": 1},
        {"train": 8, "max_steps": 2, "sgd": (0.3,), "adamw": (1e-5,)},
    ),
    "local": (
        PRETRAINED | {"num_train": 48}, (1e-2, 1e-3, 1e-4, 1e-5), (0,),
        {"examples": 8, "tol": 2e-2, "max_matvecs": 30}, {"random": 3, "columns": 1},
        {"train": 48, "max_steps": 48, "adamw": (3e-6, 1e-5, 3e-5)},
    ),
    "paper": (
        PRETRAINED | {"model": "facebook/opt-125m", "task": "sst2", "num_train": 64},
        (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), (0, 1, 2), {}, {}, {},
    ),
}  # fmt: skip


def grids(preset: str) -> Sequence[Grid]:
    """List the measurements: of all targets at once, then both of every ratio."""
    shared, ratios, seeds, both, curvature, approaches = SETTINGS[preset]
    asked = [{CURVATURE: both}] + [
        {CURVATURE: {**both, **curvature, "ratio": r},
         APPROACHES: {**both, **approaches, "ratio": r}}
        for r in ratios
    ]  # fmt: skip
    return [Grid(shared, {"seed": seeds}, measure=measure) for measure in asked]


ARTEFACT = Artefact(
    name="linear",
    title="What masked linear regression predicts for a network",
    source="Xu & Zhang 2024, section 5, against their section 4",
    grids=grids,
    tables={
        "Top eigenvalue over (density x that of all targets)": columns.Lines(curvature_table),
        "Descents to one loss": columns.Lines(descents_table),
    },
    statements={},
    further=check,
    panels=drawn,
    lead=(
        "In masked linear regression a random share q of the features has q times the largest "
        "eigenvalue, so rates grow like 1/q and solutions move away like q^-1/2. Here the same "
        "three numbers are measured on a pretrained language model, at the pretrained weights "
        "and along descents that all end at the same loss."
    ),
    caption="Predicted by the linear model (dashed) and measured",
)  # fmt: skip
