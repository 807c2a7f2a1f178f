"""Smoke presets for real: artefacts run, render and are checked from their store.

What tiny runs say of a statement is not asked. All share a store, and so runs, of which two worker
processes compute one each at a time: no core idles while another has work.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.catalogue import artefacts
from landscape.cli.guard import DONE, FAILED, UNDECIDED

#: all but the demo of the README, whose commands CI runs first
NAMES = [name for name in artefacts() if name != "figure4"]


def shown(
    names: Sequence[str], store: Path, capsys: pytest.CaptureFixture[str], *, workers: int = 1
) -> dict[str, str]:
    """Run, render and check artefacts as a user types it; return what went wrong, by artefact."""
    words = ["--preset", "smoke", "--store", str(store)]
    wrong: dict[str, str] = {}
    assert main(["run", *names, *words, "--workers", str(workers)]) == DONE, capsys.readouterr().err
    capsys.readouterr()
    for name in names:
        if main(["render", name, *words]) != DONE:
            wrong[name] = capsys.readouterr().err
            continue
        view = store / "views" / name
        whole = {p.name for p in view.iterdir() if p.stat().st_size} == {
            "table.md", "figure.png", "index.html",
        }  # fmt: skip
        code = main(["check", name, *words])
        said = capsys.readouterr().out
        current = "holds: the table shown is what the rows say" in said
        unfinished = "unfinished" in (view / "table.md").read_text(encoding="utf-8")
        if code not in (DONE, FAILED, UNDECIDED) or not (whole and current) or unfinished:
            wrong[name] = f"check {code}, whole {whole}, current {current}, {unfinished=}"
    return wrong


def test_two_artefacts_of_the_same_four_runs_run_render_and_check(tmp_path, capsys) -> None:
    assert shown(["figure4c", "sizes"], tmp_path / "store", capsys) == {}
    assert len(list((tmp_path / "store").glob("runs/*/result.json"))) == 4


@pytest.mark.slow
def test_every_smoke_preset_runs_renders_and_checks(tmp_path, capsys) -> None:
    assert shown(NAMES, tmp_path / "store", capsys, workers=2) == {}
