"""Fine-tuning: resuming is exact, divergence ends cleanly, folders are whole."""

from __future__ import annotations

import json
import math

import pytest
import torch
from samples import tiny_task

import landscape as ls
from landscape.errors import UserError
from landscape.training import baselines
from landscape.training import training as train
from landscape.training.loop import Loop


@pytest.fixture
def setup():
    tokenizer = ls.tiny_tokenizer()
    model = ls.tiny_model("llama", vocab_size=len(tokenizer))
    return model, tokenizer, tiny_task()


def attached(model, seed: int = 0) -> None:
    ls.attach(model, ls.random_mask(model, density=0.3, targets="*_proj", seed=seed))


def thetas(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in ls.trainable(model).items()}


def test_training_lowers_the_loss_and_the_best_dev_checkpoint_is_kept(setup) -> None:
    model, tokenizer, task = setup
    attached(model)
    run = ls.finetune(model, tokenizer, task, lr=1e-2, epochs=8, batch_size=8, seed=0)
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    best = max(run.evaluations, key=lambda e: (e["accuracy"], -e["loss"]))
    assert run.metrics["best_step"] == best["step"]
    assert ls.evaluate(model, tokenizer, task, split="dev")["loss"] == pytest.approx(best["loss"])
    assert run.distance["l2"] == pytest.approx(
        math.sqrt(sum(float(t.square().sum()) for t in thetas(model).values()))
    )


@pytest.mark.parametrize("killed_after", [2, 3, 7])
def test_a_run_killed_and_resumed_equals_the_uninterrupted_one_bit_for_bit(
    setup, tmp_path, killed_after
) -> None:
    model, tokenizer, task = setup
    settings = {"lr": 1e-2, "epochs": 3, "batch_size": 8, "seed": 5, "checkpoint_every": 2}
    attached(model)
    whole = ls.finetune(model, tokenizer, task, folder=tmp_path / "whole", **settings)
    expected = thetas(model)
    ls.detach(model)

    class Killed(Exception):
        pass

    def kill(_: torch.nn.Module, record: dict[str, float]) -> None:
        if record["step"] == killed_after:
            raise Killed

    attached(model)
    with pytest.raises(Killed):
        ls.finetune(model, tokenizer, task, folder=tmp_path / "cut", probes=[kill], **settings)
    ls.detach(model)
    assert not (tmp_path / "cut" / "result.json").exists()
    attached(model)
    resumed = ls.finetune(model, tokenizer, task, folder=tmp_path / "cut", **settings)
    assert resumed.history == whole.history
    assert resumed.evaluations == whole.evaluations
    assert all(torch.equal(a, expected[n]) for n, a in thetas(model).items())


def test_adalora_ends_with_the_rank_that_was_asked_for(setup) -> None:
    pytest.importorskip("peft")
    model, tokenizer, task = setup
    adapted = baselines.adalora(model, steps=12, rank=1, first_rank=3)
    ls.finetune(adapted, tokenizer, task, lr=1e-2, epochs=2, batch_size=4, test=False)
    kept = {
        n: int(r.sum())
        for n, r in baselines.method_of(adapted).state_dict().items()
        if n.startswith("ranks/")
    }
    assert len(kept) == sum(kept.values()) == 4


def test_a_finished_run_is_read_back_not_trained_again(setup, tmp_path, monkeypatch) -> None:
    model, tokenizer, task = setup
    attached(model)
    first = ls.finetune(model, tokenizer, task, lr=1e-2, epochs=1, folder=tmp_path)
    expected = thetas(model)
    ls.detach(model)
    attached(model)
    monkeypatch.setattr(Loop, "gradient", None)
    again = ls.finetune(model, tokenizer, task, lr=1e-2, epochs=1, folder=tmp_path)
    assert again.metrics == first.metrics
    assert all(torch.equal(a, expected[n]) for n, a in thetas(model).items())


