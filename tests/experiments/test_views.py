"""The command line of views, on a tiny model: run, render, publish, check, and what is altered."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tiny_jobs import SIZES, Tiny

import experiments.__main__ as program
from experiments.__main__ import main
from experiments.catalogue import artefacts
from experiments.kit import columns, panels, published, statements
from experiments.kit.columns import Table
from experiments.kit.judge import Finding
from experiments.kit.published import file_of, folder_of
from experiments.kit.rendering import render, table_text
from experiments.kit.statements import Statement
from experiments.kit.view import Artefact
from landscape.sweep import Grid, Rates, RunStore, read_rows


def toy_of(tiny: Tiny) -> Artefact:
    shared = {k: v for k, v in SIZES.items() if k != "lr"} | {"model": str(tiny.folder / "opt")}
    grid = Grid(shared | {"ratio": 1e-2}, {"method": ["random", "magnitude"], "seed": [0, 1]},
                Rates((0.01, 0.03), widen=0))  # fmt: skip
    return Artefact(
        name="toy", title="Toys", source="ours", lead="Toys.", caption="Toys",
        grids=lambda preset: [grid, Grid(shared | {"method": "none"}, {"seed": [0, 1]})],
        tables={"Results": Table(by=("arm",), columns={"accuracy": columns.mean_std("test")})},
        statements={"order": statements.better("m", "test", "magnitude", "random")},
        panels=(panels.dots("test", "Accuracy", "test accuracy"),), presets=("smoke", "local"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artefact, Path, list[str]]:
    """Run the toy whole, as a user types it; return it, its store and the words that ran it."""
    folder = tmp_path_factory.mktemp("toy")
    tiny = Tiny.at(folder)
    toy = toy_of(tiny)
    words = ["toy", "--preset", "local", "--store", str(folder / "store")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "artefact", {"toy": toy}.__getitem__)
        source = ["--source", f"sst2={tiny.folder / 'SST-2'}"]
        assert main(["run", *words, *source]) == 0
    return toy, folder / "store", words


@pytest.fixture(autouse=True)
def here(world, tmp_path, monkeypatch) -> None:
    """Let the command line know the toy, and publish into a folder of the test's own."""
    monkeypatch.setattr(program, "artefact", {"toy": world[0]}.__getitem__)
    monkeypatch.setattr(program, "artefacts", lambda: {"toy": world[0]})
    results = tmp_path / "results"
    monkeypatch.setattr(program, "file_of", lambda preset: file_of(preset, results))
    monkeypatch.setattr(program, "folder_of", lambda one, preset: folder_of(one, preset, results))
    monkeypatch.setattr(published, "RESULTS", results)
    monkeypatch.setattr(
        program, "publish", lambda one, preset, at: published.publish(one, preset, at, results)
    )


def test_a_run_computes_what_the_grids_need_and_again_nothing(world, capsys) -> None:
    _, store, words = world
    assert len(list(RunStore(store).rows())) == 2 * (2 + 1) + 2
    before = {p: p.stat().st_mtime_ns for p in store.rglob("result.json")}
    assert main(["run", *words]) == 0  # without the files: nothing is loaded
    assert {p: p.stat().st_mtime_ns for p in store.rglob("result.json")} == before
    assert f"all runs are in {store}" in capsys.readouterr().out


def test_render_writes_the_view_beside_the_store(world, capsys) -> None:
    _, store, words = world
    assert main(["render", *words]) == 0
    names = {p.name for p in (store / "views" / "toy").iterdir()}
    assert names == {"table.md", "figure.png", "index.html"}
    assert "| random" in capsys.readouterr().out


def test_check_of_what_is_published_fails_when_a_number_was_altered(
    world, tmp_path, capsys
) -> None:
    toy, _, words = world
    assert main(["publish", *words]) == 0
    published_words = ["check", *words[:3]]
    assert main(published_words) == 3  # two seeds decide nothing
    assert "✓ holds: the table shown is what the rows say" in capsys.readouterr().out
    table = program.folder_of(toy, "local") / "table.md"
    text = table.read_text()
    assert text == table_text(toy, list(read_rows(program.file_of("local")).rows()), "local")
    table.write_text(text.replace("| random", "| Random"))
    assert main(published_words) == 1
    assert "✗ fails: the table shown is what the rows say" in capsys.readouterr().out
    table.write_text(text)
    figure, rows = table.with_name("figure.png"), list(read_rows(program.file_of("local")).rows())
    drawn = figure.read_bytes()
    assert main(published_words) == 3
    assert "✓ holds: the figure shown is what the rows say" in capsys.readouterr().out
    another = dataclasses.replace(toy, panels=(panels.dots("test", "Another", "test"),))
    other, *_ = render(another, rows, "local", tmp_path / "other")
    figure.write_bytes(other.read_bytes())
    assert main(published_words) == 1
    assert "✗ fails: the figure shown is what the rows say" in capsys.readouterr().out
    figure.write_bytes(drawn[:-9])
    assert main(published_words) == 1
    older = PngInfo()
    older.add_text("Software", "Matplotlib version1.0")
    Image.open(other).save(figure, pnginfo=older)
    capsys.readouterr()
    assert main(published_words) == 3
    assert "drawn by another matplotlib, not compared" in capsys.readouterr().err
    figure.write_bytes(drawn)
    page = table.with_name("index.html")
    shown = page.read_text()
    for number, said in altered(shown):
        page.write_text(shown.replace(number, said, 1))
        assert main(published_words) == 1, number
        assert "✗ fails: the page's texts are what the rows say" in capsys.readouterr().out
    page.unlink()
    assert main(published_words) == 1
    capsys.readouterr()
    page.write_text(shown.replace("base64,PD94", "base64,PD95", 1))  # what is drawn is not judged
    assert main(published_words) == 3
    assert "✓ holds: the page's texts are what the rows say" in capsys.readouterr().out
    rows = program.file_of("local")
    lines = gzip.decompress(rows.read_bytes()).decode()
    rows.write_bytes(gzip.compress(lines.replace('"count":', '"count":1', 1).encode()))
    assert main(published_words) == 2
    assert "it is damaged or was altered" in capsys.readouterr().err


