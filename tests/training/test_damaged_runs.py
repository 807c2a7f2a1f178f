"""Damaged files of a run are refused in one sentence, and overwritten when that is asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kept_runs import Killed, assert_same, finetune, masked, stop_at

import landscape as ls
from landscape.errors import UserError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Killed):
        finetune(masked(), folder, probes=[stop_at(3)])
    return folder / "checkpoint.safetensors"


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def text(content: str):
    return lambda path: path.write_text(content)


DEEP, LONG = "[" * 100_000, '{"a": ' + "9" * 5000 + "}"


@pytest.mark.parametrize(
    ("name", "damage"),
    [(name, damage) for name in ("theta.safetensors", "checkpoint.safetensors")
     for damage in (halved, flipped, text(""), Path.unlink)
     if (name, damage) != ("checkpoint.safetensors", Path.unlink)]
    + [(name, text(content)) for name in ("config.json", "result.json")
       for content in ("", "{", "[]", "{}", "null", DEEP, LONG, '{"a":' * 40 + "1" + "}" * 40)]
    + [("result.json", text(content)) for content in (
        '{"history": 1, "evaluations": [], "metrics": {"diverged": false}, "distance": {}}',
        '{"history": [], "evaluations": [], "metrics": {}, "distance": {}}',
        '{"history": [], "evaluations": [], "metrics": {"diverged": true}, "distance": {}, "a": 1}',
    )],
)  # fmt: skip
def test_a_damaged_file_is_refused_in_one_sentence(
    tmp_path, whole, checkpoint, name, damage
) -> None:
    shutil.copytree(whole[0].path, tmp_path, dirs_exist_ok=True)
    if name == "checkpoint.safetensors":
        shutil.copy(checkpoint, tmp_path)
        (tmp_path / "result.json").unlink()
    damage(tmp_path / name)
    model = masked()
    with pytest.raises(UserError, match=r"; |read one: |got a |levels of JSON") as caught:
        finetune(model, tmp_path)
    assert name.split(".")[0] in str(caught.value) or "another configuration" in str(caught.value)
    assert not any(bool(p.any()) for p in ls.trainable(model).values())


def test_numbers_of_another_run_are_refused(tmp_path) -> None:
    finetune(masked(), tmp_path / "a")
    finetune(masked(), tmp_path / "b", seed=6)
    theta = (tmp_path / "b" / "theta.safetensors").read_bytes()
    (tmp_path / "a" / "theta.safetensors").write_bytes(theta)
    with pytest.raises(UserError, match="got another run's; train again with overwrite=True"):
        finetune(masked(), tmp_path / "a")


@pytest.mark.parametrize("name", ["theta.safetensors", "config.json", "result.json"])
def test_a_damaged_run_is_overwritten(tmp_path, whole, name) -> None:
    shutil.copytree(whole[0].path, tmp_path, dirs_exist_ok=True)
    halved(tmp_path / name)
    model = masked()
    assert_same(finetune(model, tmp_path, overwrite=True), model, whole)


def test_overwriting_removes_the_run_alone(tmp_path) -> None:
    finetune(masked(), tmp_path, epochs=1)
    (tmp_path / "thesis.tex").write_text("mine")
    (tmp_path / "delta.safetensors").write_text("of the run")
    run = finetune(masked(), tmp_path, epochs=1, lr=2e-2, overwrite=True)
    assert not run.stored
    assert (tmp_path / "thesis.tex").read_text() == "mine"
    assert not (tmp_path / "delta.safetensors").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="holds no run"):
        finetune(masked(), tmp_path / "other", overwrite=True)
