"""Table 2 of Agarwal et al. 2024 (ID3): a LoRA of which a quarter is trained."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.id3.grids import CHOSEN, DEVICES, DIFFERENCES, LARGE, arms, cases
from experiments.id3.insertions import made_sparse
from experiments.kit.statements import better
from experiments.kit.view import Artefact
from experiments.paper.tables import beside
from landscape.sweep.grid import Grid

WHOLE, PAFI, ID3 = ARMS = "LoRA", "PaFi + LoRA", "ID3 + LoRA"


def grids(preset: str) -> Sequence[Grid]:
    """Return the whole LoRA, and a quarter of it chosen by PaFi and by ID3."""
    return [
        grid for case in cases(preset, ("stsb",))
        for grid in arms(preset, case, ("none", *ARMS), (LARGE[preset],))
    ]  # fmt: skip


ARTEFACT: Artefact = made_sparse(
    "id3-table2", "LoRA made sparse", "Agarwal et al. 2024, table 2", grids, ARMS,
    {
        "sparse_lora_beats_dense": better(
            "a quarter of a LoRA, chosen by ID3, scores higher than the whole", "test", ID3, WHOLE,
            over="budget",
        ),
        "sparse_lora_holds": better(
            "a quarter of a LoRA, chosen by ID3, loses less than a point to the whole", "test",
            ID3, WHOLE, by=-0.01, over="budget",
        ),
        "pafi_lora_holds": better(
            "a quarter of a LoRA, chosen by PaFi, loses less than a point to the whole", "test",
            PAFI, WHOLE, by=-0.01, over="budget",
        ),
        "id3_beats_pafi_on_lora": better(
            "on a LoRA, whose weights start at random, ID3 scores higher than PaFi", "test", ID3,
            PAFI, over="budget",
        ),
    },
    printed={
        "paper (DeBERTa-v3)": beside("id3", "table 2", "method", "task")
    },
    lead=(
        "A LoRA of rank 8 on all linear layers, of which a quarter of the numbers is trained: "
        "the smallest (PaFi), or a set that grows by ID3's score."
    ),
    differences=(
        ("model {model}, the paper's is DeBERTa-v3-base", "an eighth of the weights"),
        ("PaFi takes its budget tensor by tensor: over all of them it would take the first layers' "
         "B whole, which start as zeros", "PaFi may stand better than it would"),
        CHOSEN,
        DEVICES,
        *DIFFERENCES,
    ),
    needs=("peft",),
)  # fmt: skip
