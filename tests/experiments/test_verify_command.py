"""``verify`` on the command line: what it says and returns, of bad input and after Ctrl-C."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from made_rows import made

import experiments.__main__ as program
from experiments import claims, ledger, verification
from experiments.__main__ import main
from experiments.claims import Claim
from experiments.kit import statements
from experiments.kit.published import file_of, folder_of, merge
from experiments.kit.view import Artefact
from experiments.verified import NAME, verifications
from landscape.sweep import Grid, RunConfig, RunStore

GRID = Grid({"ratio": 1e-2, "lr": 0.1}, {"method": ["random", "magnitude"], "seed": [0, 1]})
TOY = Artefact(
    name="toy", title="Toys", source="ours", lead="Toys.", caption="Toys", panels=(), tables={},
    grids=lambda preset: [GRID], presets=("smoke", "local"),
    statements={"order": statements.better("o", "test", "magnitude", "random"),
                "back": statements.better("b", "test", "random", "magnitude")},
)  # fmt: skip
CLAIMS = {
    one.id: one for one in (
        Claim(id="order", says="O.", place="p", artefact="toy", statements=("order",)),
        Claim(id="back", says="B.", place="p", artefact="toy", statements=("order", "back")),
        Claim(id="hard", says="H.", place="p", untestable="no GPU is here"),
        Claim(id="slip", says="S.", place="p", misprint="it is t"),
        Claim(id="theorem", says="T.", place="p", theory="id3-updates"),
    )
}  # fmt: skip


def world(config: RunConfig) -> dict:
    return {"test": 0.7 + config.seed / 1000 if config.method == "magnitude" else 0.6}


def computed(grids: Sequence[Grid], folder: Path, most: int = 100) -> None:
    """Write the runs that a store lacks; Ctrl-C comes after so many."""
    store = RunStore(folder)
    store.create()
    there = {row["address"] for row in store.rows()}
    for number, one in enumerate(r for r in made(grids, world) if r["address"] not in there):
        if number == most:
            raise KeyboardInterrupt
        store.write(RunConfig.of(one["config"]), one["outcome"])


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    """Let the command know the toy and its claims, with its rows published in a folder of ours."""
    folder = tmp_path / "results"
    merge(file_of("local", folder), made([GRID], world))
    view = folder_of(TOY, "local", folder)
    view.mkdir(parents=True)
    (view / "table.md").touch()
    monkeypatch.setattr(claims, "CLAIMS", tuple(CLAIMS.values()))
    monkeypatch.setattr(claims, "PAPERS", {"ours": tuple(CLAIMS.values())})
    monkeypatch.setattr(program, "artefact", {"toy": TOY}.__getitem__)
    monkeypatch.setattr(program, "artefacts", lambda: {"toy": TOY})
    monkeypatch.setattr(program, "file_of", lambda preset: file_of(preset, folder))
    monkeypatch.setattr(program, "compute", lambda _, grids, store: computed(grids, store))
    for name in ("verify", "verify_theorem"):
        given = partial(getattr(verification, name), results=folder)
        monkeypatch.setattr(verification, name, given)
    monkeypatch.setattr(
        ledger, "write", partial(ledger.write, results=folder, path=tmp_path / "LEDGER.md")
    )
    return folder


@pytest.fixture
def called(tmp_path, results) -> Callable[..., int]:
    store = ["--store", str(tmp_path / "store")]
    return lambda name, seeds="3": main(["verify", name, "--fresh-seeds", seeds, *store])


def test_what_fresh_seeds_say_is_told_and_returned(called, results, capsys) -> None:
    assert called("order") == 0
    told = capsys.readouterr().out
    assert "fresh seeds 2, 3, 4 (" in told
    assert "): holds\n  order: magnitude - random: +0.1030" in told
    assert called("back") == 1  # the one that fails decides
    assert "fresh seeds 5, 6, 7 (" in capsys.readouterr().out
    assert called("order", "1") == 3
    assert "): undecided, with the others holds\n" in capsys.readouterr().out
    assert {name: len(own) for name, own in verifications(results).items()} == {
        "order": 2, "back": 1,
    }  # fmt: skip
    assert "fresh seeds 8" in (results.parent / "LEDGER.md").read_text()


def test_a_theorem_is_verified_by_instances(called, capsys) -> None:
    assert called("theorem", "1") == 0
    assert "): holds\n  seed 1: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["nothing"], "expected a claim of the ledger among order, back, hard, slip, theorem"),
        (["ordr"], "did you mean order?"),
        (["order", "--fresh-seeds", "0"], "got 0"),
        (["order", "--fresh-seeds", "three"], "got the text 'three'"),
        (["hard"], "got hard, which they do not (no GPU is here); choose one with an artefact"),
        (["slip"], "got slip, which they do not (it is t); choose one with an artefact"),
        (
            ["order", "--preset", "smoke"],
            "store, got none; compute them: python -m experiments run toy",
        ),
    ],
)
def test_what_cannot_be_verified_is_one_sentence_and_leaves_nothing(
    line, said, results, tmp_path, capsys
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert main(["verify", *line, "--store", str(tmp_path / "store")]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert said in told.err
    assert sorted(tmp_path.rglob("*")) == before


def test_after_an_interruption_the_same_seeds_are_finished(
    called, results, tmp_path, monkeypatch, capsys
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(program, "compute", lambda _, grids, store: computed(grids, store, most=2))
        assert called("order") == 130
    assert "keeps what was done: the same command goes on from there" in capsys.readouterr().err
    assert not (results / NAME).exists()
    assert len(list(RunStore(tmp_path / "store").rows())) == 2
    assert called("order") == 0
    assert "fresh seeds 2, 3, 4 (" in capsys.readouterr().out


def test_verdicts_are_told_and_in_the_ledger_before_what_comes_after_is_interrupted(
    results, tmp_path, monkeypatch, capsys
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verification, "verify_theorem", stopped)
    assert main(["verify", "order", "theorem", "--store", str(tmp_path / "store")]) == 130
    told = capsys.readouterr()
    assert told.out.startswith("order: ")
    assert "the verdicts above are recorded" in told.err
    assert "fresh seeds 2, 3, 4" in (results.parent / "LEDGER.md").read_text()


def test_seeds_that_another_artefact_has_used_are_not_fresh(called, results, capsys) -> None:
    more = Grid({"ratio": 1e-3, "lr": 0.1, "method": "random"}, {"seed": [0, 7]})
    merge(file_of("local", results), made([more], world))
    assert called("order", "1") == 3
    assert "fresh seeds 8 (" in capsys.readouterr().out


def test_json_is_the_record(called, results, tmp_path, capsys) -> None:
    assert main(["verify", "order", "--store", str(tmp_path / "s"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (one,) = told["verified"]
    assert one["alone"] == {"order": "holds"}
    assert one["seeds"] == [2, 3, 4]


def test_claims_of_one_call_have_the_same_fresh_seeds_and_are_told_by_name(
    called, results, tmp_path, capsys
) -> None:
    line = ["verify", "back", "theorem", "order", "back", "--fresh-seeds", "2"]
    assert main([*line, "--store", str(tmp_path / "s")]) == 1
    told = capsys.readouterr().out
    first, second, third = told.index("back: "), told.index("order: fresh"), told.index("theorem: ")
    assert first < second < third
    found = verifications(results)
    assert {name: len(own) for name, own in found.items()} == dict.fromkeys(found, 1)
    assert list(found["back"][0].seeds) == list(found["order"][0].seeds) == [2, 3]


def test_one_claim_that_nothing_judges_stops_all(called, results, tmp_path, capsys) -> None:
    line = ["verify", "order", "hard", "--store", str(tmp_path / "s")]
    assert main(line) == 2
    assert "got hard" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
