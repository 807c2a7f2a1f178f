"""The ledger: every claim once, every link resolves, verdicts follow from statements."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from made_rows import made

from experiments import ledger, verified
from experiments.catalogue import artefacts
from experiments.claims import CLAIMS, PAPERS, Claim
from experiments.kit.judge import Finding
from experiments.kit.published import file_of, folder_of, merge
from experiments.kit.rendering import table_text
from experiments.ledger import LEDGER, entries, text_of, verdict_of
from experiments.random_masking.figure5 import ARTEFACT
from landscape.sweep import RunConfig
from landscape.sweep.published import read_rows, write_rows

TEXT = LEDGER.read_text(encoding="utf-8")


def test_every_claim_is_named_once() -> None:
    named = re.findall(r"^\| `([^`]+)` ", TEXT, flags=re.MULTILINE)
    assert named == [claim.id for claims in PAPERS.values() for claim in claims]
    assert len(set(named)) == len(named) == len(CLAIMS)


def test_every_link_resolves() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert links
    assert [link for link in links if not (LEDGER.parent / link).exists()] == []


@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.artefact], ids=lambda c: c.id)
def test_the_statements_of_every_claim_are_those_of_its_artefact(claim) -> None:
    assert set(claim.statements) <= set(artefacts()[claim.artefact].statements)
    assert claim.statements


def test_the_ledger_is_what_claims_and_published_rows_say() -> None:
    others = {paper: claims for paper, claims in PAPERS.items() if not claims[0].theory}
    for section in text_of(others, artefacts()).split("\n## ")[1:]:
        assert section.rstrip() in TEXT


def test_the_summary_counts_the_rows_below_it() -> None:
    """Theorems included, whose verdicts a test of their own does not compute again."""
    head, *sections = TEXT.split("\n## ")
    lines = [re.split(r" *\| *", line.strip("| ")) for line in head.splitlines() if "| " in line]
    names, rows = lines[0][1:], {line[0]: line[1:] for line in lines[1:]}
    assert len(rows) == len(sections)
    for section in sections:
        title, *said = section.splitlines()
        verdicts = [re.split(r" *\| *", line.strip("| "))[-2] for line in said if "| `" in line]
        for name, told in zip(names, rows[title], strict=False):
            own = [
                v for v in verdicts if name == "all" or v[2:].split(":")[0].split(",")[0] == name
            ]
            so_far = sum(v.endswith(", so far") for v in own)
            counted = f"{len(own)} ({so_far} so far)" if so_far and name != "all" else f"{len(own)}"
            assert (told or "0") == counted, (title, name)


def test_theorems_carry_the_verdicts_of_theory() -> None:
    (claim,) = [c for c in CLAIMS if c.theory == "prop-5.2"]
    (entry,) = entries([claim], {})
    assert entry.verdict == "holds"
    line = next(line for line in TEXT.splitlines() if line.startswith(f"| `{claim.id}` "))
    assert entry.ours in line


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ("holds holds", "reproduced"), ("holds fails", "partly: 1 of 2"),
        ("fails undecided", "not reproduced"), ("undecided undecided", "undecided"),
    ],
)  # fmt: skip
def test_a_claim_is_reproduced_where_all_its_statements_hold(verdicts, said) -> None:
    assert verdict_of([Finding("", v, "") for v in verdicts.split()]) == said


def world(config: RunConfig) -> dict:
    if config.method == "none":
        return {"test": 0.5}
    level = 0.8 if config.method == "random" else 0.7 + config.seed / 1000
    found = {"sharpness_before": 1.0, "sharpness_after": 1.0, "converged_before": True,
             "converged_after": True}  # fmt: skip
    lr, ratio = config.lr or 0.0, config.ratio or 1.0
    return {"test": level, "dev": 1 / (1 + abs(lr * ratio - 1e-5) * 1e5), "count": 10,
            "distance": 1.0, "sharpness": found}  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ledger") / "results"
    rows = made(ARTEFACT.of("local"), world)
    merge(file_of("local", folder), rows)
    view = folder_of(ARTEFACT, "local", folder)
    view.mkdir(parents=True)
    (view / "table.md").write_text(table_text(ARTEFACT, rows, "local"))
    return folder


@pytest.fixture
def results(published: Path, tmp_path: Path) -> Path:
    """Return results of a test's own, with the made-up view."""
    return Path(shutil.copytree(published, tmp_path / "results"))


