"""The papers' claims: each once, judged in one way, and the printed numbers computed again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

import pytest

from experiments.catalogue import artefacts
from experiments.claims import CLAIMS, Claim
from experiments.paper.rates import printed_exponent
from experiments.paper.tables import printed, rows
from theory.statements import ALL

BY_ID = {claim.id: claim for claim in CLAIMS}
OPT = "facebook/opt-125m", "facebook/opt-1.3b", "facebook/opt-13b"
RATIOS = 1e-1, 5e-2, 1e-2, 5e-3, 1e-3, 5e-4, 1e-4, 5e-5, 1e-5
TASKS = [
    row["task"] for row in rows("random_masking", "table 5")
    if row["model"] == OPT[0] and row["method"] == "full" and row["task"] != "average"
]  # fmt: skip
GLUE = "mnli", "mnli_mm", "qqp", "qnli", "sst2", "stsb", "cola", "mrpc", "rte"
#: Student's 97.5 % quantile by degrees of freedom, from a table
QUANTILE = {3: 3.182446, 5: 2.570582, 8: 2.306004, 10: 2.228139, 32: 2.036933}


def interval(differences: Sequence[float]) -> str:
    """Write a mean in points with Student's interval, as the claims do."""
    n, mean = len(differences), 100 * fmean(differences)
    half = QUANTILE[n - 1] * 100 * stdev(differences) / math.sqrt(n)
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


def xu(table: str, task: str, **place: str | float) -> float:
    return printed("random_masking", table, task=task, **place)


def against(method: str, ratio: float) -> list[float]:
    """Return random masks' scores above a method's, in the 33 cells of table 5."""
    return [
        xu("table 5", task, model=model, method="random", ratio=ratio)
        - xu("table 5", task, model=model, method=method)
        for model in OPT for task in TASKS
    ]  # fmt: skip


def structure(ratios: Sequence[float]) -> list[float]:
    """Return random minus structured masks in each of 33 cells, the mean over ratios."""
    return [
        fmean(
            xu("table 5", task, model=model, method="random", ratio=ratio)
            - xu("table 8", task, model=model, ratio=ratio)
            for ratio in ratios
        )
        for model in OPT for task in TASKS
    ]  # fmt: skip


def id3(table: str, over: dict, tasks: Sequence[str] = GLUE, **place: str | float) -> list[float]:
    """Return ID3's scores above another row's, by task."""
    return [
        printed("id3", table, task=task, method="id3", **place)
        - printed("id3", table, task=task, **over)
        for task in tasks
    ]  # fmt: skip


SMALL, LARGE = {"count": 103_000}, {"count": 320_000}
ADAPTED, MATH = ["stsb", "cola", "mrpc", "rte"], [
    "addsub", "multiarith", "singleeq", "gsm8k", "aqua", "svamp",
]  # fmt: skip
COMPUTED = [
    ("rm-matches-lora", against("lora", 1e-3)),
    ("rm-matches-full", against("full", 1e-3)),
    ("rm-tenth", against("lora", 1e-4)),
    ("rm-structured-worse", structure(RATIOS)),
    (
        "rm-structured-decays",
        [a - b for a, b in zip(structure([1e-5]), structure([1e-1]), strict=True)],
    ),
    ("id3-beats-selective", id3("table 1", {"method": "magnitude_smallest", **SMALL}, **SMALL)),
    ("id3-beats-selective", id3("table 1", {"method": "fisher", **SMALL}, **SMALL)),
    ("id3-beats-selective", id3("table 1", {"method": "bitfit", **SMALL}, **SMALL)),
    ("id3-beats-random", id3("table 1", {"method": "random", **SMALL}, **SMALL)),
    ("id3-random-behind", id3("table 1", {"method": "random", **SMALL}, **SMALL)),
    ("id3-random-behind", id3("table 1", {"method": "random", **LARGE}, **LARGE)),
    ("id3-beats-full", id3("table 1", {"method": "full"}, **LARGE)),
    ("id3-over-one-per-cent", id3("table 1", {"method": "fisher", **LARGE}, **LARGE)),
    ("id3-lora", id3("table 2", {"method": "lora"})),
    ("id3-adapter", id3("table 3", {"method": "adapter"}, ADAPTED)),
    ("id3-adapter", id3("table 3", {"method": "snip"}, ADAPTED)),
    ("id3-math", id3("table 5", {"method": "lora", "rank": 2}, MATH, count=3_500_000)),
    ("id3-math", id3("table 5", {"method": "lora", "rank": 4}, MATH, count=7_000_000)),
]


