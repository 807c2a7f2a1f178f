"""Runs that are killed and asked for again: one end, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kept_runs import Killed, assert_same, finetune, lasting, masked, numbers, stop_at

import landscape as ls
from landscape.errors import UserError
from landscape.identity import base_digests
from landscape.tensorfile import write_tensors
from landscape.training import baselines
from landscape.training.checkpoint import read_checkpoint, run_key, write_checkpoint

#: (file, before its move into place or after it)
MOVES = [
    (name, when)
    for name in ("provenance.json", "config.json", "checkpoint.safetensors", "theta.safetensors",
                 "result.json")
    for when in ("before", "after")
]  # fmt: skip


@pytest.mark.parametrize(("name", "when"), MOVES)
def test_a_run_killed_at_any_move_of_a_file_ends_like_one_that_was_not(
    tmp_path, monkeypatch, whole, name, when
) -> None:
    replace = os.replace

    def killed(source, target) -> None:
        if Path(target).name == name:
            if when == "after":
                replace(source, target)
            raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        # a killed process removes nothing
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(Killed):
            finetune(masked(), tmp_path / "run")
    leftovers = [p.name for p in (tmp_path / "run").iterdir() if p.name.startswith(f".{name}.")]
    assert len(leftovers) == (when == "before")
    model = masked()
    assert_same(finetune(model, tmp_path / "run"), model, whole)


def test_a_state_longer_than_a_header_may_be_is_written_and_read(tmp_path) -> None:
    path, long = tmp_path / "checkpoint.safetensors", "x" * 100_000_001
    write_checkpoint(path, {"history": long, "inner": {"t": torch.arange(3)}}, {"lr": 1})
    state = read_checkpoint(path, {"lr": 1})
    assert state["history"] == long
    assert state["inner"]["t"].tolist() == [0, 1, 2]


def test_a_state_that_an_older_version_wrote_into_the_header_is_read(tmp_path) -> None:
    path, text = tmp_path / "checkpoint.safetensors", '{"a": NaN, "t": {"<tensor>": "t"}}'
    write_tensors(path, {"t": torch.arange(3)}, {"run": run_key({"lr": 1}), "state": text})
    state = read_checkpoint(path, {"lr": 1})
    assert state["a"] != state["a"]
    assert state["t"].tolist() == [0, 1, 2]


SCRIPT = """
import os, signal, sys
from pathlib import Path
from kept_runs import finetune, masked
replace = os.replace
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def child(instant, folder):
    def probe(_, record):
        if instant == f"step {record['step']}":
            die()
    def move(source, target):
        if instant == f"half {Path(target).name}":
            Path(source).write_bytes(Path(source).read_bytes()[:100])
            die()
        replace(source, target)
    os.replace = move
    finetune(masked(), folder, probes=[probe])
for instant in sys.argv[2:]:
    pid = os.fork()
    if pid == 0:
        child(instant, Path(sys.argv[1]) / instant)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL, instant
"""
INSTANTS = ("step 1", "step 5", "half config.json", "half checkpoint.safetensors",
            "half theta.safetensors", "half result.json")  # fmt: skip


@pytest.mark.slow
def test_a_process_killed_by_the_system_ends_like_one_that_was_not(tmp_path, whole) -> None:
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), *INSTANTS], check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    for instant in INSTANTS:
        assert not (tmp_path / instant / "result.json").exists()
        model = masked()
        assert_same(finetune(model, tmp_path / instant), model, whole)


@pytest.mark.parametrize("step", [1, 5])
def test_the_same_call_in_the_same_process_goes_on_from_where_the_folder_began(
    tmp_path, whole, step
) -> None:
    model = masked()
    with pytest.raises(Killed):
        finetune(model, tmp_path / "run", probes=[stop_at(step)])
    assert not any(bool(p.any()) for p in ls.trainable(model).values())
    assert_same(finetune(model, tmp_path / "run"), model, whole)


@pytest.mark.parametrize("make", [baselines.full, lambda m: baselines.adapter(m, width=2)])
@pytest.mark.parametrize("step", [1, 5])
def test_other_methods_start_again_where_they_began_too(tmp_path, make, step) -> None:
    def start() -> torch.nn.Module:
        return make(ls.tiny_model("llama"))

    model, expected = start(), start()
    finetune(expected, tmp_path / "whole", lr=1e-3)
    with pytest.raises(Killed):
        finetune(model, tmp_path / "run", lr=1e-3, probes=[stop_at(step)])
    assert base_digests(model) == base_digests(start())
    finetune(model, tmp_path / "run", lr=1e-3)
    assert base_digests(model) == base_digests(expected)
    # a fresh model, as a new process would make it, is given the stored numbers
    again = start()
    assert finetune(again, tmp_path / "run", lr=1e-3).stored
    assert base_digests(again) == base_digests(expected)


def test_what_a_method_remembers_starts_again_where_it_began(tmp_path) -> None:
    pytest.importorskip("peft")

    def start() -> torch.nn.Module:
        return baselines.adalora(ls.tiny_model("llama"), steps=8, rank=1, first_rank=3)

    model = start()
    whole = finetune(start(), tmp_path / "whole")
    with pytest.raises(Killed):
        finetune(model, tmp_path / "run", probes=[stop_at(1)])
    method, fresh = baselines.method_of(model), baselines.method_of(start())
    assert method.state_dict() == fresh.state_dict() == {}
    assert lasting(finetune(model, tmp_path / "run")) == lasting(whole)


def test_a_scheduled_run_that_was_stopped_or_finished_is_called_again_as_it_stands(
    tmp_path,
) -> None:
    schedule = ls.Schedule("increment", count=60)
    expected = ls.tiny_model("llama")
    whole = finetune(expected, tmp_path / "whole", schedule=schedule)
    for step in (1, 5):
        model, folder = ls.tiny_model("llama"), tmp_path / f"cut {step}"
        with pytest.raises(Killed):
            finetune(model, folder, schedule=schedule, probes=[stop_at(step)])
        for _ in range(2):
            run = finetune(model, folder, schedule=schedule)
            assert lasting(run) == lasting(whole)
            for name, theta in numbers(expected).items():
                assert torch.equal(theta, ls.trainable(model)[name])
        other = ls.Schedule("increment", count=61)
        for settings in ({"schedule": other}, {"schedule": schedule, "folder": "new"}):
            settings = {"folder": folder} | settings
            place = tmp_path / settings.pop("folder")
            with pytest.raises(UserError, match="expected a model without a mask"):
                finetune(model, place, **settings)
