"""Larger models take sparser masks (section 4.2 of Xu & Zhang 2024): table 1 over models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart, case_by_case
from experiments.kit.records import Record
from experiments.kit.view import Artefact
from experiments.random_masking.grids import (
    DEVICES,
    DIFFERENCES,
    MINILM,
    MINILM_SST2,
    OPT,
    SMOLLM2,
    SMOLLM2_SST2,
    TASKS,
    cases,
    masks,
    opt,
)  # fmt: skip
from landscape.sweep.grid import Grid

CASES = MINILM, MINILM_SST2, SMOLLM2, SMOLLM2_SST2
LARGER = "smollm2-135m", OPT[2]


def grids(preset: str) -> Sequence[Grid]:
    """Return the runs of masks on a smaller and a larger model."""
    chosen = [opt(m, t) for m in (OPT[0], OPT[2]) for t in TASKS]
    return [masks(preset, case) for case in (chosen if preset == "paper" else cases(preset, CASES))]


def derive(record: Record) -> Mapping[str, Any]:
    """Make the model an arm, so that two of them are compared seed by seed."""
    size = "larger" if record["model"] in LARGER else "smaller"
    name = f"{record['model']} ({size})"
    return {"arm": size, "model": "both", "name": name}


#: the ratios of which the paper says it
ENDS = 1e-5, 1e-3
LOSES_LESS = statements.widens(
    "the larger model's margin over the smaller one is wider at a ratio of 1e-5 than at 1e-3: it "
    "loses less", "test", "larger", "smaller", where={"ratio": ENDS},
)  # fmt: skip

ARTEFACT = Artefact(
    name="sizes",
    title="Larger models take sparser masks",
    source="Xu & Zhang 2024, section 4.2 and table 1",
    grids=grids,
    derive=derive,
    tables={
        "Accuracy": columns.Table(
            by=("task", "name"), across="ratio",
            columns={"accuracy": columns.mean_std("test")},
        ),
        "Weights and devices": columns.Table(
            by=("task", "name", "ratio"), where={"ratio": ENDS},
            columns={"trainable": columns.count(), "rate": columns.rate(),
                     "seeds": columns.seeds(), "device": columns.first("device")},
        ),
    },
    statements={"larger": LOSES_LESS},
    further=case_by_case(LOSES_LESS),
    panels=apart(panels.curve("test", "Accuracy of two models", "test accuracy")),
    columns=2,
    lead=(
        "The same masks on a smaller and a larger model. A model that takes sparser masks loses "
        "less accuracy from a ratio of 1e-3 to one of 1e-5, whatever its level."
    ),
    caption="Test accuracy over the ratio, points are seeds",
    differences=(
        ("the two models are MiniLM (22.7 million weights, an encoder with a fitted head) and "
         "SmolLM2 (134.5 million, a language model); the paper compares models of one family",
         "what differs may be the family instead of the size"),
        ("at one ratio the larger model trains more weights: six times as many here, a hundred "
         "times in the paper", "it may be their number that counts, not the size around them"),
        *DIFFERENCES[1:],
        DEVICES,
    ),
)  # fmt: skip