def test_a_folder_of_another_configuration_is_refused_naming_what_differs(setup, tmp_path) -> None:
    model, tokenizer, task = setup
    attached(model)
    ls.finetune(model, tokenizer, task, lr=1e-2, epochs=1, folder=tmp_path)
    with pytest.raises(UserError, match=r"lr 0\.01 there, 0\.02 asked for"):
        ls.finetune(model, tokenizer, task, lr=2e-2, epochs=1, folder=tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds no run"):
        ls.finetune(model, tokenizer, task, lr=1e-2, folder=tmp_path / "other")


@pytest.mark.parametrize("step", [1, 5])  # before the first checkpoint, and after one
def test_a_loss_that_is_not_finite_is_recorded_as_diverged_and_ends_the_run(
    setup, tmp_path, monkeypatch, step
) -> None:
    model, tokenizer, task = setup
    attached(model)
    honest, calls = train.task_loss, []

    def breaking(model, batch):
        calls.append(1)
        total, count = honest(model, batch)
        return (total * math.nan if len(calls) == step else total), count

    monkeypatch.setattr(train, "task_loss", breaking)
    run = ls.finetune(model, tokenizer, task, lr=1e-2, epochs=5, folder=tmp_path)
    assert run.diverged
    assert run.metrics["steps"] == step
    assert all(torch.isfinite(t).all() for t in thetas(model).values())
    stored = json.loads((tmp_path / "result.json").read_text())
    assert stored["metrics"]["diverged"] is True
    assert stored["history"][-1]["loss"] is None


def test_dropout_is_a_function_of_the_seed_and_step_and_leaves_the_global_generator(setup) -> None:
    model, tokenizer, task = setup
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    results = []
    for outside in (1, 2):
        attached(model)
        torch.manual_seed(outside)
        before = torch.get_rng_state()
        results.append(ls.finetune(model, tokenizer, task, lr=1e-2, epochs=1).history)
        assert torch.equal(before, torch.get_rng_state())
        ls.detach(model)
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [({"lr": 0.0}, "lr"), ({"lr": math.nan}, "lr"), ({"epochs": 0}, "epochs"),
     ({"batch_size": 0}, "batch_size"), ({"checkpoint_every": 0}, "checkpoint_every"),
     ({"evaluations_per_epoch": 0}, "evaluations_per_epoch"), ({"eps": -1e-8}, "eps"),
     ({"weight_decay": -0.1}, "weight_decay")],
)  # fmt: skip
def test_arguments_out_of_range_are_refused(setup, change, words) -> None:
    model, tokenizer, task = setup
    attached(model)
    with pytest.raises(UserError, match=words):
        ls.finetune(model, tokenizer, task, **({"lr": 0.1} | change))


def test_nothing_to_train_is_refused(setup) -> None:
    model, tokenizer, task = setup
    model.requires_grad_(False)
    with pytest.raises(UserError, match="attach a mask"):
        ls.finetune(model, tokenizer, task, lr=0.1)


def test_a_model_is_in_its_own_mode_after_an_interrupted_step(setup, monkeypatch) -> None:
    model, tokenizer, task = setup
    attached(model)
    modes = []

    def interrupted(model, batch):
        modes.append(model.training)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "task_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ls.finetune(model, tokenizer, task, lr=1e-2)
    assert modes == [True]
    assert not model.training


@pytest.mark.parametrize(("select_by", "best"), [("accuracy", 4), ("loss", 3)])
def test_the_checkpoint_is_chosen_by_accuracy_then_loss_or_by_loss_then_accuracy(
    setup, monkeypatch, select_by, best
) -> None:
    model, tokenizer, task = setup
    attached(model)
    dev = iter([(0.8, 0.5), (0.9, 0.6), (0.7, 0.2), (0.9, 0.4), (0.9, 0.4), (0.6, 0.2)])

    def scripted(*_, **__):
        accuracy, loss = next(dev)
        return {"accuracy": accuracy, "loss": loss, "n": 1}

    monkeypatch.setattr(train, "evaluate", scripted)
    points = {}
    run = ls.finetune(
        model, tokenizer, task, lr=1e-2, epochs=6, batch_size=24, test=False, select_by=select_by,
        probes=[lambda model, record: points.update({record["step"]: thetas(model)})],
    )  # fmt: skip
    assert run.metrics["best_step"] == best
    assert run.config["select_by"] == select_by
    assert all(torch.equal(value, points[best][name]) for name, value in thetas(model).items())


def test_rows_start_and_end_as_asked_in_training_and_in_evaluation(setup, monkeypatch) -> None:
    model, tokenizer, task = setup
    attached(model)
    honest, rows = train.task_loss, []

    def watched(model, batch):
        rows.extend(
            ids[mask.bool()].tolist()
            for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        )
        return honest(model, batch)

    monkeypatch.setattr(train, "task_loss", watched)
    options = {"bos": 7, "max_length": 9}
    run = ls.finetune(model, tokenizer, task, lr=1e-2, epochs=1, **options)
    assert len(rows) == 2 * 24  # a row for each candidate
    # the longest has four tokens, of which the last is not in the row
    assert {row[0] for row in rows} == {7}
    assert max(map(len, rows)) == 8
    assert {key: run.config[key] for key in options} == options
    for split in ("dev", "test"):
        found = ls.evaluate(model, tokenizer, task, split=split, **options)
        assert found["loss"] == run.metrics[split]["loss"]
        assert ls.evaluate(model, tokenizer, task, split=split)["loss"] != found["loss"]


def test_an_unknown_way_to_select_is_refused(setup) -> None:
    model, tokenizer, task = setup
    attached(model)
    with pytest.raises(UserError, match=r"accuracy, loss, got .*'f1'"):
        ls.finetune(model, tokenizer, task, lr=0.1, select_by="f1")


def test_progress_bars_leave_nothing_where_output_is_no_terminal(setup, capsys) -> None:
    model, tokenizer, task = setup
    attached(model)
    ls.finetune(model, tokenizer, task, lr=1e-2, epochs=1, progress=True)
    ls.evaluate(model, tokenizer, task, progress=True)
    assert capsys.readouterr() == ("", "")
