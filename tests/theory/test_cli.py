"""The command line: exit codes, JSON, one's own features, and a table that fits its width."""

from __future__ import annotations

import doctest
import importlib
import io
import json
import pkgutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import theory
from theory import bounds, claims
from theory.__main__ import main
from theory.explain import print_explanation
from theory.meaning import MEANING
from theory.report import print_table, to_json
from theory.statements import dynamics
from theory.suite import Summary, claim, summarise, verify_all

SMALL = ["--n", "3", "--d", "60", "--p", "0.3"]
IDS = [c.id for c in claims()]


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_lists_every_claim_with_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    rows = report(capsys, *SMALL)
    assert [row["id"] for row in rows] == IDS
    assert {row["verdict"] for row in rows} <= {"holds", "violated", "vacuous", "unsettled"}
    false = {c.id for c in claims() if c.expected == "violated"}
    assert {row["id"] for row in rows if row["verdict"] == "violated"} == false
    assert {"thm-5.1-printed", "sparser-is-farther", "id3-thm-1", "id3-work"} <= false


def test_json_is_the_same_twice_and_differs_by_seed(capsys: pytest.CaptureFixture[str]) -> None:
    some = [*SMALL, "--claim", "eq-3", "--claim", "trace-identity"]
    first, again = report(capsys, *some), report(capsys, *some)
    assert first == again
    assert [row["id"] for row in first] == ["trace-identity", "eq-3"]  # the reference's order
    assert report(capsys, *some, "--seed", "1") != first


def test_numbers_that_json_lacks_become_null() -> None:
    results = verify_all(problems=[theory.make_problem(np.zeros((2, 3)), p=0.5)])
    text = json.dumps(to_json(summarise(results)), allow_nan=False)
    assert "null" in text


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_ones_own_features_decide_the_sizes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    x = np.random.default_rng(0).random((2, 30))
    np.save(path, x) if suffix == "npy" else np.savez(path, X=x)
    rows = report(capsys, "--x", str(path), "--claim", "prop-5.2", "--p", "1", "--r", "1")
    (instance,) = rows[0]["instances"]
    assert instance["instance"] == f"{path.name} n=2 d=30 p=1"
    top = np.linalg.svd(x, compute_uv=False)[0] ** 2
    assert instance["prediction"] == pytest.approx(2 * 2 / top, rel=1e-12)


def test_a_true_claim_found_violated_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = claim("prop-5.2").twin(lambda n, top: n / top)
    monkeypatch.setattr("theory.suite.ALL", (broken,))
    assert main([*SMALL]) == 1
    assert "Not as expected: 1 of 1 claims: prop-5.2" in capsys.readouterr().out


