"""Run folders: whole files or none, one configuration a folder, provenance that can be traced."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Iterator

import pytest
import torch

from landscape.errors import UserError
from landscape.folders import (
    device_name,
    open_folder,
    origin,
    provenance,
    read_json,
    write_json,
    write_whole,
)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})

    def half(temporary) -> None:
        temporary.write_text('{"a":')
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_whole(path, half)
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_a_folder_returns_to_its_configuration_and_refuses_another(tmp_path) -> None:
    folder = open_folder(tmp_path / "run", {"lr": 0.1, "seed": 0})
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert open_folder(folder, {"seed": 0, "lr": 0.1}) == folder
    with pytest.raises(UserError, match=r"another configuration \(lr 0\.1 there, 0\.2 asked for\)"):
        open_folder(folder, {"lr": 0.2, "seed": 0})
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_file_or_a_stranger_folder_is_refused_and_kept(tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="expected a folder for the run, got the file"):
        open_folder(tmp_path / "file", {})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        open_folder(tmp_path / "folder", {})
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["thesis.tex"]


def test_numbers_that_json_lacks_become_null(tmp_path) -> None:
    write_json(tmp_path / "r.json", {"loss": math.nan, "path": [1.0, math.inf]})
    text = (tmp_path / "r.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"loss": None, "path": [1.0, None]}


@pytest.mark.parametrize("content", ["", "{", "[1]", "\xff"])
def test_a_damaged_json_file_is_refused_by_name(tmp_path, content) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"expected a JSON object in .*config\.json"):
        read_json(path)


def test_provenance_answers_how_a_result_came_to_be() -> None:
    found = provenance()
    assert {"command", "commit", "versions", "device", "threads", "platform", "date"} <= set(found)
    assert {"python", "torch", "transformers", "numpy"} <= set(found["versions"])
    assert found["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(\+changes)?", found["commit"])
    assert found["threads"] >= 1
    json.dumps(found)


def test_a_gpu_that_computed_nothing_is_not_named(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device}")
    assert provenance()["device"] == provenance("cpu")["device"] == device_name()
    assert provenance(torch.device("cuda", 1))["device"] == "GPU cuda:1"
    assert (device_name("meta"), device_name("mps:0"), device_name("npu")) == ("meta", "mps", "npu")

    def missing(device):
        raise AssertionError("Invalid device id")

    monkeypatch.setattr(torch.cuda, "get_device_name", missing)
    assert device_name("cuda:7") == "cuda"


@pytest.fixture
def unasked() -> Iterator[None]:
    """Let the commit be found anew, in this test and after it."""
    origin._commit.cache_clear()
    yield
    origin._commit.cache_clear()


def test_a_commit_made_while_a_process_runs_is_not_its_own(unasked, monkeypatch) -> None:
    heads = iter(["a" * 40, "", "b" * 40, ""])  # of rev-parse and status, twice

    def run(command, **_):
        return subprocess.CompletedProcess(command, 0, stdout=next(heads))

    monkeypatch.setattr(origin.subprocess, "run", run)
    assert [provenance()["commit"], provenance()["commit"]] == ["a" * 40, "a" * 40]


def test_a_file_that_safetensors_was_writing_is_removed_with_the_others(tmp_path) -> None:
    open_folder(tmp_path, {"lr": 1.0})
    (tmp_path / ".tmp9j8mGv").touch()
    (tmp_path / ".checkpoint.safetensors.abcd1234").touch()
    (tmp_path / ".tmp-mine").touch()
    open_folder(tmp_path, {"lr": 1.0})
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".tmp-mine", "config.json", "provenance.json"]


def test_saying_where_a_result_comes_from_writes_nothing_into_the_checkout(
    unasked, monkeypatch
) -> None:
    """Else a git of the user's would find it locked, for ever where this process is killed."""
    calls, honest = [], subprocess.run

    def watched(command, **how):
        calls.append(command)
        return honest(command, **how)

    monkeypatch.setattr(subprocess, "run", watched)
    provenance()
    asked = [command for command in calls if command[0] == "git"]
    assert asked
    assert all("--no-optional-locks" in command for command in asked)
