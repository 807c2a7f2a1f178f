"""Table 4 of Agarwal et al. 2024 (ID3): selections on named entities."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.id3.grids import CHOSEN, DEVICES, DIFFERENCES, LARGE, SMALL, arms, cases, named
from experiments.kit import columns, panels, statements
from experiments.kit.cases import apart
from experiments.kit.judge import Finding, Verdict
from experiments.kit.records import Record, grouped, matching, present
from experiments.kit.statements import Statement
from experiments.kit.view import Artefact
from experiments.paper.tables import beside
from landscape.sweep.grid import Grid

BUDGETED = "ID3", "PaFi", "Fisher", "random"
DRAWN = (*BUDGETED, "BitFit", "full")
PRINTED = beside("id3", "table 4", "method", "count")
#: budgets of each preset: as many weights as there are biases, and those of the paper's 320K
SAME, MORE = (SMALL["local"], SMALL["paper"]), (LARGE["local"], LARGE["paper"])
OTHERS = "PaFi", "Fisher", "BitFit"


def grids(preset: str) -> Sequence[Grid]:
    """Return the selections at the small budget, ID3 at the large one, BitFit and all weights."""
    both = (SMALL[preset], LARGE[preset])
    found = []
    for case in cases(preset, ("conll2003",), ("conll2003",)):
        found += arms(preset, case, ("none", "full", "BitFit"))
        if preset == "paper":
            found += arms(preset, case, BUDGETED, both)
        else:
            found += arms(preset, case, BUDGETED)
            found += arms(preset, case, ("ID3",), (LARGE[preset],))
    return found


def printed(record: Record) -> float | None:
    """Return the paper's F1 of the same method and budget."""
    count = 320_000 if record["budget"] in MORE else 103_000
    count = 184_000_000 if record["method"] == "full" else count
    return PRINTED({"method": record["method"], "count": count})


def _scatters_less(records: Sequence[Record]) -> Finding:
    """Compare the variances of arms over the same seeds, by Pitman's and Morgan's test.

    Two paired samples have one variance where their sums and differences are uncorrelated.
    """
    from scipy import stats

    text = f"ID3's scores scatter less over seeds than those of {', '.join(OTHERS)}"
    there = present(matching(records, {"budget": SAME}), "test")
    own = {arm: {r["seed"]: r["test"] for r in group}
           for (arm,), group in grouped(there, "arm").items()}  # fmt: skip
    p, said, seeds = [], [], []
    for other in OTHERS:
        x, y = own.get("ID3", {}), own.get(other, {})
        both = sorted(x.keys() & y.keys())
        differences = [y[s] - x[s] for s in both]
        if len(both) < 3 or len(set(differences)) < 2:
            return Finding(text, "undecided", "fewer than three seeds, or the same differences")
        found = stats.pearsonr([y[s] + x[s] for s in both], differences, alternative="greater")
        p.append(float(found.pvalue))
        seeds.append(len(both))
        said.append(f"{other} against ID3: correlation of sum and difference "
                    f"{found.statistic:+.2f}, one-sided p {found.pvalue:.2g}")  # fmt: skip
    verdict: Verdict = (
        "holds" if max(p) < 0.025 else "fails" if max(p) > 1 - 0.025 / len(p) else "undecided"
    )
    return Finding(text, verdict, f"{'; '.join(said)} ({min(seeds)} seeds)")


ARTEFACT = Artefact(
    name="id3-table4",
    title="Selections of weights on named entities",
    source="Agarwal et al. 2024, table 4",
    grids=grids,
    derive=named,
    tables={
        "F1 of entities": columns.Table(
            by=("model", "task", "budget", "arm"),
            columns={
                "trainable": columns.count(), "F1": columns.mean_std("test"),
                "rate": columns.rate(), "seeds": columns.seeds(),
                "device": columns.first("device"),
                "paper (DeBERTa-v3)": columns.paper(printed),
            },
        ),
    },
    statements={
        f"beats_{short}": statements.better(
            f"on named entities ID3 scores higher than {other}", "test", "ID3", other,
            over="budget", where={"budget": SAME},
        )
        for short, other in (
            ("pafi", "PaFi"), ("fisher", "Fisher"), ("bitfit", "BitFit"), ("random", "random")
        )
    } | {
        "scatters_less": Statement("ID3 scatters less", _scatters_less),
        "nears_full": statements.better(
            "on named entities ID3 loses less than a point to full fine-tuning", "test", "ID3",
            "full", by=-0.01, over="budget", where={"budget": MORE},
        ),
    },
    panels=apart(
        panels.dots("test", "Named entities", "F1 on test", where={"arm": DRAWN}), by=("budget",)
    ),
    columns=1,
    lead=(
        "The same selections where every word is tagged: people, places, organisations and others "
        "in news of 1996."
    ),
    caption="F1 of entities by method; points are seeds, lines 95 % intervals",
    differences=(
        ("model {model}, the paper's is DeBERTa-v3-base", "an eighth of the weights"),
        ("budgets are .113 and .352 % of the weights; the paper's .056 and .174 %",
         "twice the shares: what needs few weights may look better here"),
        CHOSEN,
        DEVICES,
        *DIFFERENCES,
    ),
    needs=("seqeval",),
)  # fmt: skip
