"""Table 3 of Xu & Zhang 2024: more training examples, up to the full split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart
from experiments.kit.presets import SMOKE
from experiments.kit.records import Record
from experiments.kit.view import Artefact
from experiments.paper.tables import beside
from experiments.random_masking.grids import (
    DEVICES,
    DIFFERENCES,
    METHODS,
    MINILM,
    OPT,
    baselines,
    masks,
    named,
    opt,
)  # fmt: skip
from landscape.sweep.grid import Grid

RATIOS: Mapping[str, tuple[float, ...]] = {
    "smoke": (1e-3, 1e-5), "local": (1e-3, 1e-5), "paper": (1e-3, 1e-4, 1e-5),
}  # fmt: skip
NAMES: Mapping[str, tuple[str, ...]] = {
    "smoke": ("full", "lora"), "local": ("full", "lora"),
    "paper": ("full", "lora", "adapter", "bitfit"),
}  # fmt: skip
#: training examples: of the other tables, and all that a task leaves for training
MORE: Mapping[str, int] = {"sst2": 66_849, "multirc": 26_743}
#: as many of the presets smoke and local
OF_SMOKE, OF_LOCAL = 32, 2000
MANY = (OF_SMOKE, OF_LOCAL, *MORE.values())
PRINTED = beside(
    "random_masking", "table 3", "method", "ratio", model="facebook/opt-125m", task="sst2"
)


def sizes(preset: str) -> list[Mapping[str, Any]]:
    """Return cases with few and with many training examples."""
    if preset == "smoke":
        return [SMOKE, SMOKE | {"num_train": OF_SMOKE}]
    if preset == "local":
        return [MINILM, MINILM | {"num_train": OF_LOCAL}]
    few = [opt(model, task) for model in OPT[:2] for task in MORE]
    return few + [{**case, "num_train": MORE[case["task"]]} for case in few]


def grids(preset: str) -> Sequence[Grid]:
    """Return masks and baselines with few and with many training examples."""
    return [
        grid for case in sizes(preset)
        for grid in (
            masks(preset, case, ratios=RATIOS[preset]), *baselines(preset, case, NAMES[preset])
        )
    ]  # fmt: skip


def printed(record: Record) -> float | None:
    """Return the paper's accuracy of the same method and ratio on its full split."""
    if record["num_train"] == 1000:
        return None
    return PRINTED(record | {"method": METHODS[record["arm"]]})


def derive(record: Record) -> Mapping[str, Any]:
    """Name the arm, and the line of the figure: masks have one a ratio."""
    arm = named(record)
    ratio = "" if record["ratio"] is None else f" of ratio {record['ratio']:g}"
    return {**arm, "line": f"{arm['arm']}{ratio}"}


ARTEFACT = Artefact(
    name="table3",
    title="Masks with more training examples",
    source="Xu & Zhang 2024, table 3",
    grids=grids,
    derive=derive,
    tables={
        "Accuracy": columns.Table(
            by=("model", "task", "arm", "ratio", "num_train"),
            columns={
                "accuracy": columns.mean_std("test"), "rate": columns.rate(),
                "seeds": columns.seeds(), "device": columns.first("device"),
                "paper (else OPT-125m, SST-2, all 67,349)": columns.paper(printed),
            },
        ),
    },
    statements={
        "lora": statements.better(
            "with more examples masks of ratio 1e-3 lose less than a point to LoRA", "test",
            "masks", "LoRA", by=-0.01, where={"ratio": 1e-3, "num_train": MANY},
        ),
        "full_gains": statements.widens(
            "masks of 1e-3 stand better beside full fine-tuning with few examples than with many",
            "test", "masks", "full fine-tuning", over="num_train", where={"ratio": 1e-3},
        ),
        "count": statements.widens(
            "masks of 1e-5 stand better beside masks of 1e-3 with few examples than with many",
            "test", 1e-5, 1e-3, axis="ratio", over="num_train", where={"arm": "masks"},
        ),
    },
    panels=apart(
        panels.curve("test", "Accuracy", "test accuracy", x="num_train", by="line",
                     xlabel="training examples"),
    ),
    columns=2,
    lead=(
        "The same methods with a thousand training examples and with several thousand, each with "
        "its own rate. Where expressive power is what masks lack, the gap to full fine-tuning and "
        "the gap between ratios should open with the data."
    ),
    caption="Test accuracy over the number of training examples; points are seeds",
    differences=(
        ("{num_train} training examples; the paper has 67,349 of SST-2 and 27,243 of MultiRC",
         "gaps may open later than here"),
        ("the epochs are the same, so that with more examples a run has more steps",
         "what more steps give is counted as the examples'"),
        *DIFFERENCES,
        DEVICES,
    ),
    needs=("peft",),
)  # fmt: skip
