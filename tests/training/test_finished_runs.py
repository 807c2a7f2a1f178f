"""Finished runs are read back as they were, and nothing is written."""

from __future__ import annotations

import math

import pytest
from kept_runs import Killed, assert_same, finetune, lasting, masked, stop_at

from landscape import folders
from landscape.errors import UserError
from landscape.training import training as train


def test_a_finished_run_is_read_and_nothing_is_written(tmp_path, whole) -> None:
    model, folder = masked(), tmp_path / "run"
    finetune(model, folder)
    folder.chmod(0o555)
    try:
        before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
        for again in (model, masked()):  # as the run has left it, and afresh
            run = finetune(again, folder)
            assert run.stored
            assert_same(run, again, whole)
        after = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
        assert after == before
    finally:
        folder.chmod(0o755)


def test_a_run_without_clipping_is_stopped_and_read_back(tmp_path) -> None:
    model = masked()
    with pytest.raises(Killed):
        finetune(model, tmp_path, max_gradient_norm=math.inf, probes=[stop_at(3)])
    first = finetune(model, tmp_path, max_gradient_norm=math.inf)
    assert lasting(finetune(model, tmp_path, max_gradient_norm=math.inf)) == lasting(first)
    with pytest.raises(UserError, match=r"max_gradient_norm 'inf' there, 1\.0 asked for"):
        finetune(masked(), tmp_path)


def test_the_losses_of_a_run_that_diverged_are_read_back_as_nan(tmp_path, monkeypatch) -> None:
    honest = train.task_loss
    monkeypatch.setattr(train, "task_loss", lambda *a: (honest(*a)[0] * math.nan, 1))
    first = finetune(masked(), tmp_path)
    again = finetune(masked(), tmp_path)
    assert again.stored
    assert again.diverged
    assert math.isnan(first.history[-1]["loss"])
    assert math.isnan(again.history[-1]["loss"])


def test_a_folder_below_the_user_is_found_there(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = finetune(masked(), "~/runs/a", epochs=1)
    assert run.path == tmp_path / "runs" / "a"
    assert not (tmp_path / "~").exists()
    assert folders.read_json("~/runs/a/result.json")["metrics"]["steps"] == 4
