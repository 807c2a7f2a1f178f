"""The command line of the experiments: what it lists, what it says of options and mistakes."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re

import pytest

from experiments.__main__ import main
from experiments.catalogue import artefact, artefacts
from experiments.kit.panels import Panel
from experiments.kit.published import file_of, folder_of, is_published, rows_at
from experiments.kit.rendering import render
from landscape.cli import main as landscape
from landscape.sources import carriers
from landscape.sweep.measurements import measurement_named
from landscape.sweep.plan import wanted
from landscape.sweep.published import read_rows

PUBLISHED = [name for name, one in artefacts().items() if is_published(one, "local")]


def test_what_an_artefact_needs_is_said_before_it_computes(tmp_path, monkeypatch, capsys) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        carriers.importlib.util, "find_spec", lambda m: None if m == "peft" else found(m)
    )
    folder = tmp_path / "run"
    assert main(["run", "selections", "--preset", "smoke", "--store", str(folder)]) == 2
    told = capsys.readouterr()
    assert told.err == (
        "error: expected peft for the artefact selections, but peft is not installed; install it "
        "with: pip install peft\n"
    )
    assert not told.out
    assert not folder.exists()
    assert main(["list"]) == 0
    assert "needs peft (peft is not installed; install it with: pip install peft)" in (
        capsys.readouterr().out
    )


def test_a_dry_run_says_what_is_needed_and_makes_nothing(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(carriers.importlib.util, "find_spec", lambda m: None)  # what runs need
    store = tmp_path / "store"
    words = ["run", "selections", "figure4c", "--preset", "smoke", "--store", str(store)]
    assert main([*words, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    grids = [grid for name in ("selections", "figure4c") for grid in artefact(name).of("smoke")]
    assert found["known"] == len({job.config.address for job in wanted(grids, {})})
    assert (found["finished"], found["dry_run"]) == (0, True)
    assert not store.exists()


def test_several_missing_packages_have_one_command() -> None:
    absent = {"peft": "peft", "curvlinops": "curvlinops-for-pytorch"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(carriers.importlib.util, "find_spec", lambda m: None)
        assert carriers.missing(*absent) == (
            "peft, curvlinops-for-pytorch are not installed; "
            "install them with: pip install peft curvlinops-for-pytorch"
        )
        patch.setattr(carriers.importlib.util, "find_spec", lambda m: m)
        assert carriers.missing(*absent) == ""


def test_mistakes_are_one_sentence(tmp_path, capsys) -> None:
    assert main(["run", "figure4", "--preset", "huge", "--store", str(tmp_path / "x")]) == 2
    assert "smoke, local, paper" in capsys.readouterr().err
    assert main(["render", "figure4", "--store", str(tmp_path / "nowhere")]) == 2
    assert "expected rows at" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_preset_without_runs_names_the_published_one(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("experiments.__main__.store_of", lambda preset: tmp_path / preset)
    assert main(["check", "figure4"]) == 2
    assert "published are those of --preset local, or compute them: " in capsys.readouterr().err


def test_list_names_every_artefact_with_its_presets(capsys) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for name, one in artefacts().items():
        assert name in printed
        assert "smoke" in one.presets
    titles = {one.title for one in artefacts().values()}
    lines = {line for line in printed.splitlines() if any(title in line for title in titles)}
    assert {min(line.find(t) for t in titles if t in line) for line in lines} == {
        1 + max(map(len, artefacts()))
    }


@pytest.mark.parametrize("name", list(artefacts()))
def test_every_preset_of_every_artefact_lists_runs_and_measurements_that_there_are(name) -> None:
    one = artefacts()[name]
    for preset in one.presets:
        jobs = wanted(one.of(preset), {})
        assert jobs
        for job in jobs:
            assert all(measurement_named(asked).parts for asked in job.measure)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_rows_render_to_the_published_table_and_page(name, tmp_path) -> None:
    one = dataclasses.replace(artefacts()[name], panels=(Panel("", lambda *_: None),))
    rows = rows_at(file_of("local"), one, "local")
    published = folder_of(one, "local")
    render(one, rows, "local", tmp_path)
    table = (published / "table.md").read_text()
    assert (tmp_path / "table.md").read_text() == table
    pages = [(f / "index.html").read_text() for f in (tmp_path, published)]
    assert without_figure(pages[0]) == without_figure(pages[1])


def without_figure(page: str) -> str:
    kept = re.sub(r"<figure.*?</figure>", "", page, flags=re.DOTALL)
    assert kept != page
    return kept


def test_run_says_which_published_runs_the_store_lacks(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("experiments.__main__.compute", lambda chosen, grids, store: None)
    store = tmp_path / "store"
    words = ["run", "table2", "--preset", "local", "--store", str(store)]
    one, path = artefacts()["table2"], file_of("local")
    used = one.used(read_rows(path).rows(), "local")
    assert main(words) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{len(used)} of these runs are published")
    command = said.splitlines()[0].split(": ")[1].split()
    assert command[0] == "landscape"
    assert landscape(command[1:]) == 0
    capsys.readouterr()
    assert main(words) == 0
    assert "are published" not in capsys.readouterr().out
