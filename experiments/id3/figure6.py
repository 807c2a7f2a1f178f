"""Figure 6 of Agarwal et al. 2024 (ID3): schedules over budgets, and their updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.id3.grids import LARGE, SMALL, arms, cases, named
from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart
from experiments.kit.records import Record
from experiments.kit.view import Artefact
from landscape.sweep.grid import Grid

SCHEDULES = "ID3", "ID3, repeated", "ID3, static"
BUDGETS: Mapping[str, tuple[int, ...]] = {
    "smoke": (8000, SMALL["smoke"]), "local": (8000, SMALL["local"], LARGE["local"]),
    "paper": (80_000, 160_000, 320_000, 640_000),
}  # fmt: skip
LOW = (8000, 80_000)
HIGH = (SMALL["smoke"], LARGE["local"], 320_000, 640_000)


def grids(preset: str) -> Sequence[Grid]:
    """Return growing, repeated and static masks at every budget."""
    return [
        grid for case in cases(preset, ("sst2",), ("cola", "mrpc", "rte"))
        for grid in arms(preset, case, SCHEDULES, BUDGETS[preset])
    ]  # fmt: skip


def derive(record: Record) -> Mapping[str, Any]:
    """Count the updates of single weights, and how they stand to budget times steps.

    The head, trained whole beside every mask, is no part of either: the last step has the budget.
    """
    if record["diverged"]:  # its last step is not the last
        return named(record)
    steps, head = len(record["updated"]), record["updated"][-1] - record["budget"]
    updates = sum(record["updated"]) - steps * head
    share = updates / (record["budget"] * steps)
    half = abs(share - (steps + 1) / (2 * steps)) < 0.01
    return {**named(record), "updates": updates, "share": share, "half": half}


ARTEFACT = Artefact(
    name="id3-figure6",
    title="Growing, repeated and static masks over budgets",
    source="Agarwal et al. 2024, figure 6 and section 3.2",
    grids=grids,
    derive=derive,
    tables={
        "Scores": columns.Table(
            by=("model", "task", "arm", "budget"),
            columns={
                "score": columns.mean_std("test"), "rate": columns.rate(),
                "seeds": columns.seeds(), "updates": columns.mean_std("updates", ".3g"),
                "of budget x steps": columns.mean_std("share"),
            },
        ),
    },
    statements={
        "increment_beats_repeat_high": statements.better(
            "at a high budget growing masks score higher than repeated ones", "test", "ID3",
            "ID3, repeated", over="budget", where={"budget": HIGH},
        ),
        "repeat_beats_increment_low": statements.better(
            "at the lowest budget repeated masks score higher than growing ones", "test",
            "ID3, repeated", "ID3", over="budget", where={"budget": LOW},
        ),
        "repeat_falls": statements.monotone(
            "with repeated masks the score falls as the budget grows", "test", -1, x="budget",
            log=False, where={"arm": "ID3, repeated"},
        ),
        "increment_no_worse_than_static": statements.better(
            "growing masks lose less than a point to static ones", "test", "ID3", "ID3, static",
            by=-0.01, over="budget",
        ),
        "half_the_updates": statements.true_everywhere(
            "growing masks take (T + 1) / 2 T of the updates of static ones, to one percent",
            "half", where={"arm": "ID3"},
        ),
    },
    panels=apart(
        panels.curve("test", "Score over the budget", "test score", x="budget"),
        panels.curve("updates", "Updates of single weights", "updates", x="budget", log=True),
        panels.against("updates", "test", "Score over the updates", "updates", "test score",
                       log="x"),
    ),
    lead=(
        "Three ways to spend a budget: all of it from the first step on (static), a little more at "
        "every step (ID3), or chosen anew at every step (repeated), which moves more weights than "
        "the budget says."
    ),
    caption="Scores and updates over the budget; points are seeds",
    differences=(
        ("model {model} on {task}; the paper has DeBERTa-v3-base on CoLA, MRPC and RTE",
         "budgets are the same shares of the weights"),
    ),
)  # fmt: skip
