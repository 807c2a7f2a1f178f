"""Figure 5 of Agarwal et al. 2024 (ID3): dev scores on the way of a growing mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.id3.grids import DIFFERENCES, LARGE, arms, cases, named
from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart
from experiments.kit.records import Record
from experiments.kit.view import Artefact
from landscape.sweep.grid import Grid


def grids(preset: str) -> Sequence[Grid]:
    """Return growing and repeated masks at the large budget, which figure 6 has as well."""
    return [
        grid for case in cases(preset, ("sst2",), ("cola", "mrpc", "rte"))
        for grid in arms(preset, case, ("ID3", "ID3, repeated"), (LARGE[preset],))
    ]  # fmt: skip


def derive(record: Record) -> Mapping[str, Any]:
    """Read the dev scores of a run's evaluations, each with the weights updated by then.

    A run that diverged before its first evaluation has none.
    """
    metric, updated = record["metric"], record["updated"]
    seen = [e for e in record["evaluations"] if e["step"]]
    if not seen:
        return named(record)
    scores = [e[metric] for e in seen]
    return {
        **named(record), "course": scores, "at": [e["step"] for e in seen],
        "first": scores[0], "last": scores[-1],
        "rise": scores[-1] - scores[0], "before the end": max(scores[:-1] or scores),
        "by then": updated[seen[0]["step"] - 1],
    }  # fmt: skip


ARTEFACT = Artefact(
    name="id3-figure5",
    title="Scores on the way of a growing mask",
    source="Agarwal et al. 2024, figure 5",
    grids=grids,
    derive=derive,
    tables={
        "Dev scores": columns.Table(
            by=("model", "scored", "arm", "budget"),
            columns={
                "first": columns.mean_std("first"), "last": columns.mean_std("last"),
                "weights at the first": columns.mean_std("by then", ".0f"),
                "best before the end": columns.mean_std("before the end"),
                "rate": columns.rate(), "seeds": columns.seeds(),
            },
        ),
    },
    statements={
        "scores_rise_on_the_way": statements.exceeds(
            "the score of a growing mask is higher at the end than at its first evaluation",
            "rise", 0.0, where={"arm": "ID3"},
        ),
        "increment_on_the_way_beats_repeat": statements.better(
            "the best score of a growing mask before its end is above a repeated mask's",
            "before the end", "ID3", "ID3, repeated", over="budget",
        ),
    },
    panels=apart(
        panels.course("course", "Dev scores over the run", "dev {metric}", at="at", xlabel="step"),
        panels.dots("rise", "Rise from the first evaluation", "dev {metric}, last - first"),
    ),
    columns=2,
    lead=(
        "One run with a growing mask gives a model for every budget on its way. Each evaluation on "
        "dev is one of them."
    ),
    caption="Dev scores at the evaluations, the mean over seeds",
    differences=(
        ("one evaluation an epoch, {epochs} of them; the paper evaluates every 100 or 200 steps",
         "a coarser curve"),
        ("scores rise from epoch to epoch under any method", "the rise alone speaks for no mask"),
        *DIFFERENCES,
    ),
)  # fmt: skip
