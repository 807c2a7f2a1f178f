"""Table 4 of Xu & Zhang 2024: masks on Llama-2-7b; locally on SmolLM2, which has its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart, case_by_case
from experiments.kit.presets import SMOKE
from experiments.kit.records import Record
from experiments.kit.view import Artefact
from experiments.paper.tables import beside
from experiments.random_masking.grids import (
    DEVICES,
    DIFFERENCES,
    METHODS,
    SMOLLM2,
    SMOLLM2_SST2,
    baselines,
    masks,
    named,
    opt,
)  # fmt: skip
from landscape.sweep.grid import Grid
from landscape.sweep.rates import Rates

LLAMA = "meta-llama/Llama-2-7b-hf"
TASKS = "sst2", "wic", "rte", "copa"
RATIOS = {"smoke": (1e-3, 1e-5), "local": (1e-2, 1e-3, 1e-4, 1e-5),
          "paper": (1e-2, 1e-3, 1e-4, 1e-5)}  # fmt: skip
FINE = Rates(tuple(m * 10.0**-e for e in range(6, 0, -1) for m in (1, 2, 5)), widen=0)
"""The paper's finer grid: 1, 2 and 5 times every decade."""
PRINTED = beside("random_masking", "table 4", "method", "ratio", task="sst2")


def grids(preset: str) -> Sequence[Grid]:
    """Return masks, LoRA and full fine-tuning; in bfloat16 for the 7 billion weights."""
    if preset == "paper":
        cases = []
        for task in TASKS:
            case = {**opt("", task, paper_mask=True), "model": LLAMA, "dtype": "bfloat16"}
            case["settings"] = {k: v for k, v in case["settings"].items() if k != "bos"}
            cases.append(case)
    else:
        cases = [dict(SMOKE)] if preset == "smoke" else [dict(SMOLLM2), dict(SMOLLM2_SST2)]
    found = []
    for case in cases:
        own = [masks(preset, case, ratios=RATIOS[preset]),
               *baselines(preset, case, ("none", "full", "lora"))]  # fmt: skip
        found += [replace(g, rates=FINE) if preset == "paper" and g.rates else g for g in own]
    return found


def printed(record: Record) -> float | None:
    """Return the paper's accuracy of the same method and ratio, else on SST-2."""
    return PRINTED(record | {"method": METHODS[record["arm"]]})


STATEMENTS = {
    name: statements.better(
        f"masks of ratio {written} on a Llama lose less than a point to LoRA", "test", "masks",
        "LoRA", by=-0.01, where={"ratio": ratio},
    )
    for name, written, ratio in (("lora", "1e-3", 1e-3), ("sparsest", "1e-5", 1e-5))
}  # fmt: skip

ARTEFACT = Artefact(
    name="table4",
    title="Masks on a Llama",
    source="Xu & Zhang 2024, table 4",
    grids=grids,
    derive=named,
    tables={
        "Results": columns.Table(
            by=("model", "task", "arm", "ratio"),
            columns={
                "trainable": columns.count(), "accuracy": columns.mean_std("test"),
                "rate": columns.rate(), "seeds": columns.seeds(),
                "paper (Llama-2-7b, else SST-2)": columns.paper(printed),
            },
        ),
    },
    statements=STATEMENTS,
    further=case_by_case(*STATEMENTS.values()),
    panels=apart(
        panels.curve("test", "Accuracy", "test accuracy"),
        panels.curve("lr", "Rate chosen on dev", "learning rate", log=True, law=-1.0),
    ),
    columns=2,
    lead=(
        "Llama-2-7b takes a GPU of 40 GB and weights that are not here. SmolLM2-135M is a Llama by "
        "its layers, 50 times smaller."
    ),
    caption="Accuracy and rate over the ratio; points are seeds",
    differences=(
        ("model {model}; the paper's is Llama-2-7b, 50 times larger",
         "larger models lose less from sparse masks in the paper"),
        *DIFFERENCES[1:],
        DEVICES,
    ),
    needs=("peft",),
)  # fmt: skip
