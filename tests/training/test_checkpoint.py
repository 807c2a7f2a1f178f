"""Runs that are killed, damaged or asked for again: one end, bit for bit, or one sentence."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import landscape as ls
from landscape import folders
from landscape.errors import UserError
from landscape.identity import base_digests
from landscape.training import baselines
from landscape.training import training as train

SETTINGS = {"lr": 1e-2, "epochs": 2, "batch_size": 4, "seed": 5, "checkpoint_every": 2}


class Killed(BaseException):
    """What a signal would do, where it can be put between two lines."""


def tiny_task(count: int = 16, flip: bool = False) -> ls.Task:
    words = ("bad", "good")
    rows = tuple(
        ls.Example(f"film {i % 5} is {words[i % 2]}", (" no", " yes"), (i + flip) % 2)
        for i in range(count)
    )
    return ls.Task("tiny", rows, rows[:8], rows[8:16])


def masked(seed: int = 0, **options) -> torch.nn.Module:
    model = ls.tiny_model("llama", seed=seed)
    options = {"density": 0.3, "targets": "*_proj"} | options
    ls.attach(model, ls.random_mask(model, **options))
    return model


def finetune(model, folder, task=None, **settings) -> ls.Run:
    return ls.finetune(
        model, ls.tiny_tokenizer(), task or tiny_task(), directory=folder, **(SETTINGS | settings)
    )


def numbers(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in ls.trainable(model).items()}


def lasting(run: ls.Run) -> dict:
    """What of a run does not depend on the machine's clock."""
    passing = ("seconds", "peak_memory")
    metrics = {key: value for key, value in run.metrics.items() if key not in passing}
    return {"history": run.history, "evaluations": run.evaluations, "metrics": metrics,
            "distance": run.distance, "config": run.config}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    model = masked()
    run = finetune(model, tmp_path_factory.mktemp("whole") / "run")
    return run, numbers(model)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Killed):
        finetune(masked(), folder, probes=[stop_at(3)])
    return folder / "checkpoint.safetensors"


def stop_at(step: int):
    def probe(_, record) -> None:
        if record["step"] == step:
            raise Killed

    return probe


def assert_same(run: ls.Run, model: torch.nn.Module, whole) -> None:
    expected, theta = whole
    assert lasting(run) == lasting(expected)
    assert all(torch.equal(p, theta[n]) for n, p in numbers(model).items())
    assert run.path is not None
    assert sorted(p.name for p in run.path.iterdir()) == [
        "config.json", "provenance.json", "result.json", "theta.safetensors",
    ]  # fmt: skip


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


SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_checkpoint import INSTANTS, finetune, masked
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
for instant in INSTANTS:
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
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(Path(__file__).parent)], check=True,
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
        for settings in ({"schedule": other}, {"schedule": schedule, "directory": "new"}):
            settings = {"directory": folder} | settings
            place = tmp_path / settings.pop("directory")
            with pytest.raises(UserError, match="expected a model without a mask"):
                finetune(model, place, **settings)


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


def lora(seed: int) -> torch.nn.Module:
    pytest.importorskip("peft")
    return baselines.lora(ls.tiny_model("llama"), rank=2, seed=seed)


def elsewhere() -> torch.nn.Module:
    model = masked()
    with torch.no_grad():
        next(iter(ls.trainable(model).values()))[0] = 0.5
    return model


def by_hand() -> torch.nn.Module:
    """A mask of the same rule and counts on other weights."""
    model = ls.tiny_model("llama")
    mask = ls.random_mask(model, density=0.3, targets="*_proj")
    shapes = {n: torch.Size(s).numel() for n, s in mask.shapes.items()}
    other = {n: ((i + 1) % shapes[n]).sort().values for n, i in mask.indices.items()}
    ls.attach(model, dataclasses.replace(mask, indices=other))
    return model


def shifted() -> torch.nn.Module:
    model = masked()
    with torch.no_grad():
        model.model.norm.weight.add_(1.0)
    return model


def narrow() -> torch.nn.Module:
    model = ls.tiny_model("llama").to(torch.bfloat16)
    ls.attach(model, ls.random_mask(model, density=0.3, targets="*_proj"))
    return model


def uncased():
    from tokenizers import normalizers

    tokenizer = ls.tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


