"""Figures 4c and 11 of Xu & Zhang 2024: distance to the pretrained weights over the ratio.

AdamW moves every weight by about the rate at a step, whatever the landscape: rate times the steps
and the root of the number of weights is an arithmetic that stands beside each distance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns, panels, statements
from experiments.kit.records import Record
from experiments.kit.view import Artefact
from experiments.random_masking.grids import (
    DIFFERENCES,
    MINILM,
    MINILM_SST2,
    OPT,
    SMOLLM2,
    SMOLLM2_SST2,
    cases,
    masks,
    named,
    opt,
)  # fmt: skip
from landscape.sweep.grid import Grid

CASES = MINILM, MINILM_SST2, SMOLLM2, SMOLLM2_SST2


def grids(preset: str) -> Sequence[Grid]:
    """Return masks at their own rates; the paper's are on SST-2, RTE, COPA and WiC."""
    chosen = [opt(m, t) for m in OPT for t in ("sst2", "rte", "copa", "wic")]
    return [masks(preset, case) for case in (chosen if preset == "paper" else cases(preset, CASES))]


def derive(record: Record) -> Mapping[str, Any]:
    """Divide the distance by the optimizer's arithmetic: rate, steps, root of the weights."""
    steps = record["best_step"] or record["steps"]
    arithmetic = record["lr"] * math.sqrt(record["count"]) * steps
    return {**named(record), "arithmetic": arithmetic, "share": record["distance"] / arithmetic}


ARTEFACT = Artefact(
    name="figure4c",
    title="Sparser masks end further away",
    source="Xu & Zhang 2024, figures 4c and 11",
    grids=grids,
    derive=derive,
    tables={
        "Distance": columns.Table(
            by=("model", "task", "ratio"),
            columns={
                "trainable": columns.count(), "rate": columns.rate(), "seeds": columns.seeds(),
                "distance": columns.geometric("distance"),
                "rate x steps x root of weights": columns.geometric("arithmetic"),
                "share": columns.geometric("share"),
            },
        ),
    },
    statements={
        "distance": statements.scales(
            "distance grows as the ratio falls", "distance", -1, law=-0.5,
        ),
        "arithmetic": statements.scales(
            "distance over the optimizer's arithmetic grows as the ratio falls", "share", -1
        ),
    },
    panels=(
        panels.curve("distance", "Distance", "distance to initialisation", log=True, law=-0.5),
        panels.curve("share", "Distance over rate x steps x root of weights", "share", log=True),
        panels.against("arithmetic", "distance", "One run a point",
                       "rate x steps x root of weights", "distance", log="xy"),
    ),
    lead=(
        "The distance of the chosen checkpoint from the pretrained weights. AdamW moves each "
        "weight by about the rate a step, so that rates of one over the ratio make sparser masks "
        "more distant by arithmetic alone: the share says what is left for the landscape."
    ),
    caption="Distance over the ratio; dashed: one over its root, as in the linear theory",
    differences=DIFFERENCES,
)  # fmt: skip
