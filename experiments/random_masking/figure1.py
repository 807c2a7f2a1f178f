"""Figure 1 of Xu & Zhang 2024: accuracy of all methods over how many weights they train."""

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
    OPT,
    SMOLLM2,
    TASKS,
    baselines,
    cases,
    fitting,
    masks,
    named,
    opt,
)  # fmt: skip
from landscape.sweep.grid import Grid

CASES = MINILM, SMOLLM2
SMALL = "LoRA", "AdaLoRA", "adapters", "prefixes", "BitFit"
DRAWN = ("masks", *SMALL, "full fine-tuning")
#: OPT-1.3b, the average of eleven tasks
PRINTED = beside(
    "random_masking", "table 5", "method", "ratio", model="facebook/opt-1.3b", task="average"
)


def grids(preset: str) -> Sequence[Grid]:
    """Return the runs of one model: the paper draws OPT-1.3b."""
    chosen = [opt(OPT[1], t) for t in TASKS] if preset == "paper" else cases(preset, CASES)
    return [
        grid for case in chosen
        for grid in (masks(preset, case), *baselines(preset, case, fitting(preset, case)))
    ]  # fmt: skip


def printed(record: Record) -> float | None:
    """Return the paper's average of the same method and ratio."""
    return PRINTED({"method": METHODS[record["arm"]], "ratio": record["ratio"]})


def _fewer(records: Sequence[Record]) -> Finding:
    """Compare the numbers of weights of masks and of the other ways to train few, by model."""
    text = "masks of ratio 1e-3 have fewer weights than any other way to train few"
    sizes = {
        (arm, model): fmean(r["count"] for r in own)
        for (arm, model), own in grouped(matching(records, {"ratio": 1e-3}), "arm", "model").items()
    }
    found = {
        (arm, model): size / sizes["masks", model]
        for (arm, model), size in sizes.items() if arm in SMALL and ("masks", model) in sizes
    }  # fmt: skip
    if not found:
        return Finding(text, "undecided", "not both were run", kind="exact")
    fewest = sorted(found.items(), key=lambda item: item[1])
    said = ", ".join(f"{arm} {times:.2g} times as many ({at})" for (arm, at), times in fewest)
    return Finding(text, settle(min(found.values()) > 1), said, kind="exact")


ARTEFACT = Artefact(
    name="figure1",
    title="Accuracy over the number of trained weights",
    source="Xu & Zhang 2024, figure 1",
    grids=grids,
    derive=named,
    tables={
        "Results": columns.Table(
            by=("model", "task", "arm", "ratio"),
            columns={
                "trainable": columns.count(), "accuracy": columns.mean_std("test"),
                "rate": columns.rate(), "seeds": columns.seeds(),
                "paper (OPT-1.3b, average)": columns.paper(printed),
            },
        ),
    },
    statements={
        "among": statements.each(
            "masks of ratio 1e-3 lose less than a point to any other way to train few weights",
            [
                statements.better(
                    name, "test", "masks", name, by=-0.01, where={"ratio": 1e-3}
                )
                for name in SMALL
            ],
        ),
        "fewer": Statement("masks have fewer weights", _fewer),
    },
    panels=apart(
        panels.against("count", "test", "Accuracy", "trained weights", "test accuracy", log="x",
                       where={"arm": DRAWN})
    ),
    columns=2,
    lead=(
        "Each point is one run at its method's own rate. The further left a method stands at the "
        "same height, the fewer weights it needs."
    ),
    caption="Test accuracy over the number of trained weights; points are seeds",
    differences=(*DIFFERENCES, DEVICES),
    needs=("peft",),
)  # fmt: skip
