"""The linear model of a network, with intervals, beside what the engine measures inside masks.

Nothing is fine-tuned by the sweep engine: measurements of the pretrained model, one of what
the linear model predicts, one a ratio and mask of what is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns
from experiments.kit.view import Artefact
from experiments.ours.bridge_figure import drawn
from experiments.ours.bridge_report import (
    bound_table,
    check,
    cost_table,
    coverage_table,
    mask_table,
)
from landscape.sweep.grid import Grid

PREDICTED = "experiments.measurements.linearised:PREDICTED"
START, SGD = "experiments.measurements.bridge:START", "experiments.measurements.bridge:SGD"
#: of the errors, which are small where stability is asked
SMALL = {"share": 1e-3}
RATIOS = (1e-2, 1e-3, 1e-4, 1e-5)
SHARED = {"method": "none", "task": "rotten_tomatoes", "num_train": 96, "num_dev": 8,
          "num_test": 8}  # fmt: skip
#: preset -> (model, ratios, masks, examples, options of a prediction, measurements with options)
SETTINGS: Mapping[str, tuple[tuple[Any, ...], ...]] = {
    "smoke": (
        ("minilm-l6", (1e-3,), 1, 2, {"draws": 19, "steps": 5, "heavy": 10},
         {START: {"evaluations": 1, "max_matvecs": 4, "max_steps": 1}, SGD: {"steps": 5, **SMALL}}),
    ),
    "local": (
        ("minilm-l6", RATIOS, 5, 16, {}, {START: {}, SGD: SMALL}),
        ("smollm2-135m", RATIOS, 5, 16, {}, {START: {}, SGD: SMALL}),
    ),
    "paper": (
        ("facebook/opt-125m", (1e-1, *RATIOS), 10, 64, {}, {START: {}, SGD: SMALL}),
        ("facebook/opt-1.3b", (1e-1, *RATIOS), 10, 32, {}, {START: {}, SGD: SMALL}),
    ),
}  # fmt: skip


def grids(preset: str) -> Sequence[Grid]:
    """List, of every model, the prediction and what is measured inside each mask of a ratio."""
    found = []
    for model, ratios, masks, examples, predicted, measured in SETTINGS[preset]:
        shared = {**SHARED, "model": model, "targets": ("auto",)}
        asked = {"examples": examples, **predicted, "ratios": ratios, "masks": masks}
        found.append(Grid(shared, {"seed": (0,)}, measure={PREDICTED: asked}))
        found += [
            Grid(shared, {"seed": (0,), "mask_seed": range(masks)},
                 measure={name: {"examples": examples, **options, "ratio": ratio}})
            for name, options in measured.items() for ratio in ratios
        ]  # fmt: skip
    return found


LEAD = (
    "The gradients of a network's outputs at its pretrained weights make a linear model of it, "
    "with which four numbers are predicted for random masks, each with an interval that holds "
    "the linear model's own number for 95 % of masks. The engine then measures the same numbers "
    "inside masks of its own: the sharpness of the Gauss-Newton matrix; the rate at which "
    "AdamW's first step has the lowest loss; the distance at which a descent has halved the "
    "loss; and the rate at which SGD of one example a step makes a squared loss grow.\n\n"
    "Where the linear theory stops, and why: at the pretrained weights it is exact, so that the "
    "sharpness is right at any ratio, and what scatters is the mask. Everything else takes "
    "steps, and is right as far as those leave the scores linear in the weights. The quadratic "
    "loss stops first: cross-entropy bends within a single step of AdamW, by which the best "
    "rate is off by factors. Linear scores with their own cross-entropy mend that in SmolLM2, "
    "within a tenth down to 1e-4 and a third at 1e-5, not in MiniLM, whose scores bend before: "
    "its best rate is 0.6 to 0.7 of theirs at 1e-2 and a third of theirs or less at 1e-5. The "
    "step is not small there: it moves each weight of the mask by a quarter of the weights' "
    "root mean square at 1e-2 and by fifty times that at 1e-5 (SmolLM2: by a sixtieth, and by "
    "thirteen times). A sparser mask needs a larger rate, about one over the ratio, for fewer "
    "weights, so that single weights leave the linear range; the intervals hold more there mostly "
    "because masks scatter more. The least norm is what no linear path undercuts. MiniLM's GD "
    "nearly attains it, and where it ends closer, as in the densest masks, the scores moved "
    "further than the gradients at the start say; in the sparsest it may not arrive in its "
    "steps. SmolLM2's GD arrives in a step or two in 15 of 20 masks, 1.05 to 2.9 times as far as "
    "the least norm; in the other five, three at 1e-4 and two at 1e-5, the loss soon rises above "
    "its first, and it ends up to 15 times as far. AdamW moves all weights alike, which is "
    "a longer way in a linear model, too: it is shown without verdict.\n\n"
    "SGD's rate is where the linear theory holds to the end: stability is about small errors, "
    "and a thousandth of the task's own grows from the rate on at which it grows in the linear "
    "model. The whole errors do not show it. There MiniLM's loss ends above its first at "
    "half of that rate in the median (at 0.09 to 1.7 of it), for its scores bend on the way; "
    "and SmolLM2's may end below its first at many times that rate: steps that are far too long "
    "leave both scores equal, which costs less than its first loss, and stay there."
)

ARTEFACT = Artefact(
    name="bridge",
    title="What the linear model predicts inside a mask, and what the network does",
    source="ours",
    grids=grids,
    tables={
        "Measurements inside the 95 % interval": columns.Lines(coverage_table),
        "Medians": columns.Lines(mask_table),
        "SGD's unstable rate over the bound of the mean square": columns.Lines(bound_table),
        "What it cost": columns.Lines(cost_table),
    },
    statements={},
    further=check,
    panels=drawn,
    columns=2,
    lead=LEAD,
    caption=(
        "Bars: 95 % of masks by the linear model, cut at a hundred times its median. "
        "Points: one mask each, beside those of its ratio. A descent that did "
        "not reach the loss in its steps has no point, and counts as outside. SGD's errors are a "
        "thousandth of the task's"
    ),
)  # fmt: skip