def changed(split: str, **change) -> ls.Task:
    task = tiny_task()
    first, *others = task.split(split)
    return dataclasses.replace(task, **{split: (dataclasses.replace(first, **change), *others)})


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({}, {"task": tiny_task(40)}, "the train rows differ: 16 there, 40 asked for"),
        ({}, {"task": tiny_task(flip=True)}, "the train rows differ in their labels"),
        ({}, {"task": changed("train", prompt="x")}, "the train rows differ in their texts"),
        ({}, {"task": changed("dev", prompt="x")}, "the dev rows differ in their texts"),
        ({}, {"task": changed("test", label=1)}, "the test rows differ in their labels"),
        ({}, {"model": lambda: masked(seed=1)}, "the base weights differ"),
        ({}, {"model": shifted}, "the base weights differ"),
        ({}, {"model": narrow}, "dtype 'float32' there, 'bfloat16' asked for"),
        ({}, {"model": by_hand}, r"\(the mask indices differ\)"),
        ({}, {"model": elsewhere}, r"\(the starting values differ\)"),
        ({}, {"tokenizer": uncased()}, "the tokenizer contents differ"),
        ({"model": lambda: lora(0)}, {"model": lambda: lora(1)}, "the starting values differ"),
        ({"model": lambda: baselines.full(ls.tiny_model("llama"))},
         {"model": lambda: baselines.full(ls.tiny_model("llama", seed=1))},
         "the starting values differ"),
    ],
)  # fmt: skip
def test_a_folder_refuses_other_inputs_by_name_and_is_left_as_it_was(
    tmp_path, first, second, words
) -> None:
    def call(model=masked, tokenizer=None, task=None, **options) -> ls.Run:
        tokenizer = tokenizer or ls.tiny_tokenizer()
        return ls.finetune(
            model(), tokenizer, task or tiny_task(), directory=tmp_path,
            **(SETTINGS | {"epochs": 1} | options),
        )  # fmt: skip

    call(**first)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UserError, match=words):
        call(**(first | second))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert not call(**(first | second), overwrite=True).stored
    assert call(**(first | second)).stored


@pytest.mark.parametrize(
    "setting",
    [{"lr": 2e-2}, {"epochs": 3}, {"batch_size": 5}, {"seed": 6}, {"weight_decay": 0.1},
     {"betas": (0.9, 0.99)}, {"eps": 1e-7}, {"test": False}, {"max_gradient_norm": 2.0},
     {"evaluations_per_epoch": 2}, {"select_by": "loss"}, {"max_length": 7}, {"bos": 3}],
    ids=lambda setting: next(iter(setting)),
)  # fmt: skip
def test_a_folder_refuses_every_other_setting_by_name(whole, setting) -> None:
    with pytest.raises(UserError, match=rf"{next(iter(setting))} .* there, .* asked for"):
        finetune(masked(), whole[0].path, **setting)


def test_two_revisions_differ_where_both_are_known(tmp_path) -> None:
    def call(revision: str | None) -> ls.Run:
        model = masked()
        model.config._commit_hash = revision
        return finetune(model, tmp_path, epochs=1)

    call("abc")
    assert call(None).stored
    with pytest.raises(UserError, match="the revisions differ"):
        call("def")


def test_the_same_weights_by_another_name_are_the_same_run(tmp_path) -> None:
    finetune(masked(), tmp_path, epochs=1)
    model = masked()
    model.config._name_or_path = "/somewhere/else"
    assert finetune(model, tmp_path, epochs=1).stored


def test_a_configuration_is_readable_and_keeps_hashes_apart(tmp_path) -> None:
    run = finetune(masked(), tmp_path, epochs=1)
    config = json.loads((tmp_path / "config.json").read_text())
    hashes = config.pop("identity")
    assert hashes["starting values"] == "zero"
    assert hashes["train rows"]["count"] == 16
    assert config["model"] == "LlamaForCausalLM"
    assert config["dtype"] == "float32"
    assert max(len(str(value)) for value in config.values()) < 200
    assert run.config == config | {"identity": hashes}


def test_a_folder_of_an_older_version_is_refused_with_what_to_do(tmp_path) -> None:
    finetune(masked(), tmp_path, epochs=1)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["identity"]
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"as in older versions\); choose another folder or start"):
        finetune(masked(), tmp_path, epochs=1)


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


def test_a_folder_below_the_user_is_found_there(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = finetune(masked(), "~/runs/a", epochs=1)
    assert run.path == tmp_path / "runs" / "a"
    assert not (tmp_path / "~").exists()
    assert folders.read_json("~/runs/a/result.json")["metrics"]["steps"] == 4