CLAIM = Claim(id="c", says="Columns are worse.", place="figure 5", artefact="figure5",
              statements=("order",))  # fmt: skip


def test_a_claim_has_our_number_with_its_interval_and_a_link_to_the_view(results) -> None:
    (entry,) = entries([CLAIM], {"figure5": ARTEFACT}, results)
    assert entry.verdict == "reproduced"
    assert entry.ours.startswith("masks - columns +0.0980 [")
    assert entry.link == "[`figure5`](results/figure5/local/table.md)"
    assert (results.parent / "results/figure5/local/table.md").exists()


def test_fresh_seeds_join_the_row_of_their_claim(results) -> None:
    one = verified.Verification(
        "c", "local", [5, 6], {"order": "holds"}, {"order": "holds"}, {"order": "0.1"},
        "2024-01-02T00:00:00", None,
    )  # fmt: skip
    verified.append(one, results)
    (entry,) = entries([CLAIM], {"figure5": ARTEFACT}, results)
    assert entry.ours.endswith("fresh seeds 5, 6 (2024-01-02): holds")


def test_fresh_seeds_are_told_of_the_statements_that_a_claim_has_now() -> None:
    verdicts = {"kept": "holds", "gone": "fails"}
    one = verified.Verification("c", "local", [5], verdicts, verdicts, {}, "2024-01-02", None)
    assert one.sentence() == "fresh seeds 5 (2024-01-02): holds and fails"
    assert one.sentence(["kept"]) == "fresh seeds 5 (2024-01-02): holds"
    assert one.sentence(["new"]) == ""


def summary_of(text: str) -> dict[str, str]:
    head, line = (row for row in text.splitlines() if row.startswith(("| claims", "| Papers")))
    return dict(
        zip(*([cell.strip() for cell in row.split("|")] for row in (head, line)), strict=True)
    )


def test_an_artefact_without_all_its_runs_makes_verdicts_so_far(results) -> None:
    rows = list(read_rows(file_of("local", results)).rows())
    lacking = next(i for i, row in enumerate(rows) if row["config"]["seed"] == 4)
    write_rows(file_of("local", results), rows[:lacking] + rows[lacking + 1 :])
    (entry,) = entries([CLAIM], {"figure5": ARTEFACT}, results)
    there, expected = ARTEFACT.there(rows, "local")
    assert there == expected
    assert entry.lacking == f"{there - 1} of {expected}"
    assert entry.line()["verdict"] == "✓ reproduced, so far"
    text = text_of({"papers": (CLAIM,)}, {"figure5": ARTEFACT}, results)
    assert f"- `figure5`: {there - 1} of {expected}\n" in text
    assert summary_of(text)["reproduced"] == "1 (1 so far)"


def test_a_claim_without_rows_is_not_run_yet(tmp_path) -> None:
    (entry,) = entries([CLAIM], {"figure5": ARTEFACT}, tmp_path)
    assert entry.verdict == "not run yet"


def test_the_text_counts_verdicts(results) -> None:
    hard = Claim(id="d", says="D.", place="p", untestable="no GPU")
    text = text_of({"papers": (CLAIM, hard)}, {"figure5": ARTEFACT}, results)
    assert summary_of(text) == {
        "": "",
        "claims": "Papers",
        "all": "2",
        "reproduced": "1",
        "untestable here": "1",
    }
    assert "## Papers" in text
    assert ledger.HEAD.rstrip() in text
