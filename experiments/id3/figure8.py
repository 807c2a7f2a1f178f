"""Figures 7 to 9 of Agarwal et al. 2024 (ID3): how a mask spreads over tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.id3.grids import DIFFERENCES, LARGE, arms, cases, named
from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart
from experiments.kit.records import Record
from experiments.kit.view import Artefact
from landscape.sweep.grid import Grid

PLACES = "experiments.id3.places:PLACES"
"""The measurement."""
QUERY_AND_KEY = ("query", "key", "query_proj", "key_proj", "q_proj", "k_proj")

EVERY = {"smoke": 1, "local": 10, "paper": 20}
ARMS = "ID3", "ID3, repeated"


def grids(preset: str) -> Sequence[Grid]:
    """Return growing and repeated masks, followed; runs that figures 5 and 6 have as well."""
    return [
        grid for case in cases(preset, ("sst2",), ("cola", "mrpc", "rte"))
        for grid in arms(preset, case, ARMS, (LARGE[preset],),
                         measure={PLACES: {"every": EVERY[preset]}})
    ]  # fmt: skip


def derive(record: Record) -> Mapping[str, Any]:
    """Read where the mask lay at both ends and in between; a run that diverged has no end."""
    found = {} if record["diverged"] else dict(_ends(record))
    if found:
        found["early rise"] = found["entropy_early"] - found["entropy_first"]
        found["move after the first tenth"] = abs(found["entropy_last"] - found["entropy_early"])
    return {**named(record), **found}


def _ends(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a record's values at its first, middle and last look, for columns and statements.

    ``untouched share at first``, ``untouched share early`` (at the look nearest to a tenth of the
    run), ``untouched share at last``, the same of entropy as ``entropy_first`` and so on,
    ``share of query and key`` (of the densities, what these have at the end), ``densities_first``
    and ``densities_last`` (layer, module, density), and the courses ``sparsity`` and ``entropy``;
    nothing where places were not measured.
    """
    steps = record.get("places_steps")
    if not steps:
        return {}
    first, last = steps[0], steps[-1]
    early = min(steps[1:] or steps, key=lambda s: abs(s["step"] - last["step"] / 10))
    densities = [(module, density) for _, module, density in last["allocation"]]
    total = sum(density for _, density in densities) or 1.0
    few = sum(d for module, d in densities if module.split(".")[-1] in QUERY_AND_KEY)
    return {
        "untouched share at first": first["sparsity"], "untouched share early": early["sparsity"],
        "untouched share at last": last["sparsity"],
        "entropy_first": first["entropy"], "entropy_early": early["entropy"],
        "entropy_last": last["entropy"], "share of query and key": few / total,
        "sparsity": [s["sparsity"] for s in steps], "entropy": [s["entropy"] for s in steps],
        "steps_seen": [s["step"] for s in steps],
        "densities_first": _short(first["allocation"]),
        "densities_last": _short(last["allocation"]),
    }  # fmt: skip


def _short(allocation: Sequence[Sequence[Any]]) -> list[tuple[Any, str, float]]:
    """Return layer, module and density, with the name of a module as short as it is clear."""
    return [(layer, m.removeprefix("attention.self."), density) for layer, m, density in allocation]


ARTEFACT = Artefact(
    name="id3-figure8",
    title="How masks spread over tensors",
    source="Agarwal et al. 2024, figures 7 to 9",
    grids=grids,
    derive=derive,
    tables={
        "Places": columns.Table(
            by=("model", "task", "arm"),
            columns={
                "seeds": columns.seeds(),
                "untouched, first": columns.mean_std("untouched share at first"),
                "untouched, at a tenth": columns.mean_std("untouched share early"),
                "untouched, last": columns.mean_std("untouched share at last"),
                "entropy, first": columns.mean_std("entropy_first"),
                "entropy, at a tenth": columns.mean_std("entropy_early"),
                "entropy, last": columns.mean_std("entropy_last"),
                "in query and key": columns.mean_std("share of query and key"),
            },
        ),
    },
    statements={
        "untouched_at_first": statements.exceeds(
            "at its first step a growing mask leaves nine of ten tensors untouched",
            "untouched share at first", 0.9, where={"arm": "ID3"},
        ),
        "repeat_touches_more_tensors": statements.better(
            "at a tenth of the run growing masks leave more tensors untouched than repeated ones",
            "untouched share early", *ARMS, over="",
        ),
        "entropy_grows_early": statements.exceeds(
            "the entropy of a growing mask rises in its first tenth", "early rise", 0.0,
            where={"arm": "ID3"},
        ),
        "entropy_settles": statements.below(
            "the entropy of a growing mask moves by less than 0.1 after its first tenth",
            "move after the first tenth", 0.1, where={"arm": "ID3"},
        ),
        "repeat_spreads_from_the_start": statements.better(
            "at a tenth of the run repeated masks are spread more evenly than growing ones",
            "entropy_early", *ARMS[::-1], over="",
        ),
        "query_and_key_get_less": statements.below(
            "query and key, two of six kinds of weights, get less than their third of the density",
            "share of query and key", 1 / 3, where={"arm": "ID3"},
        ),
    },
    panels=apart(
        panels.course("sparsity", "Tensors untouched", "share of tensors", at="steps_seen"),
        panels.course("entropy", "Evenness over tensors", "entropy over its largest value",
                      at="steps_seen"),
        *(
            panels.heat(f"densities_{end}", f"ID3's mask {at}", "layer",
                        "share of a tensor's weights", where={"arm": "ID3"})
            for end, at in (("first", "at its first step"), ("last", "at the end"))
        ),
        panels.dots("share of query and key", "Query and key", "share of all densities at the end"),
    ),
    columns=2,
    lead=(
        "Where the selected weights lie: how many tensors have none, how evenly the others share "
        "them, and what query and key get. Weights that a repeated mask has left again count: they "
        "differ from the pretrained ones."
    ),
    caption="Means over seeds at the steps that were looked at; points are seeds",
    differences=(
        ("model {model} on {task}; the paper has DeBERTa-v3-base on CoLA, MRPC and RTE",
         "36 tensors instead of 72"),
        ("entropy over its largest value; the paper does not say how it is normalised",
         "levels, not courses"),
        ("at a tenth of a run a growing mask has a tenth of the budget, a repeated one all of it",
         "that it touches fewer tensors there says little of how either chooses"),
        *DIFFERENCES,
    ),
)  # fmt: skip
