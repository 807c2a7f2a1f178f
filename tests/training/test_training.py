"""Training a step at a time: stepped, probed, rewound and resumed, it ends as in one call."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from samples import tiny_task
from torch import nn

import landscape as ls
from landscape.errors import UserError
from landscape.tasks.metrics import METRICS
from landscape.training import training as module

TOKENIZER = ls.tiny_tokenizer()
BASIC = {"lr": 1e-2, "epochs": 2, "batch_size": 5, "seed": 3}
#: what a run may be made of: each has a state of its own to resume
KINDS = {
    "adamw": {},
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "lr": 0.5},
    "adafactor": {"optimizer": "adafactor"},
    "schedule-free": {"optimizer": "schedule-free", "warmup": 4},
    "a class": {"optimizer": torch.optim.NAdam},
    "linear": {"lr_schedule": "linear", "warmup": 3},
    "cosine, accumulated": {"lr_schedule": "cosine", "warmup": 0.2, "accumulate": 2},
    "bf16": {"autocast": "bf16"},
    "a mask that moves": {"schedule": ls.Schedule("drop_regrow", count=60, every=2)},
}


def task() -> ls.Task:
    return tiny_task(24)


def model_of(settings: dict) -> nn.Module:
    model = ls.tiny_model("llama", vocab_size=len(TOKENIZER), attention_dropout=0.2)
    if "schedule" not in settings:
        ls.attach(model, ls.random_mask(model, density=0.3, targets="*_proj"))
    return model


def thetas(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in ls.trainable(model).items()}


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[n], wanted[n]) for n in wanted)


def lasting(run: ls.Run) -> list[object]:
    passing = ("seconds", "peak_memory")
    metrics = {key: value for key, value in run.metrics.items() if key not in passing}
    return [run.history, run.evaluations, metrics, run.distance]


def one_call(settings: dict, **more) -> tuple[ls.Run, nn.Module]:
    model = model_of(settings)
    return ls.finetune(model, TOKENIZER, task(), **(BASIC | settings | more)), model


@cache
def uninterrupted(kind: str) -> tuple[ls.Run, dict[str, torch.Tensor]]:
    """Return a run of a kind in one call, and what it trained."""
    run, model = one_call(KINDS[kind])
    assert not run.diverged
    assert run.distance["l2"] > 0
    return run, thetas(model)


def needs(settings: dict) -> None:
    if settings.get("optimizer") == "schedule-free":
        pytest.importorskip("schedulefree")


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_stopped_anywhere_ends_bit_for_bit_like_one_call(tmp_path, kind) -> None:
    settings = KINDS[kind]
    needs(settings)
    whole, expected = uninterrupted(kind)
    parts = BASIC | settings | {"folder": tmp_path, "checkpoint_every": 1}
    taken = []
    for steps in (2, 3, 100):  # what happens in between is lost, as when a process is killed
        model = model_of(settings)
        training = ls.Training(model, TOKENIZER, task(), **parts)
        taken.append(training.taken)
        for _ in range(min(steps, training.total - training.taken)):
            training.step()
    assert taken == [0, 2, 5]
    run = training.finish()
    assert training.run is run
    assert lasting(run) == lasting(whole)
    assert same(thetas(model), expected)
    assert [r["step"] for r in run.history] == list(range(1, len(whole.history) + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_goes_back_to_its_state_as_often_as_asked(kind) -> None:
    settings = KINDS[kind]
    needs(settings)
    whole, expected = uninterrupted(kind)
    model = model_of(settings)
    training = ls.Training(model, TOKENIZER, task(), **(BASIC | settings))
    training.step()
    state = training.state_dict()
    for _ in range(2):
        training.step()
        training.step()
        training.load_state_dict(state)
    for record in training:
        assert record["step"] == len(training.history)
        training.evaluate()  # changes nothing
    assert lasting(training.run) == lasting(whole)
    assert same(thetas(model), expected)


def test_a_schedule_free_run_is_judged_at_its_average_and_goes_on_from_where_it_was() -> None:
    pytest.importorskip("schedulefree")
    training = ls.Training(
        model_of({}), TOKENIZER, task(), optimizer="schedule-free", betas=(0.5, 0.9), **BASIC
    )
    for _ in range(3):
        training.step()
    before = thetas(training.model)
    found = training.evaluate("dev")
    assert same(thetas(training.model), before)
    raw = ls.evaluate(training.model, TOKENIZER, task(), split="dev")
    training.optimizer.eval()  # type: ignore[attr-defined]
    average = ls.evaluate(training.model, TOKENIZER, task(), split="dev")
    assert found == average != raw


def judged(monkeypatch, scores: list[tuple[float, float]], metric="accuracy", **settings) -> ls.Run:
    """Train while dev says what is prescribed."""
    left = iter(scores)

    def judge(*_, **__):
        value, loss = next(left)
        return {metric: value, "loss": loss, "n": 2}

    monkeypatch.setattr(module, "evaluate", judge)
    data = replace(task(), metric=metric)
    chosen = BASIC | {"epochs": len(scores), "batch_size": 24, "test": False} | settings
    return ls.finetune(model_of({}), TOKENIZER, data, **chosen)


@pytest.mark.parametrize(
    ("patience", "steps", "best"), [(1, 3, 2), (2, 6, 4), (3, 7, 4), (None, 8, 8)]
)
def test_a_run_stops_after_so_many_evaluations_without_a_better_one(
    monkeypatch, patience, steps, best
) -> None:
    values = (0.5, 0.6, 0.6, 0.7, 0.6, 0.7, 0.1, 0.9)
    run = judged(monkeypatch, [(value, 1.0) for value in values], patience=patience)
    assert run.metrics["steps"] == len(run.evaluations) == steps
    assert run.metrics["best_step"] == best
    assert not run.diverged


def test_a_run_out_of_patience_is_finished_when_it_is_asked_for_again(
    monkeypatch, tmp_path
) -> None:
    values = [(0.5, 1.0), (0.4, 1.0), (0.9, 1.0)]
    first = judged(monkeypatch, values, patience=1, folder=tmp_path)
    again = judged(monkeypatch, [], epochs=3, patience=1, folder=tmp_path)
    assert again.stored
    parts = BASIC | {"epochs": 3, "batch_size": 24, "test": False, "patience": 1}
    training = ls.Training(model_of({}), TOKENIZER, task(), folder=tmp_path, **parts)
    assert training.done
    assert (training.taken, training.total) == (2, 3)
    assert list(training) == []
    assert again.metrics == first.metrics
    assert again.metrics["steps"] == 2


@pytest.mark.parametrize(
    ("select_by", "larger", "best"),
    [("metric", True, 2), ("metric", False, 3), ("loss", True, 1), ("loss", False, 4)],
)
def test_the_tasks_metric_selects_by_its_own_sense_of_better(
    monkeypatch, select_by, larger, best
) -> None:
    """Values, losses; ties of the loss go to the better value."""
    name = next(name for name in METRICS if name != "accuracy")
    monkeypatch.setitem(METRICS, name, replace(METRICS[name], larger_is_better=larger))
    scores = [(0.6, 1.0), (0.8, 2.0), (0.1, 3.0), (0.5, 1.0)]
    run = judged(monkeypatch, scores, name, select_by=select_by)
    assert run.metrics["best_step"] == best
    assert run.metrics["dev"][name] == scores[best - 1][0]
    assert run.config["select_by"] == (name if select_by == "metric" else "loss")


@pytest.mark.parametrize(
    ("select_by", "scores", "best"),
    [
        ("metric", [(0.5, math.nan), (0.5, 9.0), (0.5, math.nan)], 2),
        ("loss", [(math.nan, 1.0), (0.1, 1.0), (math.nan, 0.9), (0.9, math.nan)], 3),
        ("loss", [(0.5, math.nan), (0.6, math.nan), (0.1, math.nan)], 2),
        ("loss", [(math.nan, math.nan)] * 2, 0),
    ],
)
def test_a_value_on_dev_that_is_no_number_is_worse_than_any(
    monkeypatch, select_by, scores, best
) -> None:
    run = judged(monkeypatch, scores, select_by=select_by)
    assert run.metrics["best_step"] == best
    assert (run.metrics["dev"] is None) == (best == 0)


def test_accuracy_does_not_select_for_a_task_that_is_judged_by_something_else(monkeypatch) -> None:
    name = next(name for name in METRICS if name != "accuracy")
    with pytest.raises(UserError, match=f'for a task judged by {name}, got "accuracy"'):
        judged(monkeypatch, [], name, epochs=1, select_by="accuracy")


@pytest.mark.parametrize(
    "setting",
    [{"optimizer": "sgd"}, {"lr_schedule": "linear"}, {"warmup": 2}, {"accumulate": 2},
     {"autocast": "bf16"}, {"patience": 4}, {"optimizer": torch.optim.NAdam}],
    ids=lambda setting: " ".join(map(str, setting.items())),
)  # fmt: skip
def test_a_folder_knows_every_new_setting_and_an_older_folder_is_of_their_defaults(
    tmp_path, setting
) -> None:
    one_call({}, folder=tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert not {"optimizer", "momentum", "lr_schedule", "warmup", "accumulate", "autocast",
                "patience"} & config.keys()  # fmt: skip
    (name,) = setting
    with pytest.raises(UserError, match=rf"{name} None there, .* asked for"):
        one_call(setting, folder=tmp_path)
    one_call(setting, folder=tmp_path, overwrite=True)
    assert one_call(setting, folder=tmp_path)[0].stored
    with pytest.raises(UserError, match=rf"{name} .* there, None asked for"):
        one_call({}, folder=tmp_path)


def test_two_classes_of_optimizers_and_two_settings_of_one_are_different_runs(tmp_path) -> None:
    from functools import partial

    one_call({"optimizer": torch.optim.NAdam}, folder=tmp_path)
    for other in (torch.optim.RAdam, partial(torch.optim.NAdam, momentum_decay=0.1)):
        with pytest.raises(UserError, match=r"optimizer .* there"):
            one_call({"optimizer": other}, folder=tmp_path)


def test_the_checkpoint_of_an_older_version_is_refused_with_what_to_do(tmp_path) -> None:
    from landscape.training.checkpoint import write_checkpoint

    parts = BASIC | {"folder": tmp_path, "checkpoint_every": 1}
    training = ls.Training(model_of({}), TOKENIZER, task(), **parts)
    training.step()
    write_checkpoint(tmp_path / "checkpoint.safetensors", {"step": 1}, training.config)
    with pytest.raises(UserError, match="got step, as in older versions; remove it, and the run"):
        ls.Training(model_of({}), TOKENIZER, task(), **parts)


def test_a_state_of_another_training_is_refused_and_nothing_is_changed() -> None:
    training = ls.Training(model_of({}), TOKENIZER, task(), **BASIC)
    other = ls.tiny_model("llama", vocab_size=len(TOKENIZER))
    ls.attach(other, ls.random_mask(other, density=0.3, targets="*.q_proj"))
    state = ls.Training(other, TOKENIZER, task(), **BASIC).state_dict()
    before = thetas(training.model)
    for wrong in (state, {}, {"step": 3}):
        with pytest.raises(UserError, match="expected the state of a training like this one"):
            training.load_state_dict(wrong)
    assert same(thetas(training.model), before)


def test_a_training_that_is_not_through_says_so_and_one_that_is_takes_no_step(tmp_path) -> None:
    training = ls.Training(model_of({}), TOKENIZER, task(), **BASIC)
    training.step()
    with pytest.raises(UserError, match="after 1 of 10 steps; go through it, or call finish"):
        print(training.run)
    run = training.finish()
    assert run.metrics["steps"] == 1
    assert training.done
    with pytest.raises(UserError, match="expected a step that is left"):
        training.step()
    kept = ls.Training(model_of({}), TOKENIZER, task(), folder=tmp_path, **BASIC)
    kept.step()
    with pytest.raises(UserError, match="expected all 10 steps of a training with a folder, got 1"):
        kept.finish()


def test_a_setting_that_is_none_is_named_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"settings among lr, epochs.*got lr, epoch; check"):
        ls.Training(model_of({}), TOKENIZER, task(), lr=0.1, epoch=2)
    with pytest.raises(UserError, match="lr among them, got none"):
        ls.Training(model_of({}), TOKENIZER, task())


@pytest.mark.parametrize(
    "schedule",
    [None, ls.Schedule("increment", count=60), ls.Schedule("drop_regrow", count=60, every=2),
     ls.Schedule("repeat", count=60, every=3)],
    ids=lambda schedule: schedule.kind if schedule else "a fixed mask",
)  # fmt: skip
def test_accumulated_batches_take_the_steps_of_large_ones(schedule) -> None:
    """Ends of epochs included, where batches are ragged: 24 rows are 10, 10 and 4."""
    ends = []
    for size in ({"batch_size": 10}, {"batch_size": 5, "accumulate": 2}):
        model = ls.tiny_model("opt", vocab_size=len(TOKENIZER), dropout=0.0).double()
        if schedule is None:
            ls.attach(model, ls.random_mask(model, density=0.3))
        data = replace(task(), loss="language modelling")
        settings = BASIC | {"epochs": 2, "schedule": schedule} | size
        run = ls.finetune(model, TOKENIZER, data, **settings)
        ends.append((run, thetas(model), ls.subspace.attached_mask(model).indices))
    (large, wanted, chosen), (small, found, as_chosen) = ends
    assert len(large.history) == len(small.history) == 6
    for name in wanted:
        assert torch.equal(chosen[name], as_chosen[name])
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-6, atol=1e-9)


def test_what_is_dense_beside_a_mask_has_a_learning_rate_of_its_own(tmp_path) -> None:
    """A first step of Adam moves every weight by its rate."""
    model = ls.tiny_model("llama", vocab_size=len(TOKENIZER))
    mask = ls.random_mask(model, density=0.3, targets="*_proj")
    ls.attach(model, mask, dense="lm_head")
    before = thetas(model)
    settings = BASIC | {"epochs": 1, "max_gradient_norm": float("inf"), "eps": 1e-30}
    training = ls.Training(model, TOKENIZER, task(), dense_lr=1e-4, folder=tmp_path, **settings)
    training.step()
    assert training.config["dense_lr"] == 1e-4
    for name, value in thetas(model).items():
        moved = (value - before[name]).abs().max()
        assert float(moved) == pytest.approx(1e-4 if name.startswith("lm_head") else 1e-2, rel=1e-2)
    plain = model_of({})
    with pytest.raises(UserError, match="dense parameters beside its mask for dense_lr"):
        ls.finetune(plain, TOKENIZER, task(), dense_lr=1e-4, **BASIC)


def test_a_model_is_moved_where_it_shall_be_trained_before_anything_else() -> None:
    model = model_of({})
    training = ls.Training(model, TOKENIZER, task(), device=torch.device("cpu"), **BASIC)
    training.step()
    with pytest.raises(UserError, match=r"device to be a device of torch, got the text 'gpu'; giv"):
        ls.finetune(model, TOKENIZER, task(), device="gpu", **BASIC)


@pytest.mark.slow
def test_a_compiled_model_is_fine_tuned_through_its_wrapper() -> None:
    whole, expected = one_call({})
    model = model_of({})
    run = ls.finetune(torch.compile(model, backend="eager"), TOKENIZER, task(), **BASIC)
    assert run.config == whole.config
    assert run.metrics["best_step"] == whole.metrics["best_step"]
    for name, theta in thetas(model).items():
        torch.testing.assert_close(theta, thetas(expected)[name], rtol=1e-4, atol=1e-5)


def test_the_state_of_a_method_at_the_start_is_an_input_of_the_run(tmp_path) -> None:
    pytest.importorskip("peft")

    def made() -> nn.Module:
        model = ls.tiny_model("llama", vocab_size=len(TOKENIZER))
        return ls.baselines.adalora(model, steps=10, rank=1, first_rank=3)

    settings = BASIC | {"epochs": 1, "test": False}
    ls.finetune(made(), TOKENIZER, task(), folder=tmp_path, **settings)
    trained = made()
    start = thetas(trained)
    ls.finetune(trained, TOKENIZER, task(), **settings)
    with torch.no_grad():  # its parameters as at the start, its averages not
        for name, parameter in ls.trainable(trained).items():
            parameter.copy_(start[name])
    with pytest.raises(UserError, match="the values of the method differ"):
        ls.finetune(trained, TOKENIZER, task(), folder=tmp_path, **settings)
