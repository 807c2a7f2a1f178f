"""``landscape finetune``: the run that a user types, and one sentence for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_lines import last_object
from samples import glue_folder, model_folder

import landscape as ls
from landscape.cli import main
from landscape.models import reading
from landscape.sources.hub import HubAnswer
from landscape.tasks import dataset
from landscape.training import training as train


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("cli")
    return {
        "model": model_folder(folder / "opt"),
        "task": glue_folder(folder / "SST-2"),
        "folder": folder,
    }


@pytest.fixture
def common(files: dict[str, Path]) -> list[str]:
    sizes = ["--num-train", "16", "--num-dev", "8", "--num-test", "8"]
    return [
        "--model", str(files["model"]), "--task", "sst2", "--source", str(files["task"]),
        "--density", "0.1", *sizes,
    ]  # fmt: skip


def test_finetune_writes_a_run_and_a_delta_that_the_library_reads(
    common, files, tmp_path, capsys
) -> None:
    out = tmp_path / "run"
    code = main(
        ["finetune", *common, "--lr", "0.01", "--epochs", "2", "--output", str(out), "--json"]
    )
    assert code == 0
    printed = capsys.readouterr().out
    result = last_object(printed)
    assert result["metrics"]["steps"] == 4
    assert {p.name for p in out.iterdir()} == {
        "config.json", "provenance.json", "result.json", "theta.safetensors", "delta.safetensors",
        "before.json",
    }  # fmt: skip
    model, tokenizer = ls.load_model(files["model"])
    ls.load_delta(model, out / "delta.safetensors")
    task = ls.load_task("sst2", source=files["task"], num_train=16, num_dev=8, num_test=8)
    assert ls.evaluate(model, tokenizer, task) == result["metrics"]["test"]
    assert ls.distance(model).l2 == pytest.approx(result["distance"]["l2"], rel=1e-12)


def test_finetune_again_in_the_same_folder_reuses_the_run(common, tmp_path, capsys) -> None:
    command = [
        "finetune",
        *common,
        "--lr",
        "0.01",
        "--epochs",
        "1",
        "--output",
        str(tmp_path / "r"),
    ]
    assert main([*command, "--json"]) == 0
    first = last_object(capsys.readouterr().out)
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "r").iterdir()}
    assert main([*command, "--json"]) == 0
    assert last_object(capsys.readouterr().out) == first
    after = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "r").iterdir()}
    assert after == before


def test_finetune_says_where_it_began_and_of_a_finished_run_that_it_is_finished(
    common, files, tmp_path, capsys
) -> None:
    out = tmp_path / "run"
    command = ["finetune", *common, "--lr", "0.01", "--epochs", "1", "--output", str(out)]
    assert main(command) == 0
    said = capsys.readouterr().out
    model, tokenizer = ls.load_model(files["model"])
    task = ls.load_task("sst2", source=files["task"], num_train=16, num_dev=8, num_test=8)
    before = ls.evaluate(model, tokenizer, task)
    assert json.loads((out / "before.json").read_text()) == before
    p = before["accuracy"]
    error = (p * (1 - p) / 8 + 1 / 256) ** 0.5 / (1 + 1 / 8)  # Wilson's at one standard error
    assert f"before training: test accuracy {p:.3f} ± {error:.3f} (n = 8)\n" in said
    assert said.count("(n = 8)") == 3  # dev's as well
    assert "steps in " in said
    assert main(command) == 0
    again = capsys.readouterr().out
    assert "already finished, 20" in again
    assert "nothing is trained" in again
    assert f"before training: test accuracy {p:.3f} " in again
    assert "steps took " in again
    assert "steps in " not in again


def test_a_run_that_is_no_better_than_before_training_says_so(common, capsys, monkeypatch) -> None:
    found = iter([{"accuracy": 0.75, "loss": 0.5, "n": 8}, {"accuracy": 0.75, "loss": 9.0, "n": 8}])
    honest = train.Training._evaluate
    monkeypatch.setattr(
        train.Training, "_evaluate",
        lambda self, split: next(found) if split == "test" else honest(self, split),
    )  # fmt: skip
    assert main(["finetune", *common, "--lr", "0.01", "--epochs", "1", "--json"]) == 0
    told = capsys.readouterr()
    assert "no better than before training: test accuracy 0.750 to 0.750, loss 0.5 to 9; " in (
        told.err
    )
    assert last_object(told.out)["before"] == {"accuracy": 0.75, "loss": 0.5, "n": 8}


def test_a_folder_with_other_rows_is_refused_by_name_and_begun_anew_by_force(
    common, tmp_path, capsys
) -> None:
    command = ["finetune", *common, "--lr", "0.01", "--epochs", "1", "--output", str(tmp_path)]
    assert main(command) == 0
    capsys.readouterr()
    other = [*command, "--num-train", "12"]
    assert main(other) == 2
    assert "the train rows differ: 16 there, 12 asked for" in capsys.readouterr().err
    delta = (tmp_path / "delta.safetensors").read_bytes()
    assert main([*other, "--force"]) == 0
    assert (tmp_path / "delta.safetensors").read_bytes() != delta
    assert main(other) == 0


def test_the_protocols_options_reach_the_run(common, capsys) -> None:
    options = ["--bos", "0", "--max-length", "12", "--select-by", "loss"]
    run = ["finetune", *common, "--lr", "0.01", "--epochs", "1", "--json", *options]
    assert main(run) == 0
    config = last_object(capsys.readouterr().out)["config"]
    assert (config["bos"], config["max_length"], config["select_by"]) == (0, 12, "loss")
    assert main([*run, "--bos", "none"]) == 0
    assert last_object(capsys.readouterr().out)["config"]["bos"] is None
    assert main([*run, "--bos", "first"]) == 2
    assert "expected tokenizer, none or a token id, got 'first'" in capsys.readouterr().err


def test_the_optimizers_options_reach_the_run(common, capsys) -> None:
    chosen = {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.1, "lr_schedule": "cosine",
              "warmup": 0.25, "accumulate": 2, "autocast": "bf16", "patience": 3}  # fmt: skip
    options = [part for name, value in chosen.items()
               for part in (f"--{name.replace('_', '-')}", str(value))]  # fmt: skip
    run = ["finetune", *common, "--lr", "0.01", "--epochs", "4", "--json", "--batch-size", "4"]
    assert main([*run, *options, "--device", "cpu"]) == 0
    result = last_object(capsys.readouterr().out)
    assert {name: result["config"][name] for name in chosen} == chosen
    assert result["metrics"]["steps"] <= 8  # 16 examples, 8 a step
    assert main([*run, "--warmup", "5"]) == 0
    assert last_object(capsys.readouterr().out)["config"]["warmup"] == 5


MISTAKES = {
    "momentum of adamw": (["--momentum", "0.9"], "takes momentum, got 'adamw'"),
    "warm-up of everything": (["--warmup", "1.0"], "--warmup: expected a finite number"),
    "a device that is none": (["--device", "gpu"], "--device: expected a device such as cpu"),
    "unknown model": (["--model", "gpt-17"], "smollm2-135m"),
    "unknown task": (["--task", "imdb"], "rotten_tomatoes"),
    "ratio above the targets' share": (["--ratio", "0.9"], "ratio"),
    "targets that match nothing": (["--targets", "*.query"], "targets"),
    "empty split": (["--num-train", "0"], "--num-train: expected a whole number of at least 1"),
    "missing source": (["--source", "nowhere"], "train.tsv"),
    "rate of zero": (["--lr", "0"], "--lr: expected a finite number above 0, got 0"),
    "no epochs": (["--epochs", "0"], "--epochs: expected a whole number of at least 1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    mistake, common, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(reading, "ask_hub", lambda *_, **__: HubAnswer(False, reason="no network"))
    change, words = MISTAKES[mistake]
    arguments = list(common)
    if change[0] == "--ratio":
        arguments.remove("--density")
        arguments.remove("0.1")
    out = tmp_path / "run"
    code = main(["finetune", *arguments, "--lr", "0.01", "--output", str(out), *change])
    said = capsys.readouterr()
    assert code == 2
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert words in said.err
    assert not out.exists() or not any(out.iterdir())


def test_labels_outside_the_verbaliser_are_refused_by_file_and_line(
    common, files, tmp_path, capsys
) -> None:
    folder = glue_folder(tmp_path / "SST-2")
    (folder / "dev.tsv").write_text("sentence\tlabel\nfine\t7\n")
    arguments = [str(folder) if a == str(files["task"]) else a for a in common]
    assert main(["finetune", *arguments, "--lr", "0.01"]) == 2
    said = capsys.readouterr().err
    assert "dev.tsv, line 2" in said
    assert "7" in said


def test_a_folder_of_another_configuration_is_refused_and_kept(common, tmp_path, capsys) -> None:
    out = tmp_path / "run"
    command = ["finetune", *common, "--epochs", "1", "--output", str(out)]
    assert main([*command, "--lr", "0.01"]) == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    assert main([*command, "--lr", "0.02"]) == 2
    assert "lr 0.01 there, 0.02 asked for" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_a_loss_of_nan_ends_the_run_cleanly_with_exit_code_1(
    common, tmp_path, capsys, monkeypatch
) -> None:
    honest = train.task_loss
    monkeypatch.setattr(train, "task_loss", lambda *a: (honest(*a)[0] * float("nan"), 1))
    out = tmp_path / "run"
    assert main(["finetune", *common, "--lr", "0.01", "--output", str(out), "--json"]) == 1
    said = capsys.readouterr()
    assert "diverged at step 1" in said.err
    assert json.loads(said.out)["metrics"]["diverged"] is True
    assert json.loads((out / "result.json").read_text())["metrics"]["diverged"] is True


def test_without_a_hub_opt_and_sst2_name_the_offline_alternatives(capsys, monkeypatch) -> None:
    away = HubAnswer(False, reason="the hub cannot be reached")
    monkeypatch.setattr(reading, "ask_hub", lambda *_, **__: away)
    monkeypatch.setattr(dataset, "ask_hub", lambda *_, **__: away)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", "nowhere", raising=False)
    assert (
        main(["finetune", "--model", "facebook/opt-125m", "--task", "sst2", "--lr", "0.001"]) == 2
    )
    said = capsys.readouterr().err
    assert "rotten_tomatoes" in said
    assert "Traceback" not in said
