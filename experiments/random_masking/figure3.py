"""Figures 3 and 6 to 8 of Xu & Zhang 2024: accuracy over the learning rate, for every ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart
from experiments.kit.records import Record
from experiments.kit.view import Artefact
from experiments.random_masking.grids import (
    DECADES,
    DEVICES,
    DIFFERENCES,
    MINILM,
    OPT,
    RANDOM,
    RATIOS,
    SEEDS,
    cases,
    masks,
)  # fmt: skip
from landscape.sweep.grid import Grid

#: preset -> the rates of every ratio
RATES: Mapping[str, tuple[float, ...]] = {
    "smoke": (1e-3, 1.0),
    "local": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
    "paper": DECADES,
}
#: a rate no smaller than LoRA's own, the ratio that it is too small for, one that others match
SMALL, SPARSEST, LARGE = 1e-3, 1e-5, 1e-2
CHOSEN, SPARSE = "rate chosen on dev", "1e-05 at the rate chosen on dev"


def grids(preset: str) -> Sequence[Grid]:
    """Return masks of every ratio at every rate with the first seed, and at the best with all."""
    method, options = RANDOM
    found = []
    for case in cases(preset, [MINILM]):
        seeds = SEEDS[preset] if preset == "paper" else SEEDS[preset][:1]
        axes = {"ratio": RATIOS[preset], "lr": RATES[preset], "seed": seeds}
        shared = {**case, "method": method, "options": options}
        found += [
            Grid(shared, axes), masks(preset, case),
            Grid({**shared, "ratio": SPARSEST, "lr": SMALL}, {"seed": SEEDS[preset]}),
        ]  # fmt: skip
    return found


def derive(record: Record) -> Mapping[str, Any]:
    """Tell runs at a rate of the grid, "swept", from those at the rate that dev chose.

    A curve over rates is of the same seeds at each: further ones of the sparsest masks at the small
    rate are in neither.
    """
    at = {"at": f"ratio {record['ratio']:g}", "smaller": record["ratio"] < LARGE}
    if record["tried"]:
        return at | {"arm": SPARSE if record["ratio"] == SPARSEST else CHOSEN,
                     "chosen": True, "swept": False}  # fmt: skip
    swept = record["model"] in OPT or record["seed"] == 0
    return at | {"arm": f"{record['ratio']:g} at {record['lr']:g}", "chosen": False,
                 "swept": swept}  # fmt: skip


ARTEFACT = Artefact(
    name="figure3",
    title="Accuracy over the learning rate, ratio by ratio",
    source="Xu & Zhang 2024, figures 3 and 6 to 8",
    grids=grids,
    derive=derive,
    tables={
        "Test accuracy by rate, of the first seed": columns.Table(
            by=("model", "task", "lr"), across="at", where={"swept": True},
            columns={"accuracy": columns.mean_std("test")},
        ),
        "Accuracy at the rate chosen on dev": columns.Table(
            by=("model", "task", "at"), where={"chosen": True},
            columns={
                "rate": columns.rate(), "accuracy": columns.mean_std("test"),
                "seeds": columns.seeds(), "device": columns.first("device"),
            },
        ),
    },
    statements={
        "steady": statements.at_each(
            "at its own rate every smaller ratio loses less than three points to 1e-2", "ratio",
            lambda ratio: statements.better(f"{ratio:g}", "test", ratio, LARGE, by=-0.03,
                                            axis="ratio", over="", where={"chosen": True}),
            where={"smaller": True},
        ),
        "small_rates": statements.better(
            "at 1e-3, no less than LoRA's rate, a ratio of 1e-5 is less accurate than at its own",
            "test", SPARSE, "1e-05 at 0.001", over="",
        ),
    },
    panels=apart(
        panels.curve("test", "Test accuracy", "test accuracy", x="lr", by="at",
                     where={"swept": True}, xlabel="learning rate"),
        panels.curve("dev_loss", "Dev loss", "dev loss", x="lr", by="at", log=True,
                     where={"swept": True}, xlabel="learning rate"),
        panels.dots("test", "At the rate chosen on dev", "test accuracy", by="at",
                    where={"chosen": True}),
    ),
    lead=(
        "Every ratio at every rate. In the paper the best rate lies the further right the smaller "
        "the ratio, and at its own rate each ratio is nearly as accurate as the others; what these "
        "runs say of it is judged below, with the paper's own largest loss, 2.9 points, as measure."
    ),
    caption="Accuracy and loss over the learning rate, one line a ratio; points are seeds",
    differences=(
        ("curves over rates are of the first seed, which chose the rates; the paper's of three",
         "a curve scatters as a seed does"),
        *DIFFERENCES,
        DEVICES,
    ),
)  # fmt: skip
