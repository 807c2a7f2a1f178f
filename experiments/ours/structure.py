"""Which structure of a mask matters: nine masks of one size, their accuracy and landscape.

The paper compares random weights with whole columns. Here rows, heads, blocks and n:m patterns, and
masks of the largest, the smallest and the steepest weights, stand beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns, panels, statements
from experiments.kit.presets import SMOKE
from experiments.kit.records import Record
from experiments.kit.statements import Statement
from experiments.kit.view import Artefact
from experiments.random_masking.grids import MINILM, SEEDS, SHARPNESS, opt, rates_of
from landscape.sweep.grid import Grid

#: preset -> weights: one in 64 of query and value, so that a pattern of 1:64 has as many
COUNT: Mapping[str, int] = {"smoke": 27_648, "local": 27_648, "paper": 221_184}
#: arm -> method and options; the pattern is a budget of its own
KINDS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {"sampling": "exact"}),
    "rows": ("structured", {"granularity": "rows"}),
    "columns": ("structured", {"granularity": "columns"}),
    "heads": ("structured", {"granularity": "heads"}),
    "blocks": ("structured", {"granularity": "blocks", "block": [16, 16]}),
    "1:64": ("structured", {"granularity": "1:64"}),
    "largest": ("magnitude", {}),
    "smallest": ("magnitude_smallest", {}),
    "steepest": ("gradient", {"examples": 64}),
}
CASES: Mapping[str, Mapping[str, Any]] = {"smoke": SMOKE, "local": MINILM | {"epochs": 2}}


def grids(preset: str) -> Sequence[Grid]:
    """Return every kind of mask at a rate of its own, with its sharpness."""
    case = (
        opt("facebook/opt-125m", "sst2", paper_mask=False) if preset == "paper" else CASES[preset]
    )
    kinds = [
        (method, options, None if "1:64" in options.values() else COUNT[preset])
        for method, options in KINDS.values()
    ]
    axes = {"method+options+count": kinds, "seed": SEEDS[preset]}
    # rates that are not over the ratio: all masks have one size, 1e-3 of the weights
    over = rates_of(preset, "random")
    rates = over if not over.over_ratio else type(over)(
        tuple(float(f"{rate * 1e3:g}") for rate in over.tried)
    )  # fmt: skip
    return [Grid(case, axes, rates, {"sharpness": SHARPNESS[preset]})]


def derive(record: Record) -> Mapping[str, Any]:
    """Name the arms by their structure."""
    asked = (record["method"], dict(record["options"]))
    return {"arm": next(name for name, kind in KINDS.items() if kind == asked)}


def _within(text: str, value: str, name: str, by: float, log: bool) -> Statement:
    """State that a kind of mask and random ones agree up to `by`, a factor where `log`."""
    judge = statements.larger if log else statements.better
    least = 1 / by if log else -by
    return statements.each(
        text,
        [
            judge("not far below", value, name, "random", by=least, over=""),
            judge("not far above", value, "random", name, by=least, over=""),
        ],
    )


def _as_random(value: str, what: str, by: float, *, log: bool) -> dict[str, Statement]:
    return {
        f"{value}_{name}": _within(
            f"{name} masks have the {what} of random ones", value, name, by, log
        )
        for name in KINDS if name != "random"
    }  # fmt: skip


ARTEFACT = Artefact(
    name="structure",
    title="Which structure of a mask matters",
    source="ours, after section 4.4 of Xu & Zhang 2024",
    grids=grids,
    derive=derive,
    tables={
        "Masks of one size": columns.Table(
            by=("model", "task", "arm"),
            columns={
                "trainable": columns.count(), "rate": columns.rate(), "seeds": columns.seeds(),
                "accuracy": columns.mean_std("test"),
                "sharpness before": columns.geometric("sharpness_before"),
                "sharpness after": columns.geometric("sharpness_after"),
                "distance": columns.geometric("distance"),
            },
        ),
    },
    statements={
        **_as_random("test", "accuracy, to a point,", 0.01, log=False),
        **_as_random("sharpness_before", "sharpness before training, to a factor of 2,", 2.0,
                     log=True),
        **_as_random("distance", "distance, to a factor of 2,", 2.0, log=True),
    },
    panels=(
        panels.dots("test", "Accuracy", "test accuracy"),
        panels.dots("sharpness_before", "Sharpness before training",
                    "largest |Hessian eigenvalue|", log=True),
        panels.dots("distance", "Distance", "distance to initialisation", log=True),
    ),
    lead=(
        "Nine masks of one size on query and value. A random mask, a random set of rows, columns, "
        "heads, blocks or one in every 64, and the weights that are largest, smallest, or have the "
        "largest gradient."
    ),
    caption="Accuracy, sharpness and distance by structure; points are seeds, lines 95 % intervals",
    differences=(
        ("the steepest weights are chosen by the gradient of 64 training examples; of a head that "
         "is fitted to them gradients nearly vanish", "the choice may be noise"),
        ("a head is a third of the budget of a tensor, so that heads are taken in part",
         "between heads and rows"),
    ),
)  # fmt: skip
