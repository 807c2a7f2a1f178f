"""Figure 5 of Xu & Zhang 2024: structured against random masks, and what the landscape says of it.

The paper compares accuracies alone. The same runs here also give each mask's sharpness and
distance: whether a structured mask is worse because its landscape is another.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart
from experiments.kit.view import Artefact
from experiments.paper.tables import beside
from experiments.random_masking.exponents import grows
from experiments.random_masking.grids import (
    DEVICES,
    DIFFERENCES,
    FIRST,
    MINILM,
    RANDOM,
    SHARPNESS,
    SMOLLM2,
    STRUCTURED,
    baselines,
    cases,
    masks,
    named,
)
from landscape.sweep.grid import Grid

ARMS = ("masks", "columns")
CASES = MINILM, SMOLLM2
#: arm -> the accuracy and the best rate that the paper prints
PRINTED = {
    arm: {
        value: beside("random_masking", table, "ratio", "method", value=value,
                      model="facebook/opt-125m", task="sst2")
        for value, table in (("score", accuracies), ("lr", rates))
    }
    for arm, accuracies, rates in (
        ("masks", "table 5", "table 6"), ("columns", "table 8", "table 9"),
    )
}  # fmt: skip


def grids(preset: str) -> Sequence[Grid]:
    """Return both masks at every ratio with their sharpness, beside the pretrained model.

    The paper's code takes the first columns of every matrix; ours are drawn.
    """
    kinds = (RANDOM, FIRST if preset == "paper" else STRUCTURED)
    measure = {"sharpness": SHARPNESS[preset]}
    return [
        grid for case in cases(preset, CASES)
        for grid in (
            masks(preset, case, kinds=kinds, measure=measure), *baselines(preset, case, ["none"])
        )
    ]  # fmt: skip


def printed(value: str) -> columns.Lookup:
    """Return the paper's number of the same mask and ratio: its accuracy or its best rate."""
    return lambda record: PRINTED[record["arm"]][value](record)


ARTEFACT = Artefact(
    name="figure5",
    title="Single weights against whole columns",
    source="Xu & Zhang 2024, figure 5, tables 8 and 9",
    grids=grids,
    derive=named,
    tables={
        "Results": columns.Table(
            by=("model", "task", "ratio", "arm"),
            where={"arm": ARMS},
            columns={
                "trainable": columns.count(), "rate": columns.rate(), "seeds": columns.seeds(),
                "accuracy": columns.mean_std("test"),
                "paper (else OPT-125m, SST-2)": columns.paper(printed("score")),
                "its rate": columns.paper(printed("lr"), "g"),
                "sharpness before": columns.geometric("sharpness_before"),
                "sharpness after": columns.geometric("sharpness_after"),
                "distance": columns.mean_std("distance", ".3g"),
            },
        ),
    },
    statements={
        "order": statements.better(
            "random masks are more accurate than whole columns, over all ratios", "test", *ARMS
        ),
        "decay": statements.widens(
            "whole columns lose accuracy faster as the ratio falls", "test", *ARMS
        ),
        "rates": grows(
            "the best rate of whole columns grows as the ratio falls, by model and task",
            paper="-0.76 [-0.83, -0.69] over 33 cells, -0.80 [-0.84, -0.76] without WSC",
            by_seed=False, where={"arm": "columns"},
        ),
        "sharpness": statements.alike(
            "both masks of one ratio are equally sharp, as by the linear theory, to a factor of 2",
            "sharpness_after", *ARMS[::-1],
        ),
        "converged": statements.true_everywhere(
            "every sharpness met its residual tolerance",
            "sharpness_converged_before", "sharpness_converged_after",
        ),
    },
    panels=apart(
        panels.curve("test", "Accuracy", "test accuracy"),
        panels.curve("sharpness_after", "Sharpness after training",
                     "largest |Hessian eigenvalue|", log=True, where={"arm": ARMS}),
        panels.curve("distance", "Distance", "distance to initialisation", log=True,
                     where={"arm": ARMS}),
    ),
    lead=(
        "A pretrained model is fine-tuned on a random set of single weights or on a "
        "random set of whole columns, of the same size. Accuracy is the paper's figure 5; "
        "sharpness and distance say in which landscape each of them moved."
    ),
    caption="Random weights (masks) and whole columns against the ratio; points are seeds, "
    "bands 95 % intervals",
    differences=(
        *DIFFERENCES,
        ("a budget that ends inside a column takes a part of it; the reference drops the column",
         "matters at the smallest ratios, where a tensor has less than a column"),
        ("columns are drawn; the reference takes the first of every matrix", "none is expected"),
        DEVICES,
    ),
)  # fmt: skip
