"""The command line of the experiments: what it lists, what it says of options and mistakes."""

from __future__ import annotations

import dataclasses
import importlib.util
import re

import pytest

from experiments.__main__ import main
from experiments.earlier import ARTEFACTS
from experiments.kit.settings import sentences
from experiments.kit.store import RESULTS, read_rows
from landscape.figures.canvas import canvas
from landscape.sources import carriers


def test_help_says_of_each_default_what_it_is_for_and_whether_it_is_a_papers_or_ours(
    capsys,
) -> None:
    for name, expected in (
        ("surfaces", ("examples a step (Xu & Zhang 2024: 8)",
                     "matvecs after which Lanczos stops (ours: 80)")),
        ("selections", ("passes over the training examples (Agarwal et al. 2024: 7)",
                        "the paper trains DeBERTa-v3-base (ours: facebook/opt-125m)")),
    ):  # fmt: skip
        assert main(["run", name, "--help"]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert all(text in printed for text in expected), printed


@pytest.mark.parametrize("name", list(ARTEFACTS))
def test_every_setting_of_every_artefact_has_a_sentence(name) -> None:
    config = ARTEFACTS[name].config
    said = sentences(config)
    assert {f.name for f in dataclasses.fields(config)} <= set(said)


def test_what_an_artefact_needs_is_said_before_it_computes(tmp_path, monkeypatch, capsys) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        carriers.importlib.util, "find_spec", lambda m: None if m == "peft" else found(m)
    )
    folder = tmp_path / "run"
    assert main(["run", "selections", "--preset", "smoke", "--output", str(folder)]) == 2
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
    assert main(["run", "surfaces", "--preset", "huge", "--output", str(tmp_path / "x")]) == 2
    assert "smoke, local, paper" in capsys.readouterr().err
    assert main(["render", "surfaces", "--output", str(tmp_path / "nowhere")]) == 2
    assert "expected a run of surfaces in" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_list_names_every_artefact_with_its_presets(capsys) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for name, artefact in ARTEFACTS.items():
        assert name in printed
        assert {"smoke", "local"} <= set(artefact.presets)


@pytest.mark.parametrize("name", list(ARTEFACTS))
@pytest.mark.parametrize("preset", ["smoke", "local", "paper"])
def test_every_preset_of_every_artefact_lists_rows_whose_keys_differ(name, preset) -> None:
    artefact = ARTEFACTS[name]
    listed = artefact.expected(artefact.configure(preset, {}))
    assert listed
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("name", list(ARTEFACTS))
def test_the_published_rows_render_to_the_published_table_and_page(name, tmp_path, capsys) -> None:
    published = RESULTS / name / "local"
    (tmp_path / "config.json").write_text((published / "config.json").read_text())
    blank = dataclasses.replace(ARTEFACTS[name], draw=lambda rows: canvas((1, 1))[0])
    blank.render(read_rows(published), tmp_path)
    table = (published / "table.md").read_text()
    assert (tmp_path / "table.md").read_text() == capsys.readouterr().out == table
    pages = [(f / "index.html").read_text() for f in (tmp_path, published)]
    assert without_figure(pages[0]) == without_figure(pages[1])


def without_figure(page: str) -> str:
    return re.sub(r"data:image/png;base64,[^\"']*", "", page)
