"""Table 5 of Agarwal et al. 2024 (ID3): LoRA of Llama-7b on arithmetic, made sparse.

Only the paper's preset means something: small models learn none of these tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.id3.grids import SCORE, SEEDS
from experiments.kit import columns, panels, statements
from experiments.kit.records import Record
from experiments.kit.view import Artefact
from experiments.paper.tables import beside
from landscape.sweep.grid import Grid

TASKS = "addsub", "multiarith", "singleeq", "gsm8k", "aqua", "svamp"
LAYERS = ("*.q_proj", "*.k_proj", "*.v_proj", "*.up_proj", "*.down_proj")
INSERTED = {"rank": 32, "alpha": 16}
PRINTED = beside("id3", "table 5", "method", "rank", "count", "task")


def grids(preset: str) -> Sequence[Grid]:
    """Return LoRA of rank 32, 4 and 2, and masks of the smaller ones' sizes on the first."""
    ranks: tuple[int, ...] = (1, 8)
    counts: tuple[int, ...] = (10_000,)
    if preset == "paper":
        shared = {"model": "huggyllama/llama-7b", "dtype": "bfloat16", "targets": LAYERS,
                  "epochs": 3, "batch_size": 4, "lr": 3e-4}  # fmt: skip
        cases = [{**shared, "task": task} for task in TASKS]
        ranks, counts = (2, 4, 32), (3_500_000, 7_000_000)
    else:
        cases = [{"model": "smollm2-135m", "task": "rotten_tomatoes", "num_train": 8,
                  "num_dev": 4, "num_test": 8, "epochs": 1, "lr": 1e-3}]  # fmt: skip
    found = []
    for case in cases:
        own = {"rank": ranks[-1], "alpha": 16, "on": "lora"}
        seeds: dict[str, Sequence[Any]] = {"seed": SEEDS[preset] if preset != "paper" else (42,)}
        lora: dict[str, Sequence[Any]] = {
            "options": [{"rank": rank, "alpha": 16} for rank in ranks]
        }
        found += [
            Grid({**case, "method": "lora"}, lora | seeds),
            Grid({**case, "method": "magnitude_smallest", "options": {**own, "scope": "tensor"}},
                 {"count": counts, **seeds}),
            Grid({**case, "method": "id3", "schedule": "increment",
                  "options": {**own, **SCORE, "exp": 0.0}}, {"count": counts, **seeds}),
        ]  # fmt: skip
    return found


def derive(record: Record) -> dict[str, object]:
    """Name the arms by their ranks."""
    names = {"magnitude_smallest": "PaFi + LoRA", "id3": "ID3 + LoRA"}
    rank = f"LoRA of rank {record['options'].get('rank')}"
    return {"arm": names.get(record["method"], rank)}


def printed(record: Record) -> float | None:
    """Return the paper's score of the same method, rank, budget and task."""
    rank = record["options"].get("rank")
    return PRINTED({**record, "rank": rank, "count": record["budget"]})


ARTEFACT = Artefact(
    name="id3-table5",
    title="LoRA made sparse on arithmetic",
    source="Agarwal et al. 2024, table 5",
    grids=grids,
    derive=derive,
    tables={
        "Accuracy of the answer": columns.Table(
            by=("model", "arm", "budget"), across="task",
            columns={"accuracy": columns.mean_std("test"), "paper": columns.paper(printed)},
        ),
    },
    statements={
        "beats_pafi": statements.better(
            "on arithmetic ID3 on a LoRA scores higher than PaFi on it", "test", "ID3 + LoRA",
            "PaFi + LoRA", over="budget",
        ),
    },
    panels=(panels.dots("test", "Accuracy", "accuracy of the final answer"),),
    columns=1,
    presets=("smoke", "paper"),
    lead=(
        "A LoRA of rank 32 of which 6 or 12 % is trained, beside whole ones of that size. The "
        "smoke preset is reviews: it shows that the runs work."
    ),
    caption="Accuracy by method; points are seeds and tasks",
    differences=(
        ("every set is trained on alone; the paper trains once, on Math10K",
         "levels differ, sets with few examples most"),
    ),
    needs=("peft",),
)  # fmt: skip