@pytest.mark.parametrize(("name", "differences"), COMPUTED)
def test_an_interval_of_the_papers_numbers_is_what_their_tables_give(
    name: str, differences: Sequence[float]
) -> None:
    assert interval(differences) in BY_ID[name].printed


def test_larger_models_lose_less_in_the_papers_table() -> None:
    for model in OPT:
        lost = [
            xu("table 5", task, model=model, method="random", ratio=1e-3)
            - xu("table 5", task, model=model, method="random", ratio=1e-5)
            for task in TASKS
        ]
        assert interval(lost).replace("+", "", 1) in BY_ID["rm-larger-models"].printed


@pytest.mark.parametrize(
    ("name", "table", "without"),
    [("rm-rate-grows", "table 6", []), ("rm-rate-grows", "table 6", ["wsc"]),
     ("rm-structured-rates", "table 9", []), ("rm-structured-rates", "table 9", ["wsc"])],
)  # fmt: skip
def test_an_exponent_of_the_papers_rates_is_what_their_tables_give(
    name: str, table: str, without: list[str]
) -> None:
    fit = printed_exponent(table, without=without)
    assert f"{fit.value:.2f} [{fit.low:.2f}, {fit.high:.2f}]" in BY_ID[name].printed


def test_counts_that_claims_name_are_those_of_the_tables() -> None:
    best = [r["lr"] for r in rows("random_masking", "table 6") if r["ratio"] == 1e-5]
    assert f"in {best.count(0.1)} of {len(best)} cells" in BY_ID["rm-aggressive"].printed
    wsc = [
        r["score"] for table in ("table 5", "table 8") for r in rows("random_masking", table)
        if r["task"] == "wsc"
    ]  # fmt: skip
    assert f"in {wsc.count(0.635)} of {len(wsc)} cells" in BY_ID["rm-slip-wsc"].printed
    # 12 layers: query, key, value, output and two of the MLP; two layer norms, and one at the end
    linear, norms = 12 * (4 * 768 + 3072 + 768), 12 * 2 * 768 + 768
    assert f"{linear:,}" in BY_ID["rm-slip-bitfit"].misprint
    assert f"{(linear + norms) / 125_239_296:.3%}".replace("%", " %") in (
        BY_ID["rm-slip-bitfit"].misprint
    )
    assert f"{12 * 2 * 8 * (768 + 3072):,}" in BY_ID["rm-slip-vision-lora"].misprint
    # rank 32 on query, key, value, up and down of 32 layers, 4096 and 11,008 wide
    lora = 32 * 32 * (3 * (4096 + 4096) + 2 * (4096 + 11_008))
    assert f"{lora / 1e6:.1f}M" in BY_ID["id3-201m"].misprint


def test_every_claim_is_there_once_and_judged_in_one_way() -> None:
    assert len(BY_ID) == len(CLAIMS)
    assert len({claim.says for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        ways = [bool(claim.artefact), bool(claim.theory), bool(claim.untestable),
                bool(claim.misprint)]  # fmt: skip
        assert sum(ways) == 1, claim.id
        assert bool(claim.artefact) == bool(claim.statements), claim.id
        assert claim.printed, claim.id
        assert claim.place, claim.id


def test_every_statement_that_a_claim_names_is_one_of_its_artefact() -> None:
    known = artefacts()
    for claim in CLAIMS:
        if claim.artefact:
            assert set(claim.statements) <= known[claim.artefact].statements.keys(), claim.id


def test_every_theorem_of_the_theory_has_one_claim() -> None:
    named = [claim.theory for claim in CLAIMS if claim.theory]
    assert sorted(named) == sorted(claim.id for claim in ALL)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_is_a_sentence(claim: Claim) -> None:
    assert claim.says[0].isupper() or claim.says.startswith("0.001")
    assert claim.says.endswith((".", ")."))
