"""Table 1 and figure 1 of Agarwal et al. 2024 (ID3): selections on GLUE at equal budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.id3.grids import (
    CHOSEN,
    DEVICES,
    DIFFERENCES,
    LARGE,
    LOCAL,
    SMALL,
    arms,
    cases,
    named,
)
from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart, case_by_case
from experiments.kit.judge import Finding, settle
from experiments.kit.panels import Panel
from experiments.kit.records import Record, grouped, present
from experiments.kit.statements import Statement
from experiments.kit.view import Artefact
from experiments.paper.tables import beside
from landscape.sweep.grid import Grid

TASKS = "sst2", "stsb", "mrpc"
BOTH = TASKS[:1]
"""The local tasks with both budgets."""
BUDGETED = "ID3", "PaFi", "Fisher", "random"
DRAWN = (*BUDGETED, "gradient", "BitFit", "full")
#: our budgets and whole models -> the paper's
COUNTS = {25_728: 103_000, 80_000: 320_000, None: 184_000_000}
PRINTED = beside("id3", "table 1", "method", "count", "task")
#: budgets of each preset: as many weights as there are biases, and those of the paper's 320K
SAME, MORE = (SMALL["local"], SMALL["paper"]), (LARGE["local"], LARGE["paper"])
#: between the smallest and the largest rate of the paper's grid
WIDE = 7.0


def grids(preset: str) -> Sequence[Grid]:
    """Return the selections at the small budget, some at the large one, BitFit and all weights."""
    found = []
    for number, case in enumerate(cases(preset, TASKS)):
        found += arms(preset, case, ("none", "full", "BitFit"))
        found += arms(preset, case, BUDGETED if number else (*BUDGETED, "gradient"))
        if preset == "paper" or not number:
            found += arms(preset, case, BUDGETED, (LARGE[preset],))
    return found


def derive(record: Record) -> Mapping[str, Any]:
    """Name the arm, and tell tasks that have the large budget from those with the small one."""
    return {**named(record), "both": record["model"] != LOCAL["model"] or record["task"] in BOTH}


def printed(record: Record) -> float | None:
    """Return the paper's score of the same method, budget and task."""
    own = record["budget"]
    budget = 103_000 if record["method"] == "bitfit" else COUNTS.get(own, own)
    return PRINTED({"method": record["method"], "count": budget, "task": record["task"]})


def _one_grid(records: Sequence[Record]) -> Finding:
    """Compare the best rates of the selections, random masks among them, by task and budget.

    Each is of one seed's dev among rates half a decade apart, so that only all cells decide.
    """
    text = "best rates of all selections lie within a grid as wide as the paper's, a factor 7"
    found = {}
    for (task, budget), own in grouped(present(records, "budget"), "task", "budget").items():
        rates = {r["arm"]: r["lr"] for r in own if r["arm"] in BUDGETED}
        if {"random", "ID3"} <= rates.keys():
            found[f"{task}, {budget:,}"] = rates
    if not found:
        return Finding(text, "undecided", "not both were run")
    said = "; ".join(
        f"{at}: " + ", ".join(f"{arm} {rate:g}" for arm, rate in rates.items())
        for at, rates in found.items()
    )
    near = [max(rates.values()) / min(rates.values()) <= WIDE for rates in found.values()]
    return Finding(text, settle(near[0]) if len(set(near)) == 1 else "undecided", said)


BEATS = {
    f"beats_{short}": statements.better(
        f"ID3 scores higher than {other}", "test", "ID3", other, over="budget",
        where={"budget": at, **only},
    )
    for short, other, at, only in (
        ("pafi", "PaFi", (*SAME, *MORE), {}), ("fisher", "Fisher", (*SAME, *MORE), {}),
        ("bitfit", "BitFit", SAME, {}), ("random", "random", (*SAME, *MORE), {}),
        ("full", "full", MORE, {"both": True}),
    )
}  # fmt: skip

SCORES = apart(
    panels.dots("test", "Score", "test {metric}", where={"arm": DRAWN}), by=("task", "budget")
)
OVER_BUDGET = apart(
    panels.curve("test", "Score over the budget", "test {metric}", x="budget",
                 where={"arm": DRAWN}, xlabel="trainable weights"),
)  # fmt: skip


def drawn(records: Sequence[Record]) -> list[Panel]:
    """Return the scores case by case, and over the budget where a task has both: figure 1."""
    both = {r["task"] for r in records if r["both"]}
    return [*SCORES(records), *(p for p in OVER_BUDGET(records) if p.where["task"] in both)]


ARTEFACT = Artefact(
    name="id3-table1",
    title="Selections of weights at equal budgets",
    source="Agarwal et al. 2024, table 1 and figure 1",
    grids=grids,
    derive=derive,
    tables={
        "Scores": columns.Table(
            by=("model", "budget", "arm"), across="scored",
            columns={"score": columns.mean_std("test")},
        ),
        "Rates": columns.Table(
            by=("model", "task", "budget", "arm"),
            columns={
                "trainable": columns.count(), "rate": columns.rate(), "seeds": columns.seeds(),
                "device": columns.first("device"),
                "paper (DeBERTa-v3)": columns.paper(printed),
            },
        ),
    },
    statements=BEATS | {
        "far_behind": statements.better(
            "at its own best rate a random mask stays more than three points behind ID3", "test",
            "ID3", "random", by=0.03, over="budget",
        ),
        "one_grid_suits_all": Statement("the best rates of all selections", _one_grid),
    },
    further=case_by_case(*(BEATS[name] for name in BEATS if name != "beats_full")),
    panels=drawn,
    columns=2,
    lead=(
        "Which weights to train, at an equal number of them: as many as the model has biases, and "
        "three times as many. Every way to choose has its own rate."
    ),
    caption="Test scores by method, of which BitFit and full fine-tuning have sizes of their own "
    "(dashed over the budget); points are seeds, lines and bands 95 % intervals over them",
    differences=(
        ("model {model}, the paper's is DeBERTa-v3-base", "an eighth of the weights"),
        ("budgets are .113 and .352 % of the weights; the paper's .056 and .174 %",
         "twice the shares: what needs few weights may look better here"),
        ("a mean over cells is of the small budget on every task and the large one on SST-2; the "
         "paper has nine tasks at both", "SST-2 counts twice"),
        ("of MRPC's test pairs .684 are paraphrases, which a fitted head says of nearly all; 1,000 "
         "pairs teach little more", "MRPC tells methods apart by a few of its 408 pairs"),
        CHOSEN,
        DEVICES,
        *DIFFERENCES,
    ),
)  # fmt: skip
