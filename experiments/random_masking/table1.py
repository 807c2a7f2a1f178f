"""Tables 1 and 5 of Xu & Zhang 2024: test accuracy of masks and baselines."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart
from experiments.kit.judge import Finding, settle
from experiments.kit.records import Record, grouped, matching
from experiments.kit.statements import Statement
from experiments.kit.view import Artefact
from experiments.paper.tables import beside
from experiments.random_masking.grids import (
    DEVICES,
    DIFFERENCES,
    METHODS,
    MINILM,
    MINILM_SST2,
    SMOLLM2,
    SMOLLM2_SST2,
    baselines,
    cases,
    fitting,
    masks,
    named,
)  # fmt: skip
from landscape.sweep.grid import Grid

POINT = 0.01
LARGE = 1e-2
"""The ratio that smaller ones are compared with."""
CASES = MINILM, MINILM_SST2, SMOLLM2, SMOLLM2_SST2
#: of the same model and task, else of OPT-125m on SST-2
PRINTED = beside(
    "random_masking", "table 5", "method", "ratio", model="facebook/opt-125m", task="sst2"
)


def grids(preset: str) -> Sequence[Grid]:
    """Return the runs: masks at every ratio, and the baselines that a model takes."""
    return [
        grid for case in cases(preset, CASES)
        for grid in (masks(preset, case), *baselines(preset, case, fitting(preset, case)))
    ]  # fmt: skip


def printed(record: Record) -> float | None:
    """Return the paper's accuracy of the same method and ratio."""
    return PRINTED(record | {"method": METHODS[record["arm"]]})


def _hundredth(records: Sequence[Record]) -> Finding:
    """Compare LoRA's number of weights with that of the sparsest masks, by model."""
    text = "the sparsest masks (1e-5) have at most a hundredth of LoRA's weights"
    found = []
    for (model,), own in grouped(records, "model").items():
        sizes = {
            arm: fmean(r["count"] for r in group)
            for (arm,), group in grouped(matching(own, {"ratio": 1e-5}), "arm").items()
        }
        if {"LoRA", "masks"} <= sizes.keys():
            found.append((model, sizes["LoRA"] / sizes["masks"]))
    if not found:
        return Finding(text, "undecided", "not both were run", kind="exact")
    said = ", ".join(f"{model}: LoRA has {times:.0f} times as many" for model, times in found)
    return Finding(text, settle(all(times >= 100 for _, times in found)), said, kind="exact")


ARTEFACT = Artefact(
    name="table1",
    title="Masks against LoRA, full fine-tuning and other baselines",
    source="Xu & Zhang 2024, tables 1 and 5",
    grids=grids,
    derive=named,
    tables={
        "Accuracy": columns.Table(
            by=("model", "arm", "ratio"), across="task",
            columns={"accuracy": columns.mean_std("test")},
        ),
        "Weights and rates": columns.Table(
            by=("model", "task", "arm", "ratio"),
            columns={
                "trainable": columns.count(), "rate": columns.rate(), "seeds": columns.seeds(),
                "device": columns.first("device"),
                "paper (else OPT-125m, SST-2)": columns.paper(printed),
            },
        ),
    },
    statements={
        "lora": statements.better(
            "masks of ratio 1e-3 lose less than a point to LoRA", "test", "masks", "LoRA",
            by=-POINT, where={"ratio": 1e-3},
        ),
        "full": statements.better(
            "masks of ratio 1e-3 lose less than a point to full fine-tuning", "test", "masks",
            "full fine-tuning", by=-POINT, where={"ratio": 1e-3},
        ),
        "tenth": statements.better(
            "masks of ratio 1e-4 lose less than a point to LoRA", "test", "masks", "LoRA",
            by=-POINT, where={"ratio": 1e-4},
        ),
        "learns": statements.better(
            "masks of ratio 1e-5 are more accurate than the pretrained model", "test", "masks",
            "before training", where={"ratio": 1e-5},
        ),
        "low_data": statements.better(
            "masks of ratio 1e-3 are more accurate than full fine-tuning", "test", "masks",
            "full fine-tuning", where={"ratio": 1e-3},
        ),
        "steady": statements.at_each(
            "on SST-2 every smaller ratio, at its own rate, loses less than three points to 1e-2",
            "ratio",
            lambda ratio: statements.better(
                f"{ratio:g}", "test", ratio, LARGE, by=-0.03, axis="ratio", over="",
                where={"arm": "masks", "task": "sst2"},
            ),
            but=LARGE, where={"arm": "masks", "task": "sst2"},
        ),
        "hundredth": Statement("LoRA's weights over the sparsest masks'", _hundredth),
    },
    panels=apart(panels.curve("test", "Accuracy", "test accuracy")),
    columns=2,
    lead=(
        "Random masks of four sizes beside LoRA, full fine-tuning and other ways to train few "
        "weights. Every method has its own learning rate, chosen on dev with the first seed; all "
        "are run with the same seeds, and compared seed by seed."
    ),
    caption=(
        "Test accuracy over the ratio; points are seeds, bands 95 % intervals, dashed lines are "
        "methods without a ratio"
    ),
    differences=(*DIFFERENCES, DEVICES),
    needs=("peft",),
)  # fmt: skip
