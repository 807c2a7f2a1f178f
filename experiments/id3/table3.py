"""Table 3 of Agarwal et al. 2024 (ID3): adapters of which a twenty-fifth is trained."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.id3.grids import CHOSEN, DEVICES, DIFFERENCES, SMALL, arms, cases
from experiments.id3.insertions import made_sparse
from experiments.kit.statements import better
from experiments.kit.view import Artefact
from experiments.paper.tables import beside
from landscape.sweep.grid import Grid

WHOLE, SNIP, ID3 = ARMS = "adapter", "SparseAdapter", "ID3 + adapter"


def grids(preset: str) -> Sequence[Grid]:
    """Return the whole adapters, and a twenty-fifth of them chosen by SNIP and by ID3."""
    tasks = ("stsb", "cola", "mrpc", "rte")
    found = []
    for case in cases(preset, ("stsb",), tasks):
        own = {**case, "model": "FacebookAI/roberta-base",
               "targets": tuple(t.replace("deberta", "roberta").replace("_proj", "")
                                for t in case["targets"])}  # fmt: skip
        found += arms(
            preset, own if preset == "paper" else case, ("none", *ARMS),
            (95_000 if preset == "paper" else SMALL[preset],)  # of 2,379,264, and of 0.6M,
        )  # fmt: skip
    return found


ARTEFACT: Artefact = made_sparse(
    "id3-table3", "Adapters made sparse", "Agarwal et al. 2024, table 3", grids, ARMS,
    {
        "beats_dense": better(
            "a twenty-fifth of an adapter, chosen by ID3, scores higher than the whole", "test",
            ID3, WHOLE, over="budget",
        ),
        "holds": better(
            "a twenty-fifth of an adapter, chosen by ID3, loses less than a point to the whole",
            "test", ID3, WHOLE, by=-0.01, over="budget",
        ),
        "beats_sparseadapter": better(
            "on an adapter ID3 scores higher than SparseAdapter (SNIP, once)", "test", ID3, SNIP,
            over="budget",
        ),
    },
    printed={"paper (RoBERTa)": beside("id3", "table 3", "method", "task")},
    lead=(
        "Adapters of width 64 after both parts of every layer, of which a twenty-fifth is trained: "
        "chosen once by SNIP's score (SparseAdapter), or a set that grows by ID3's."
    ),
    differences=(
        ("model {model}, the paper's is RoBERTa-base", "a fifth of the weights"),
        ("Houlsby's adapters that start near the identity; the paper has Pfeiffer's",
         "two a layer instead of one; SNIP's score would vanish at an exact identity"),
        ("the paper's adapter has 201M weights, more than its model; here it has 0.6M",
         "a smaller share is not the same number"),
        CHOSEN,
        DEVICES,
        *DIFFERENCES,
    ),
)  # fmt: skip