def test_a_false_claim_found_to_hold_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repaired = claim("thm-5.1-printed").twin(bounds.theorem_51_corrected)
    monkeypatch.setattr("theory.suite.ALL", (repaired,))
    assert main([*SMALL, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["surprising"] is True


BAD = {
    "p above 1": (
        ["--p", "1.5"],
        "expected p to be a finite number of at least 0 and of at most 1",
    ),
    "p not a number": (["--p", "nan"], "expected p to be a finite number"),
    "delta of 0": (["--delta", "0"], "delta to be a finite number above 0 and below 1"),
    "negative noise": (["--sigma", "-1"], "sigma to be a finite number of at least 0"),
    "no samples": (["--n", "0"], "n to be a whole number of at least 1"),
    "negative seed": (["--seed", "-1"], "--seed >= 0"),
    "unknown claim": (["--claim", "thm-9"], "got 'thm-9'"),
    "unknown features": (["--features", "cauchy"], "got 'cauchy'"),
    "entries above r": (["--r", "0.5"], "all |x| <= r=0.5"),
    "missing file": (["--x", "nowhere.npy"], "nowhere.npy, which is missing"),
    "file and size": (["--x", "nowhere.npy", "--n", "0"], "--x without --n"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_ends_with_2_and_one_sentence(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arguments, sentence = BAD[name]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: expected")
    assert captured.err.count("\n") == 1
    assert sentence in captured.err


@pytest.mark.parametrize("name", ["nan", "flat"])
def test_a_file_with_nan_or_of_the_wrong_shape_ends_with_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    np.save(tmp_path / "x.npy", np.full((2, 2), np.nan) if name == "nan" else np.ones(4))
    assert main(["--x", str(tmp_path / "x.npy")]) == 2
    assert "error: expected" in capsys.readouterr().err


def test_an_option_of_the_wrong_type_ends_with_2() -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--n", "many"])
    assert stopped.value.code == 2


@cache
def two_instances() -> tuple[Summary, ...]:
    problems = [theory.make_problem(name, n=3, d=60, p=0.3) for name in ("uniform", "sparse")]
    return tuple(summarise(verify_all(problems=problems)))


def table(summaries: Sequence[Summary], width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    print_table(summaries, console)
    return console.export_text()


@pytest.mark.parametrize("width", [80, 100, 119, 120, 140, 200])
def test_the_table_cuts_no_word_and_no_number_at_any_width(width: int) -> None:
    summaries = two_instances()
    text = table(summaries, width)
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    flat = " ".join(text.split())
    for summary in summaries:
        finding = summary.lead.finding
        numbers = f"{finding.prediction:.4g} {finding.measurement:.4g}"
        assert f"{summary.claim.id} {summary.verdict}" in flat
        assert numbers in flat
        assert finding.quantity in flat
        assert summary.claim.brief in flat


def test_the_notes_are_printed_where_there_is_one_instance() -> None:
    one = [Summary(s.claim, s.results[:1]) for s in two_instances()]
    flat, many = " ".join(table(one, 100).split()), " ".join(table(two_instances(), 100).split())
    notes = [s.results[0].finding.note for s in one if len(s.results[0].finding.note) > 20]
    assert len(notes) > 20
    assert all(note in flat for note in notes)
    assert not any(note in many for note in notes)


def test_claims_stand_under_the_chapters_of_the_notes_once_each() -> None:
    """The headings of NOTES.md, read here, and the section of every claim under its own."""
    notes = (Path(theory.__file__).parent / "NOTES.md").read_text(encoding="utf-8")
    parts = {part.partition("\n")[0]: part for part in notes.split("\n## ")[1:]}
    for one in claims():
        found = [c for c, part in parts.items() for line in part.splitlines()
                 if line.startswith("### ") and f"`{one.id}`" in line]  # fmt: skip
        assert found == [one.chapter], one.id
    shown = [line for line in table(two_instances(), 100).splitlines() if line in parts]
    assert shown == list(dict.fromkeys(one.chapter for one in claims()))


@pytest.mark.parametrize("one", claims(), ids=IDS)
def test_every_claim_can_be_explained(one: theory.Claim) -> None:
    for text in (one.proof, one.measured, one.source, one.statement):
        assert len(text) > 10
        assert "\\" not in text
    assert one.rejects
    assert 10 < len(MEANING[one.id]) < 250
    summary = next(s for s in two_instances() if s.claim.id == one.id)
    console = Console(width=80, record=True, file=io.StringIO())
    print_explanation(one, summary.results, console)
    text = console.export_text()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    flat = " ".join(text.split())
    for said in (one.statement, one.source, one.proof, one.measured, MEANING[one.id], *one.rejects):
        assert " ".join(said.split()) in flat
    assert f"Statement {' '.join(one.statement.split())}" in flat
    assert f"Written out theory/NOTES.md, {one.chapter}" in flat or not one.chapter
    for result in summary.results:
        assert f"{result.verdict} {result.finding.prediction:.4g} " in flat
        assert f" {result.instance}" in flat
    exact = any(result.finding.method == "certificate" for result in summary.results)
    assert ("A certificate has instances of its own" in flat) is exact


def test_every_meaning_is_one_of_a_claim() -> None:
    assert list(MEANING) == IDS


def test_explain_prints_one_claim_and_ends_with_its_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", "prop-5.2", *SMALL]) == 0
    text = capsys.readouterr().out
    assert "2n / lambda_1" in text
    assert "factor 2 missing" in text
    assert "uniform n=3 d=60 p=0.3" in text
    assert "momentum" not in text


WRONG_WORDS = {
    "no id": (["explain"], "expected explain and the id of one claim, got explain"),
    "two ids": (["explain", "adam", "momentum"], "got explain adam momentum"),
    "another word": (["verify", "adam"], "got verify adam"),
    "a slip": (["explain", "bernstien"], "got 'bernstien'; the nearest: bernstein"),
    "a part": (["--claim", "usefulness"], "the nearest: thm-5.1-usefulness"),
    "nothing near": (["explain", "qqqq"], "--list shows all"),
    "json": (["explain", "adam", "--json"], "without --json and --claim"),
}


@pytest.mark.parametrize("name", WRONG_WORDS)
def test_words_that_name_no_claim_end_with_2_and_the_nearest(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arguments, sentence = WRONG_WORDS[name]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err


def test_the_list_has_every_id_and_sentence_and_verifies_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("theory.suite.verify_all", None)
    assert main(["--list"]) == 0
    flat = " ".join(capsys.readouterr().out.split())
    assert all(f"{one.id} {one.brief}" in flat for one in claims())


def test_bisected_thresholds_use_no_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measured step must not move when the predicted one does."""
    problem = theory.make_problem("gaussian", n=3, d=60, p=0.5)
    measured = [
        claim("prop-5.2").twin(formula).verify(problem).finding.measurement
        for formula in (dynamics.gd_threshold, lambda n, top: 7.0)
    ]
    assert measured[0] == measured[1]


MODULES = ["theory", *(m.name for m in pkgutil.walk_packages(theory.__path__, "theory."))]


@pytest.mark.parametrize("name", [m for m in MODULES if not m.endswith("__main__")])
def test_examples_in_docstrings_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
