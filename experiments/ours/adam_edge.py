"""Is sharpness in AdamW's own metric at its threshold when a masked run ends?

Full-batch Adam raises the sharpness of P^-1 H, P its own preconditioner, to (2 + 2 beta1) /
((1 - beta1) lr), 38 / lr as a rule, and stays there (Cohen et al. 2022). Fine-tuning takes few
steps of small batches: whether masked runs get there is open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns, panels, statements
from experiments.kit.judge import Finding
from experiments.kit.presets import SMOKE
from experiments.kit.records import Record
from experiments.kit.statements import Statement
from experiments.kit.view import Artefact
from experiments.random_masking.grids import MINILM, OPT, RANDOM, RATIOS, SEEDS, opt
from landscape.sweep.grid import Grid

#: rates times the ratio: a tenth of what is usually best, that, and ten times it
TIMES: Mapping[str, tuple[float, ...]] = {
    "smoke": (1e-5,), "local": (1e-6, 1e-5, 1e-4), "paper": (1e-7, 1e-6, 1e-5),
}  # fmt: skip
TENTH, USUAL, TENFOLD = "a tenth of the usual rate", "the usual rate", "ten times the usual rate"
THRESHOLD = "threshold"
OPTIONS = {"smoke": {"examples": 4, "max_matvecs": 8}, "local": {"examples": 32},
           "paper": {"examples": 128}}  # fmt: skip
CASES: Mapping[str, Mapping[str, Any]] = {"smoke": SMOKE, "local": MINILM | {"epochs": 2}}


def grids(preset: str) -> Sequence[Grid]:
    """Return masks at three rates a ratio, with sharpness in AdamW's metric at the last step."""
    case = (
        opt("facebook/opt-125m", "sst2", paper_mask=False) if preset == "paper" else CASES[preset]
    )
    ratios = RATIOS[preset][:3] if preset == "local" else RATIOS[preset]
    cells = [(p, float(f"{c / p:.3g}")) for p in ratios for c in TIMES[preset] if c / p <= 1]
    method, options = RANDOM
    axes = {"ratio+lr": cells, "seed": SEEDS[preset]}
    shared = {**case, "method": method, "options": options}
    return [Grid(shared, axes, measure={"preconditioned": OPTIONS[preset]})]


def derive(record: Record) -> Mapping[str, Any]:
    """Read sharpness over its threshold at the last step, and name the arm by its rate.

    A run that diverged has none, nor one whose largest eigenvalue in size is negative: what that
    leaves below it says nothing of the largest of all.
    """
    usual = TIMES["paper" if record["model"] in OPT else "local"][1]
    times = record["lr"] * record["ratio"] / usual
    arm = {"arm": TENTH if times < 0.5 else USUAL if times < 5 else TENFOLD}
    steps = record.get("preconditioned_steps") or []
    top = steps[-1].get("preconditioned_sharpness", 0.0) if steps else 0.0
    if not top > 0:
        return arm
    return {**arm, "sharpness": top, "over": top / steps[-1]["preconditioned_threshold"]}


def _at_threshold(text: str, arm: str) -> Statement:
    """State that sharpness ends within a factor of 2 of its threshold."""
    ends = statements.each(
        text,
        [
            statements.larger("not below half of it", "over", arm, THRESHOLD, by=0.5),
            statements.larger("not above twice of it", "over", THRESHOLD, arm, by=0.5),
        ],
    )

    def judge(records: Sequence[Record]) -> Finding:
        own = [{**r, "arm": THRESHOLD, "over": 1.0} for r in records if r["arm"] == arm]
        return ends.judge([*records, *own])

    return Statement(text, judge)


ARTEFACT = Artefact(
    name="adam_edge",
    title="Sharpness in AdamW's own metric against its threshold",
    source="ours, after Cohen et al. 2022",
    grids=grids,
    derive=derive,
    tables={
        "At the last step": columns.Table(
            by=("model", "task", "ratio", "lr"),
            columns={
                "seeds": columns.seeds(), "sharpness": columns.geometric("sharpness"),
                "sharpness over threshold": columns.geometric("over"),
                "accuracy": columns.mean_std("test"), "diverged": columns.share("diverged"),
            },
        ),
    },
    statements={
        "at_threshold": _at_threshold(
            "at the usual rate sharpness ends within a factor of 2 of its threshold", USUAL
        ),
        "at_threshold_tenfold": _at_threshold(
            "at ten times the usual rate sharpness ends within a factor of 2 of its threshold",
            TENFOLD,
        ),
        "sharpens": statements.larger(
            "sharpness itself ends larger at the usual rate than at a tenth of it", "sharpness",
            USUAL, TENTH,
        ),
    },
    panels=(
        panels.curve("over", "Sharpness over its threshold", r"$\lambda_1(P^{-1}H)$ / threshold",
                     log=True, line=1.0),
        panels.against("over", "test", "Accuracy over sharpness", "sharpness over threshold",
                       "test accuracy", log="x"),
    ),
    columns=2,
    lead=(
        "The largest eigenvalue of the Hessian in AdamW's metric at the last step of a run, over "
        "the value at which Adam with a settled preconditioner turns unstable, 38 over the rate. "
        "At 1 a run is at the edge of stability. The usual rate is 1e-5 over the ratio, of OPT "
        "1e-6. The threshold falls with the rate, so that sharpness over it grows with the rate "
        "even where sharpness itself does not change."
    ),
    caption="Sharpness over its threshold (line: at it); points are seeds",
    differences=(
        ("few steps of 8 examples at a constant rate; the theory is of full batches and many steps",
         "below the threshold"),
        ("Adam's mean of squares reaches back 1000 steps and has seen a quarter of them",
         "its metric is not settled"),
        ("sharpness of 32 training examples, to 5 %", "sampling, which all rates share"),
    ),
)  # fmt: skip
