"""Figure 5 of Xu & Zhang 2024: structured against random masks, and what the landscape says of it.

The paper compares accuracies alone. The same runs here also give each mask's sharpness and
distance: whether a structured mask is worse because its landscape is another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns, panels, statements
from experiments.kit.presets import LOCAL, OPT, SEEDS, SMOKE
from experiments.kit.records import Record
from experiments.kit.view import Artefact
from experiments.paper.tables import beside
from landscape.sweep.grid import Grid
from landscape.sweep.rates import Rates

MASKS = [("random", {"sampling": "exact"}), ("structured", {"granularity": "columns"})]
ARMS = ("random", "structured")
#: preset -> what runs share, ratios, seeds, rates times the ratio, the sharpness's options
SETTINGS: Mapping[str, tuple[Any, ...]] = {
    "smoke": (
        SMOKE, (1e-2, 1e-4), (0, 1), Rates((1e-5,), over_ratio=True),
        {"examples": 2, "tol": 0.2, "max_matvecs": 12},
    ),
    "local": (
        LOCAL, (1e-2, 1e-3, 1e-4, 1e-5), SEEDS, Rates((3e-6, 1e-5, 3e-5), over_ratio=True),
        {"examples": 16, "tol": 2e-2, "max_matvecs": 30},
    ),
    "paper": (
        OPT, (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), (0, 1, 2),
        Rates((1e-7, 1e-6, 1e-5), over_ratio=True, most=1e-1),
        {"examples": 64, "tol": 1e-2, "max_matvecs": 60},
    ),
}  # fmt: skip
#: arm -> the accuracy that the paper prints for a ratio
PRINTED = {
    arm: beside("random_masking", table, "ratio", model="facebook/opt-125m", task="sst2",
                method=arm)
    for arm, table in zip(ARMS, ("table 5", "table 8"), strict=True)
}  # fmt: skip


def grids(preset: str) -> Sequence[Grid]:
    """List both masks at every ratio, beside the pretrained model."""
    shared, ratios, seeds, rates, curvature = SETTINGS[preset]
    axes = {"ratio": ratios, "method+options": MASKS, "seed": seeds}
    return [
        Grid(shared, axes, rates, measure={"sharpness": curvature}),
        Grid(shared | {"method": "none"}, {"seed": seeds}),
    ]


def derive(record: Record) -> Mapping[str, Any]:
    """Name the pretrained model as the figure does."""
    return {"arm": "before training"} if record["method"] == "none" else {}


ARTEFACT = Artefact(
    name="figure5",
    title="Single weights against whole columns",
    source="Xu & Zhang 2024, figure 5 and table 8",
    grids=grids,
    derive=derive,
    tables={
        "Results": columns.Table(
            by=("ratio", "arm"),
            where={"arm": ARMS},
            columns={
                "trainable": columns.count(), "rate": columns.rate(), "seeds": columns.seeds(),
                "accuracy": columns.mean_std("test"),
                "paper (OPT-125m, SST-2)": columns.paper(lambda r: PRINTED[r["arm"]](r)),
                "sharpness before": columns.geometric("sharpness_before"),
                "sharpness after": columns.geometric("sharpness_after"),
                "distance": columns.mean_std("distance", ".3g"),
            },
        ),
    },
    statements={
        "order": statements.better(
            "random masks are more accurate than structured ones, over all ratios", "test", *ARMS
        ),
        "decay": statements.widens(
            "structured masks lose accuracy faster as the ratio falls", "test", *ARMS
        ),
        "rates": statements.scales(
            "the best rate of structured masks grows as the ratio falls", "lr", -1,
            where={"arm": "structured"},
        ),
        "sharpness": statements.alike(
            "random and structured masks of one ratio are equally sharp (the linear theory's mean)",
            "sharpness_after", *ARMS[::-1],
        ),
        "converged": statements.true_everywhere(
            "every sharpness met its residual tolerance",
            "sharpness_converged_before", "sharpness_converged_after",
        ),
    },
    panels=(
        panels.curve("test", "Accuracy", "test accuracy"),
        panels.curve("sharpness_after", "Sharpness after training",
                     "largest |Hessian eigenvalue|", log=True),
        panels.curve("distance", "Distance", "distance to initialisation", log=True,
                     where={"arm": ARMS}),
    ),
    lead=(
        "A pretrained language model is fine-tuned on a random set of single weights or on a "
        "random set of whole columns, of the same size. Accuracy is the paper's figure 5; "
        "sharpness and distance say in which landscape each of them moved."
    ),
    caption="Random and structured masks against the ratio; points are seeds, bands 95 % intervals",
    differences=(
        ("model {model}, the paper's smallest is OPT-125m",
         "other width, no biases, grouped queries"),
        ("task {task}; the paper's column here is SST-2", "levels differ, the order may not"),
        ("{num_train} training examples, {epochs} epochs; the paper takes 1000 and 5",
         "fewer steps favour masks that learn fast"),
        ("masks hold exactly the budget and every seed draws its own; the paper keeps one "
         "Bernoulli mask for its three runs", "our deviation over seeds includes the mask's"),
        ("a budget that ends inside a column takes a part of it; the reference drops the column",
         "matters at the smallest ratios, where a tensor has less than a column"),
        ("rates chosen on dev with the first seed; the paper does not say", "none is expected"),
    ),
)  # fmt: skip
