"""Table 2 of Agarwal et al. 2024 (ID3): a LoRA of which a quarter is trained."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.id3.grids import LARGE, arms, cases, named
from experiments.kit import columns, panels, statements
from experiments.kit.records import Record
from experiments.kit.view import Artefact
from experiments.paper.tables import beside
from landscape.sweep.grid import Grid

ARMS = "LoRA", "PaFi + LoRA", "ID3 + LoRA"
PRINTED = beside("id3", "table 2", "method", task="sst2")


def grids(preset: str) -> Sequence[Grid]:
    """Return the whole LoRA, and a quarter of it chosen by PaFi and by ID3."""
    return [
        grid for case in cases(preset, ("stsb",))
        for grid in arms(preset, case, ("none", *ARMS), (LARGE[preset],))
    ]  # fmt: skip


def printed(record: Record) -> float | None:
    """Return the paper's score of the same method on SST-2."""
    return PRINTED(record)


ARTEFACT = Artefact(
    name="id3-table2",
    title="LoRA made sparse",
    source="Agarwal et al. 2024, table 2",
    grids=grids,
    derive=named,
    tables={
        "Scores": columns.Table(
            by=("model", "task", "arm"),
            columns={
                "trainable": columns.count(), "score": columns.mean_std("test"),
                "rate": columns.rate(), "seeds": columns.seeds(),
                "paper (DeBERTa-v3, SST-2)": columns.paper(printed),
            },
        ),
    },
    statements={
        "sparse_lora_beats_dense": statements.better(
            "a quarter of a LoRA, chosen by ID3, scores higher than the whole", "test",
            "ID3 + LoRA", "LoRA", over="budget",
        ),
        "sparse_lora_holds": statements.better(
            "a quarter of a LoRA, chosen by ID3, loses less than a point to the whole", "test",
            "ID3 + LoRA", "LoRA", by=-0.01, over="budget",
        ),
        "pafi_lora_holds": statements.better(
            "a quarter of a LoRA, chosen by PaFi, loses less than a point to the whole", "test",
            "PaFi + LoRA", "LoRA", by=-0.01, over="budget",
        ),
        "id3_beats_pafi_on_lora": statements.better(
            "on a LoRA, whose weights start at random, ID3 scores higher than PaFi", "test",
            "ID3 + LoRA", "PaFi + LoRA", over="budget",
        ),
    },
    panels=(panels.dots("test", "Scores", "test score", where={"arm": ARMS}),),
    columns=1,
    lead=(
        "A LoRA of rank 8 on all linear layers, of which a quarter of the numbers is trained: "
        "the smallest (PaFi), or a set that grows by ID3's score."
    ),
    caption="Test scores; points are seeds, lines 95 % intervals",
    differences=(
        ("model {model}, the paper's is DeBERTa-v3-base", "an eighth of the weights"),
        ("PaFi takes its budget tensor by tensor: over all of them it would take the first layers' "
         "B whole, which start as zeros", "PaFi stands better than it would"),
    ),
    needs=("peft",),
)  # fmt: skip
