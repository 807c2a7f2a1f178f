"""Tables 6 and 7 of Xu & Zhang 2024: the best learning rate of every method and ratio.

Rates are chosen on dev, from three over the ratio that may grow at both ends: with the first seed,
and on MiniLM and the reviews by every seed on its own, so that the exponent has seeds to vary over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart
from experiments.kit.judge import Finding, Verdict, every
from experiments.kit.records import Record, grouped
from experiments.kit.statements import Statement
from experiments.kit.view import Artefact
from experiments.paper.tables import beside
from experiments.random_masking.exponents import grows
from experiments.random_masking.grids import (
    DEVICES,
    DIFFERENCES,
    METHODS,
    MINILM,
    MINILM_SST2,
    OWN,
    SMOLLM2,
    SMOLLM2_SST2,
    baselines,
    cases,
    fitting,
    masks,
    named,
    rates_of,
)  # fmt: skip
from landscape.sweep.grid import Grid

CASES = MINILM, MINILM_SST2, SMOLLM2, SMOLLM2_SST2
RUINED = "full", "lora"
HIGH = 0.1
PAPER = "-0.85 [-0.94, -0.75] over 33 cells, -0.91 [-0.98, -0.85] without WSC"
OPT = {"model": "facebook/opt-125m", "task": "sst2"}
MASKS = beside("random_masking", "table 6", "ratio", value="lr", **OPT)
BASELINES = beside("random_masking", "table 7", "method", value="lr", **OPT)


def grids(preset: str) -> Sequence[Grid]:
    """Return masks at every seed's own rate, the baselines, and these at the masks' large rate."""
    found = []
    for case in cases(preset, CASES):
        names = [name for name in fitting(preset, case) if name != "none"]
        own = replace(rates_of(preset, "random"), every_seed=True)
        every = preset != "local" or case == MINILM
        found += [masks(preset, case, rates=own if every else None)]
        found += baselines(preset, case, names)
        if case["task"] != "sst2":
            found += [
                replace(grid, shared={**grid.shared, "lr": HIGH}, rates=None)
                for grid in baselines(preset, case, RUINED)
            ]
    return found


def derive(record: Record) -> Mapping[str, Any]:
    """Tell masks at every seed's own rate, and baselines at a rate of 0.1, which nobody chose."""
    arm, ruined = named(record)["arm"], record["task"] != "sst2"
    if arm == "masks" and record["every_seed"]:
        return {"arm": OWN, "ruined": ruined}
    at_large = record["method"] in RUINED and record["lr"] == HIGH and not record["tried"]
    return {"arm": f"{arm} at {HIGH:g}" if at_large else arm, "ruined": ruined}


def printed(record: Record) -> float | None:
    """Return the paper's best rate of the same method and ratio."""
    method = "random" if record["arm"] == OWN else METHODS.get(record["arm"], "")
    return (MASKS if method == "random" else BASELINES)(record | {"method": method})


def _aggressive(records: Sequence[Record]) -> Finding:
    """Tell whether the sparsest masks have a best rate of 0.1 with most models and tasks.

    A best rate is known to half a step of the rates tried. One at an edge of them, beyond which a
    better one may tell otherwise, decides nothing.
    """
    text = (
        f"the best rate of masks of ratio 1e-5 is {HIGH:g} or more, to half a step of the rates "
        "tried, for most models and tasks"
    )
    verdicts: list[Verdict] = []
    said = []
    for (model, task), own in grouped(records, "model", "task").items():
        lora = {r["lr"] for r in own if r["arm"] == "LoRA"}
        sparse = [r for r in own if r["arm"] in ("masks", OWN) and r["ratio"] == 1e-5]
        if not sparse:
            continue
        verdicts.append(every(_reaches(r) for r in sparse))
        beside = f", LoRA's {min(lora):g}" if lora else ""
        rates = ", ".join(f"{lr:g}" for lr in sorted({r["lr"] for r in sparse}))
        said.append(f"{model}, {task}: {rates}{beside}")
    half = len(verdicts) / 2
    verdict: Verdict = "undecided"
    if verdicts.count("holds") > half:
        verdict = "holds"
    elif verdicts and verdicts.count("fails") >= half:
        verdict = "fails"
    return Finding(text, verdict, "; ".join(said) or "none was run")


def _reaches(record: Record) -> Verdict:
    step = max((b / a for a, b in pairwise(record["tried"])), default=1.0)
    if record["lr"] * step**0.5 < HIGH:
        return "undecided" if record["edge"] == "highest" else "fails"
    return "undecided" if record["edge"] == "lowest" else "holds"


ARTEFACT = Artefact(
    name="table6",
    title="Best learning rates",
    source="Xu & Zhang 2024, tables 6 and 7",
    grids=grids,
    derive=derive,
    tables={
        "Best rates": columns.Table(
            by=("model", "task", "arm", "ratio"),
            columns={
                "rate": columns.rate(), "seeds": columns.seeds(),
                "device": columns.first("device"), "accuracy": columns.mean_std("test"),
                "paper (else OPT-125m, SST-2)": columns.paper(printed, "g"),
            },
        ),
    },
    statements={
        "grows": grows(
            "the best rate of masks grows as the ratio falls, by model and task", paper=PAPER,
            by_seed=False, where={"arm": "masks"},
        ),
        "grows_by_seed": grows(
            "the best rate of masks grows as the ratio falls, seed by seed", paper=PAPER,
            by_seed=True, where={"arm": OWN},
        ),
        "aggressive": Statement("the best rate of the sparsest masks", _aggressive),
        "baselines": statements.each(
            "at a rate of 0.1 full fine-tuning and LoRA lose accuracy",
            [
                statements.better(name, "test", name, f"{name} at {HIGH:g}",
                                  where={"ruined": True})
                for name in ("full fine-tuning", "LoRA")
            ],
        ),
    },
    panels=apart(
        panels.curve("lr", "Rate", "best learning rate", log=True, law=-1.0,
                     where={"arm": ("masks", OWN, "LoRA", "full fine-tuning")})
    ),
    columns=2,
    lead=(
        "The rate that is best on dev, of the first seed where one chose for all. In the linear "
        "theory the largest stable rate grows like one over the ratio; the paper's own table has "
        "the exponent -0.85 [-0.94, -0.75] over 33 cells, and -0.91 [-0.98, -0.85] without WSC."
    ),
    caption="Best rate over the ratio; dashed: one over the ratio, and methods without one",
    differences=(
        *DIFFERENCES[:3],
        ("rates half a decade apart, chosen on dev with the first seed, or by every seed on its "
         "own; the paper's are a decade apart, and by what they are chosen it does not say",
         "a rate that the first seed chose has no scatter over seeds"),
        ("rates of masks are tried over the ratio, around 1e-5 over it, and further where the best "
         "lies at an end", "within half a decade the exponent is the grid's"),
        DIFFERENCES[4],
        DEVICES,
    ),
    needs=("peft",),
)  # fmt: skip
