"""Figures 4a and 9 of Xu & Zhang 2024: the Hessian's norm over the ratio, at both ends.

The claims that sharpness falls with the ratio, before and after training, are judged here, on
several models at the protocol that all artefacts of the paper share; of distances see `figure4c`.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart
from experiments.kit.view import Artefact
from experiments.random_masking.grids import (
    DIFFERENCES,
    MINILM,
    OPT,
    SHARPNESS,
    SMOLLM2,
    cases,
    masks,
    named,
    opt,
)  # fmt: skip
from landscape.sweep.grid import Grid

CASES = MINILM, SMOLLM2
ENDS = "sharpness_before", "sharpness_after"


def grids(preset: str) -> Sequence[Grid]:
    """Return masks with their sharpness; the paper's are on SST-2, RTE, COPA and WiC."""
    chosen = (
        [opt(m, t) for m in OPT for t in ("sst2", "rte", "copa", "wic")]
        if preset == "paper" else cases(preset, CASES)
    )  # fmt: skip
    return [masks(preset, c, measure={"sharpness": SHARPNESS[preset]}) for c in chosen]


ARTEFACT = Artefact(
    name="figure4a",
    title="Sharpness inside a mask falls with the ratio",
    source="Xu & Zhang 2024, figures 4a and 9",
    grids=grids,
    derive=named,
    tables={
        "Sharpness": columns.Table(
            by=("model", "task", "ratio"),
            columns={
                "trainable": columns.count(), "seeds": columns.seeds(), "rate": columns.rate(),
                "before": columns.geometric(ENDS[0]), "after": columns.geometric(ENDS[1]),
                "accuracy": columns.mean_std("test"),
                "converged": columns.share("sharpness_converged_after"),
            },
        ),
    },
    statements={
        "before": statements.scales(
            "sharpness before training falls with the ratio", ENDS[0], 1, law=1.0
        ),
        "after": statements.scales(
            "sharpness after training falls with the ratio", ENDS[1], 1, law=1.0
        ),
        "converged": statements.true_everywhere(
            "every sharpness met its residual tolerance",
            "sharpness_converged_before", "sharpness_converged_after",
        ),
    },
    panels=apart(
        *(panels.curve(end, name, "largest |Hessian eigenvalue|", log=True, law=1.0)
          for end, name in zip(ENDS, ("Before training", "After training"), strict=True))
    ),
    columns=2,
    lead=(
        "The Hessian's eigenvalue of largest magnitude, on the trainable weights alone. In a "
        "linear model it is in proportion to the ratio: the principal submatrix of a random tenth "
        "has about a tenth of it. Means are geometric, since single masks scatter by factors."
    ),
    caption="Sharpness over the ratio; dashed: in proportion; points are seeds",
    differences=(
        ("Lanczos with a residual on every number; the paper says the power method",
         "none where both converge"),
        *DIFFERENCES,
    ),
)  # fmt: skip
