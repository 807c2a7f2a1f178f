"""Table 4 of Agarwal et al. 2024 (ID3): selections on named entities."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.id3.grids import LARGE, SMALL, arms, cases, named
from experiments.kit import columns, panels, statements
from experiments.kit.judge import Finding, Verdict
from experiments.kit.records import Record, grouped
from experiments.kit.statements import Statement
from experiments.kit.view import Artefact
from experiments.paper.tables import beside
from landscape.sweep.grid import Grid

BUDGETED = "ID3", "PaFi", "Fisher", "random"
DRAWN = (*BUDGETED, "BitFit", "full")
PRINTED = beside("id3", "table 4", "method", "count")


def grids(preset: str) -> Sequence[Grid]:
    """Return the selections at the small budget, BitFit and all weights."""
    budgets = (SMALL[preset], LARGE[preset]) if preset == "paper" else (SMALL[preset],)
    found = []
    for case in cases(preset, ("conll2003",), ("conll2003",)):
        found += arms(preset, case, ("none", "full", "BitFit"))
        found += arms(preset, case, BUDGETED, budgets)
    return found


def printed(record: Record) -> float | None:
    """Return the paper's F1 of the same method at 103 thousand weights."""
    count = 184_000_000 if record["method"] == "full" else 103_000
    return PRINTED({"method": record["method"], "count": count})


def _scatters_less(records: Sequence[Record]) -> Finding:
    """Compare the variances of two arms over the same seeds, by Pitman's and Morgan's test.

    Two paired samples have one variance where their sums and differences are uncorrelated.
    """
    from scipy import stats

    text = "ID3's scores scatter less over seeds than PaFi's and Fisher's"
    own = {arm: {r["seed"]: r["test"] for r in group}
           for (arm,), group in grouped(records, "arm").items()}  # fmt: skip
    p, said = [], []
    for other in ("PaFi", "Fisher"):
        x, y = own.get("ID3", {}), own.get(other, {})
        both = sorted(x.keys() & y.keys())
        differences = [y[s] - x[s] for s in both]
        if len(both) < 3 or len(set(differences)) < 2:
            return Finding(text, "undecided", "fewer than three seeds, or the same differences")
        found = stats.pearsonr([y[s] + x[s] for s in both], differences, alternative="greater")
        p.append(float(found.pvalue))
        said.append(f"{other} against ID3: correlation of sum and difference "
                    f"{found.statistic:+.2f}, one-sided p {found.pvalue:.2g}")  # fmt: skip
    verdict: Verdict = "holds" if max(p) < 0.025 else "fails" if min(p) > 0.975 else "undecided"
    return Finding(text, verdict, f"{'; '.join(said)} ({len(both)} seeds)")


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
                "paper (DeBERTa-v3, 103K)": columns.paper(printed),
            },
        ),
    },
    statements={
        f"beats_{short}": statements.better(
            f"on named entities ID3 scores higher than {other}", "test", "ID3", other,
            over="budget",
        )
        for short, other in (
            ("pafi", "PaFi"), ("fisher", "Fisher"), ("bitfit", "BitFit"), ("random", "random")
        )
    } | {"scatters_less": Statement("ID3 scatters less", _scatters_less)},
    panels=(panels.dots("test", "Named entities", "F1 on test", where={"arm": DRAWN}),),
    columns=1,
    lead=(
        "The same selections where every word is tagged: people, places, organisations and others "
        "in news of 1996."
    ),
    caption="F1 of entities by method; points are seeds, lines 95 % intervals",
    differences=(
        ("model {model}, the paper's is DeBERTa-v3-base", "an eighth of the weights"),
        ("{num_train} training sentences, {epochs} epochs; the paper has 14,041 and 20",
         "levels are far lower"),
    ),
    needs=("seqeval",),
)  # fmt: skip
