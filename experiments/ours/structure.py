"""Which structure of a mask matters: nine masks of one size, their accuracy and landscape.

The paper compares random weights with whole columns. Here rows, heads, blocks and n:m patterns, and
masks of the largest, the smallest and the steepest weights, stand beside them. How far a mask goes
is the rate's doing first of all, and rates differ, so distances are told and not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns, panels, statements
from experiments.kit.presets import SMOKE
from experiments.kit.records import Record
from experiments.kit.statements import Statement
from experiments.kit.view import Artefact
from experiments.random_masking.grids import DEVICES, MINILM, SEEDS, SHARPNESS, opt, rates_of
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


def _as_random(value: str, what: str, by: float, *, log: bool) -> dict[str, Statement]:
    return {
        f"{value}_{name}": statements.alike(
            f"{kind} have the {what} of random ones",
            value,
            name,
            "random",
            within=by,
            log=log,
            over="",
        )
        for name, kind in NAMED.items()
    }


#: what the arms are called in a sentence
NAMED = {
    "rows": "rows", "columns": "columns", "heads": "parts of heads", "blocks": "blocks",
    "1:64": "weights drawn one in every 64", "largest": "the largest weights",
    "smallest": "the smallest weights", "steepest": "the steepest weights",
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
                "device": columns.first("device"),
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
    },
    panels=(
        panels.dots("test", "Accuracy", "test accuracy"),
        panels.dots("sharpness_before", "Sharpness before training",
                    "largest |Hessian eigenvalue|", log=True),
        panels.dots("sharpness_after", "Sharpness after training",
                    "largest |Hessian eigenvalue|", log=True),
    ),
    lead=(
        "Nine masks of one size on query and value, each tensor with its share of it. A random "
        "mask, a random set of rows, columns, heads, blocks or one in every 64, and the weights "
        "that are largest, smallest, or have the largest gradient, each at a rate of its own."
    ),
    caption="Accuracy and sharpness by structure; points are seeds, lines 95 % intervals",
    differences=(
        ("one ratio; the paper's order of random weights and columns is a mean of nine",
         "of other sizes it may be another"),
        ("the rate of a mask is chosen among three or a few more on dev, with the first seed",
         "half a decade of rate may be points of accuracy, more than structure is, and is most of "
         "what distances differ by"),
        ("the largest and the smallest weights are the same for every seed; others are drawn, or "
         "chosen by its examples", "these two do not scatter by their mask"),
        ("the steepest weights are chosen by the gradient of 64 training examples, to which the "
         "head was fitted before", "what is left of it may point at the sharpest weights"),
        ("the budget of a tensor is less than a head, so that of one head the first rows are taken",
         "as rows that lie together"),
        DEVICES,
    ),
)  # fmt: skip
