"""The linear model of a network, with intervals, beside what the engine measures inside masks.

Nothing is fine-tuned by the sweep engine: measurements of the pretrained model, one of what
the linear model predicts, one a ratio and mask of what is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns
from experiments.kit.view import Artefact
from experiments.ours.bridge_report import check, coverage_table, drawn, mask_table
from landscape.sweep.grid import Grid

PREDICTED = "experiments.measurements.linearised:PREDICTED"
START, SGD = "experiments.measurements.bridge:START", "experiments.measurements.bridge:SGD"
RATIOS = (1e-2, 1e-3, 1e-4, 1e-5)
SHARED = {"method": "none", "task": "rotten_tomatoes", "num_train": 96, "num_dev": 8,
          "num_test": 8}  # fmt: skip
#: preset -> (model, ratios, masks, examples, options of a prediction, measurements with options)
SETTINGS: Mapping[str, tuple[tuple[Any, ...], ...]] = {
    "smoke": (
        ("minilm-l6", (1e-3,), 1, 2, {"draws": 19, "steps": 5, "heavy": 10},
         {START: {"evaluations": 1, "max_matvecs": 4, "max_steps": 1}, SGD: {"steps": 5}}),
    ),
    "local": (
        ("minilm-l6", RATIOS, 5, 16, {}, {START: {}, SGD: {}}),
        ("smollm2-135m", RATIOS, 5, 16, {}, {START: {"descents": False}}),
    ),
    "paper": (
        ("facebook/opt-125m", (1e-1, *RATIOS), 10, 64, {}, {START: {}, SGD: {}}),
        ("facebook/opt-1.3b", (1e-1, *RATIOS), 10, 32, {}, {START: {}, SGD: {}}),
    ),
}  # fmt: skip


def grids(preset: str) -> Sequence[Grid]:
    """List, of every model, the prediction and what is measured inside each mask of a ratio."""
    found = []
    for model, ratios, masks, examples, predicted, measured in SETTINGS[preset]:
        shared = {**SHARED, "model": model, "targets": ("auto",)}
        asked = {"examples": examples, **predicted, "ratios": ratios, "masks": masks}
        found.append(Grid(shared, {"seed": (0,)}, measure={PREDICTED: asked}))
        found += [
            Grid(shared, {"seed": (0,), "mask_seed": range(masks)},
                 measure={name: {"examples": examples, **options, "ratio": ratio}})
            for name, options in measured.items() for ratio in ratios
        ]  # fmt: skip
    return found


ARTEFACT = Artefact(
    name="bridge",
    title="What the linear model predicts inside a mask, and what the network does",
    source="ours",
    grids=grids,
    tables={
        "Measurements inside the 95 % interval": columns.Lines(coverage_table),
        "Medians": columns.Lines(mask_table),
    },
    statements={},
    further=check,
    panels=drawn,
    columns=2,
    lead=(
        "The gradients of a network's outputs at its pretrained weights make a linear model of it, "
        "with which four numbers are predicted for random masks, each with an interval that holds "
        "the linear model's own number for 95 % of masks. The engine then measures the same "
        "numbers inside masks of its own. Sharpness, the rate by the scores' own cross-entropy and "
        "SGD's rate are what a linear network would show; the rate to second order needs a "
        "quadratic loss as well, and the least norm is what no path undercuts: GD nearly attains "
        "it in the end, AdamW does not."
    ),
    caption="Bands: 95 % of masks by the linear model, its median dashed; points: one mask each; "
    "a descent that did not reach the loss in its steps has none, and counts as outside",
)  # fmt: skip
