"""Figures 4b and 10 of Xu & Zhang 2024: longer training at a rate that is too small for a mask.

The rate is constant, so one long run holds all shorter ones: dev after each of its epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart
from experiments.kit.records import Record
from experiments.kit.statements import Statement
from experiments.kit.view import Artefact
from experiments.random_masking.grids import (
    DEVICES,
    DIFFERENCES,
    MINILM,
    OPT,
    RANDOM,
    SEEDS,
    cases,
    masks,
    opt,
)  # fmt: skip
from landscape.sweep.grid import Grid

CASES = (MINILM,)
RATIO = 1e-3
#: preset -> the epochs looked at, and the rates that are too small for the ratio
EPOCHS: Mapping[str, tuple[int, int, int]] = {
    "smoke": (1, 2, 4), "local": (1, 3, 12), "paper": (5, 10, 20),
}  # fmt: skip
LRS: Mapping[str, tuple[float, ...]] = {
    "smoke": (3e-4,), "local": (3e-4,), "paper": (1e-5, 1e-4),
}  # fmt: skip
SMALL, BEST = "small rate", "rate chosen on dev"


def grids(preset: str) -> Sequence[Grid]:
    """Return long runs at small rates, and the usual ones at the best."""
    chosen = [opt(m, t) for m in OPT for t in ("sst2", "rte")]
    method, options = RANDOM
    found = []
    for case in chosen if preset == "paper" else cases(preset, CASES):
        shared = {**case, "method": method, "options": options, "ratio": RATIO}
        long = shared | {"epochs": EPOCHS[preset][-1]}
        found += [
            Grid(long, {"lr": LRS[preset], "seed": SEEDS[preset]}),
            masks(preset, case, ratios=[RATIO]),
        ]
    return found


def derive(record: Record) -> Mapping[str, Any]:
    """Read dev accuracy and training loss after some epochs of a run.

    Both arms are read at the end of an epoch, not at the checkpoint that was best on dev. A run
    that diverged has nothing at the epochs that it did not reach.
    """
    ends = range(1, record["epochs"] + 1)
    scores, losses = zip(*(_after(record, epoch) for epoch in ends), strict=True)
    reached = [score for score in scores if score is not None]
    found = {"late": scores[-1], "course": reached, "loss": losses[-1]}
    if record["tried"]:
        return {"arm": BEST, **found}
    marks = next(e for e in EPOCHS.values() if e[-1] == record["epochs"])
    first, second, third = ((scores[e - 1], losses[e - 1]) for e in marks)
    return found | {
        "arm": f"{SMALL}, {record['lr']:g}", "marks": "after {}, {}, {} epochs".format(*marks),
        "early": first[0], "middle": second[0],
        "gain": _less(second[0], first[0]), "further gain": _less(third[0], second[0]),
        "fall": _less(first[1], second[1]), "further fall": _less(second[1], third[1]),
    }  # fmt: skip


def _after(record: Record, epoch: int) -> tuple[float | None, float | None]:
    """Return dev's score after an epoch and the mean training loss in it; none if not reached."""
    rows = record["batch_size"] * record["settings"].get("accumulate", 1)
    steps = -(-record["num_train"] // rows)
    losses = record["train_loss"][steps * (epoch - 1) : steps * epoch]
    if len(losses) < steps or None in losses:
        return None, None
    seen = [e for e in record["evaluations"] if steps * (epoch - 1) < e["step"] <= steps * epoch]
    return (seen[-1][record["metric"]] if seen else None), fmean(losses)


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _above_best(text: str, value: str, by: float | None = None) -> Statement:
    """State that a value is above the best rate's at every small rate there is."""
    return statements.at_each(
        text, "arm", lambda arm: statements.better(text, value, arm, BEST, by=by, over=""), but=BEST
    )


ARTEFACT = Artefact(
    name="figure4b",
    title="Longer training at a learning rate that is too small",
    source="Xu & Zhang 2024, figures 4b and 10",
    grids=grids,
    derive=derive,
    tables={
        "Dev accuracy of one mask size (ratio 1e-3)": columns.Table(
            by=("model", "task", "arm"),
            columns={
                "rate": columns.rate(), "epochs": columns.first("epochs"),
                "seeds": columns.seeds(), "device": columns.first("device"),
                "marks": columns.first("marks"), "at the first mark": columns.mean_std("early"),
                "at the second": columns.mean_std("middle"),
                "at the last epoch": columns.mean_std("late"),
                "training loss, last epoch": columns.mean_std("loss"),
                "test (checkpoint best on dev)": columns.mean_std("test"),
            },
        ),
    },
    statements={
        "longer": statements.each(
            "at a small rate accuracy on dev grows with the epochs",
            [
                statements.exceeds("from the first mark to the second", "gain", 0.0),
                statements.exceeds("from the second to the third", "further gain", 0.0),
            ],
        ),
        "optimisation": statements.each(
            "at a small rate the training loss falls with the epochs, and ends above the best's",
            [
                statements.exceeds("from the first mark to the second", "fall", 0.0),
                statements.exceeds("from the second to the third", "further fall", 0.0),
                _above_best("above the best rate's after a quarter of the epochs", "loss"),
            ],
        ),
        "catches_up": _above_best(
            "after four times the epochs a small rate is within a point of the best rate on dev",
            "late", by=-0.01,
        ),
    },
    panels=apart(
        panels.course("course", "Accuracy after every epoch", "dev accuracy", xlabel="epoch"),
        panels.course("train_loss", "Training loss", "loss", smooth=50),
    ),
    columns=2,
    lead=(
        "A rate that is ten times and more too small for its mask, trained for four times as long "
        "as the best. If it fails for want of steps, accuracy grows and the loss falls with every "
        "epoch; whether four times are enough is another question."
    ),
    caption="Dev accuracy after every epoch at a small rate, the mean over seeds",
    differences=(
        ("dev at each epoch of one long run at a constant rate instead of runs of several lengths",
         "none: the shorter runs are its beginnings"),
        ("the best rate was chosen on the dev examples, of the first seed, on which it is judged",
         "its score is a little too high"),
        *DIFFERENCES[:4],
        DEVICES,
    ),
)  # fmt: skip
