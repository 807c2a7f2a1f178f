"""Figure 4 a and c of Xu & Zhang 2024: sharpness and distance against the ratio, on one model.

The README's demo, with a protocol of its own (one epoch of 640 reviews). No claim of the ledger is
judged here: those of sharpness are in `figure4a`, those of distances in `figure4c`, whose runs are
shared by the paper's other artefacts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.kit import columns, panels, statements
from experiments.kit.records import Record
from experiments.kit.view import Artefact
from experiments.random_masking.grids import OPT, RATIOS, SHARPNESS, baselines, masks, opt
from landscape.sweep.grid import Grid
from landscape.sweep.rates import Rates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CASE = {
    "model": "smollm2-135m", "task": "rotten_tomatoes", "targets": ("*.[qv]_proj",),
    "num_train": 640, "num_dev": 200, "num_test": 400, "epochs": 1,
}  # fmt: skip
ARMS = ("after training", "before training")
#: preset -> ratios, seeds, rates over the ratio, the sharpness's options, sizes that are not CASE's
SETTINGS: Mapping[str, tuple[Any, ...]] = {
    "smoke": ((1e-2, 1e-3, 1e-4), (0,), (1e-5,), {"examples": 4, "tol": 5e-2, "max_matvecs": 16},
              {"num_train": 128, "num_dev": 32, "num_test": 128}),
    "local": (RATIOS["local"], (0, 1, 2), (3e-6, 1e-5, 3e-5),
              {"examples": 16, "tol": 2e-2, "max_matvecs": 30}, {}),
}  # fmt: skip


def grids(preset: str) -> Sequence[Grid]:
    """List masks at every ratio with their sharpness, beside the pretrained model."""
    if preset == "paper":
        case, measured = opt(OPT[0], "sst2"), {"sharpness": SHARPNESS[preset]}
        return [masks(preset, case, measure=measured), *baselines(preset, case, ["none"])]
    ratios, seeds, tried, curvature, sizes = SETTINGS[preset]
    rates = Rates(tried, over_ratio=True, widen=0)
    return [
        Grid(CASE | sizes, {"ratio": ratios, "seed": seeds}, rates, {"sharpness": curvature}),
        Grid(CASE | sizes | {"method": "none"}, {"seed": seeds}),
    ]


def derive(record: Record) -> Mapping[str, Any]:
    """Return the arm, and of what is measured magnitudes: the paper's Hessian norm."""
    before, after = record.get("sharpness_before"), record.get("sharpness_after")
    if before is None or after is None:
        return {"arm": ARMS[1]}
    arithmetic = record["lr"] * record["steps"] * math.sqrt(record["count"])
    return {"arm": ARMS[0], "norm_before": abs(before), "norm_after": abs(after),
            "positive": min(before, after) > 0,
            "distance over arithmetic": record["distance"] / arithmetic}  # fmt: skip


def _norms(axis: Axes, records: Sequence[Record], palette: panels.Palette) -> None:
    """Draw the norm at both ends of a run as two curves."""
    ends = [
        r | {"arm": arm, "norm": r[f"norm_{arm.partition(' ')[0]}"]}
        for arm in reversed(ARMS) for r in records if "norm_before" in r
    ]  # fmt: skip
    label = "sharpness (largest |Hessian eigenvalue|)"
    panels.curve("norm", "", label, log=True, law=1.0).draw(axis, ends, palette)


ARTEFACT = Artefact(
    name="figure4",
    title="Masking flattens the landscape and moves the solution away",
    source="Xu & Zhang 2024, figure 4 a and c",
    grids=grids,
    derive=derive,
    tables={
        "Results": columns.Table(
            by=("arm", "ratio"),
            columns={
                "trainable": columns.count(), "rate": columns.rate(), "seeds": columns.seeds(),
                "accuracy": columns.mean_std("test"),
                "sharpness before": columns.geometric("norm_before"),
                "sharpness after": columns.geometric("norm_after"),
                "distance": columns.mean_std("distance", ".3g"),
            },
        ),
    },
    statements={
        "before": statements.scales(
            "a smaller ratio has a smaller Hessian norm before training", "norm_before", 1, law=1.0
        ),
        "after": statements.scales(
            "a smaller ratio has a smaller Hessian norm after training", "norm_after", 1, law=1.0
        ),
        "distance": statements.scales(
            "a smaller ratio has a more distant solution", "distance", -1, law=-0.5,
            where={"arm": ARMS[0]},
        ),
        "landscape": statements.scales(
            "so it is beyond the optimizer's arithmetic, rate × steps × √weights",
            "distance over arithmetic", -1, where={"arm": ARMS[0]},
        ),
        "learns": statements.at_each(
            "every ratio is more accurate on test after training than before", "ratio",
            lambda ratio: statements.better(f"ratio {ratio:g}", "test", *ARMS,
                                            where={"ratio": ratio}),
        ),
        "positive": statements.true_everywhere(
            "the eigenvalue of largest magnitude is positive, before and after training", "positive"
        ),
        "converged": statements.true_everywhere(
            "every sharpness met its residual tolerance",
            "sharpness_converged_before", "sharpness_converged_after",
        ),
    },
    panels=(
        panels.Panel("A sparser mask is flatter", _norms),
        panels.curve("distance", "A sparser mask moves further", "distance to initialisation",
                     log=True, law=-0.5, where={"arm": ARMS[0]}),
        panels.curve("test", "Accuracy on held-out films", "test accuracy"),
    ),
    lead=(
        "A pretrained language model is fine-tuned on film reviews, training only a random "
        "fraction of its weights. The smaller the fraction (ratio), the smaller the largest "
        "eigenvalue, in magnitude, of the Hessian on the trainable weights (sharpness), the "
        "larger the learning rates that are tried, and the further the solution from the "
        "pretrained weights. Rates of one over the ratio make sparser masks more distant by "
        "arithmetic alone, like one over the ratio's root; what is beyond that is judged apart."
    ),
    caption="Sharpness, distance, accuracy against the ratio; dashed: linear theory",
)  # fmt: skip
