"""Figures 4c and 11 of Xu & Zhang 2024: distance to the pretrained weights over the ratio.

AdamW moves every weight by about the rate at a step, whatever the landscape: rate times the steps
and the root of the number of weights is an arithmetic that stands beside each distance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart, case_by_case
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
    opt,
)  # fmt: skip
from landscape.sweep.grid import Grid

SHARE = "distance over arithmetic"
CASES = MINILM, MINILM_SST2, SMOLLM2, SMOLLM2_SST2


def grids(preset: str) -> Sequence[Grid]:
    """Return masks at their own rates; the paper's are on SST-2, RTE, COPA and WiC."""
    chosen = [opt(m, t) for m in OPT for t in ("sst2", "rte", "copa", "wic")]
    return [masks(preset, case) for case in (chosen if preset == "paper" else cases(preset, CASES))]


def derive(record: Record) -> Mapping[str, Any]:
    """Divide the distance by the optimizer's arithmetic: rate, steps, root of the weights.

    The arms are tasks, so that each is a curve of its own in the panels of its model.
    """
    steps = record["best_step"] or record["steps"]
    arithmetic = record["lr"] * math.sqrt(record["count"]) * steps
    return {"arm": record["task"], "arithmetic": arithmetic,
            SHARE: record["distance"] / arithmetic}  # fmt: skip


STATEMENTS = {
    "distance": statements.scales("distance grows as the ratio falls", "distance", -1, law=-0.5),
    "arithmetic": statements.scales(
        "distance over the optimizer's arithmetic grows as the ratio falls", SHARE, -1
    ),
}

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
                "rate × steps × √weights": columns.geometric("arithmetic"),
                "share": columns.geometric(SHARE),
            },
        ),
    },
    statements=STATEMENTS,
    further=case_by_case(*STATEMENTS.values()),
    panels=apart(
        panels.curve("distance", "Distance", "distance to initialisation", log=True, law=-0.5),
        panels.curve(SHARE, "Share", "distance / (rate × steps × √weights)", log=True),
        panels.against("arithmetic", "distance", "Runs", "rate × steps × √weights",
                       "distance to initialisation", log="xy"),
        by=("model",),
    ),
    lead=(
        "The distance of the chosen checkpoint from the pretrained weights. AdamW moves each "
        "weight by about the rate a step, so that rates of one over the ratio make sparser masks "
        "more distant by arithmetic alone: the share, distance over that arithmetic, says what "
        "is left for the landscape."
    ),
    caption=(
        "Distance over the ratio, one curve a task; points are seeds, bands 95 % intervals; "
        "dashed: one over the ratio's root, as in the linear theory"
    ),
    differences=DIFFERENCES,
)  # fmt: skip