def altered(page: str) -> list[tuple[str, str]]:
    """Return texts of a page, each with another number or letter: a cell, evidence, a caption."""
    cell = re.search(r'">0\.\d+', page)
    assert cell
    found = [
        (cell[0], cell[0][:-1] + str((int(cell[0][-1]) + 1) % 10)),
        ("<figcaption", "<figcaption "),
        ("2 seeds", "3 seeds"),
        ("runs, ", "runs,  "),
    ]
    assert all(text in page for text, _ in found)
    return found


def test_json_is_the_only_thing_that_a_command_prints_and_nothing_where_it_is_not_asked(
    world, monkeypatch, capsys
) -> None:
    _, _, words = world
    monkeypatch.setattr("experiments.ledger.text_of", lambda *_: "")
    for line, key, size in (
        (["list"], "artefacts", 1),
        (["run", *words], "artefacts", 1),
        (["render", *words], "views", 1),
        (["publish", *words], "views", 1),
        (["check", *words], "findings", 4),
        (["ledger", "--check"], "current", None),
    ):
        capsys.readouterr()
        codes = [main(line)]
        assert '{"' not in capsys.readouterr().out
        codes.append(main([*line, "--json"]))
        told = json.loads(capsys.readouterr().out)
        assert codes[0] == codes[1], line
        assert size is None or len(told[key]) == size, line
    assert told["current"] is False


def test_check_counts_each_verdict_by_its_word(world, capsys) -> None:
    *_, words = world
    assert main(["check", *words, "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    verdicts = [one["verdict"] for one in told["findings"]]
    assert verdicts[0] == "undecided"
    assert told["counts"] == {v: verdicts.count(v) for v in ("holds", "fails", "undecided")}


def test_check_of_rows_that_lack_runs_does_not_say_that_all_holds(
    world, tmp_path, monkeypatch, capsys
) -> None:
    toy, store, words = world
    holds = Statement("it holds", lambda _: Finding("it holds", "holds", "as said", kind="exact"))
    one = dataclasses.replace(toy, statements={"holds": holds})
    monkeypatch.setattr(program, "artefact", {"toy": one}.__getitem__)
    copy = shutil.copytree(store, tmp_path / "copy")
    shutil.rmtree(copy / "views", ignore_errors=True)
    check = ["check", *words[:-1], str(copy)]
    assert main(check) == 0
    last = next(r for r in RunStore(copy).rows() if r["config"]["seed"] == 1)
    shutil.rmtree(copy / "runs" / last["address"])
    capsys.readouterr()
    assert main(check) == 3
    told = capsys.readouterr()
    assert "toy: unfinished: " in told.err
    assert "1 holds, 0 fails, 0 undecided" in told.out


def test_mistakes_are_one_sentence(world, capsys) -> None:
    *_, words = world
    for line, said in (
        (["check", "toy", "--preset", "locl"], "did you mean local?"),
        (["check", "toy", "--preset", "smoke", "--store", "nowhere"], "expected rows at nowhere"),
        (
            ["run", *words, "--source", "SST-2"],
            "TASK=FOLDER with a folder that is there, got 'SST-2'",
        ),
        (["run", *words, "--workers", "0"], "got 0"),
        (["verify", "rm-structured-wors"], "did you mean rm-structured-worse?"),
    ):
        assert main(line) == 2, line
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1


def test_an_artefact_that_is_not_there_is_answered_with_the_nearest(monkeypatch, capsys) -> None:
    monkeypatch.undo()
    assert main(["check", "figur5"]) == 2
    assert "did you mean figure5?" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(artefacts()))
def test_every_artefact_has_runs_in_every_preset_and_something_to_say_of_them(name) -> None:
    one = artefacts()[name]
    assert {"smoke", "paper"} <= set(one.presets)
    for preset in one.presets:
        assert next(cell for grid in one.of(preset) for cell in grid.cells())
    assert one.tables


def test_every_table_and_figure_of_both_papers_that_is_measured_has_an_artefact() -> None:
    ours = {
        "figure1",
        "figure3",
        "figure4",
        "figure4a",
        "figure4b",
        "figure4c",
        "figure5",
        "table1",
        "table2",
        "table3",
        "table4",
        "table6",
    }  # tables 5, 7, 8 and 9 and figures 6 to 11 are further columns and panels of these
    theirs = {f"id3-table{i}" for i in range(1, 6)} | {f"id3-figure{i}" for i in (4, 5, 6, 8)}
    open_questions = {"structure", "seeds", "adam_edge"}
    assert ours | theirs | open_questions <= artefacts().keys()


@pytest.mark.parametrize("name", list(artefacts()))
def test_the_published_rows_of_every_artefact_say_what_its_table_shows(name, monkeypatch) -> None:
    monkeypatch.undo()
    one = artefacts()[name]
    for preset in one.presets:
        if published.is_published(one, preset):
            rows = published.rows_at(file_of(preset), one, preset)
            table = folder_of(one, preset) / "table.md"
            assert table.read_text(encoding="utf-8") == table_text(one, rows, preset)
