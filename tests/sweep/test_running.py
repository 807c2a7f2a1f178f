"""Runs of a sweep against the same runs made by hand, interrupted ones, and later measurements."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_jobs import SIZES, Tiny, lasting
from torch import nn

import landscape as ls
from landscape.folders import origin
from landscape.identity import base_digests
from landscape.sweep.executors import Event, Job
from landscape.sweep.measurements import Measurement, Point, key
from landscape.sweep.preparing import load_base
from landscape.sweep.running import is_done, run_job
from landscape.sweep.store import RunStore
from landscape.tensorfile import digest_of, read_tensors

pytestmark = pytest.mark.filterwarnings("ignore::landscape.NotConvergedWarning")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny.at(tmp_path_factory.mktemp("tiny"))


Start = Callable[[nn.Module, Any, ls.Task], tuple[nn.Module, ls.Schedule | None]]


def _masked(make: Callable[..., ls.Mask]) -> Start:
    def start(model: nn.Module, tokenizer: Any, task: ls.Task) -> Any:
        ls.attach(model, make(model, tokenizer, task))
        return model, None

    return start


def _batches(tokenizer: Any, task: ls.Task, count: int = 16, size: int = 4) -> Any:
    return ls.make_batches(task.train[:count], tokenizer, size, sort=True, loss=task.loss)


BY_HAND: dict[str, tuple[dict[str, Any], Start]] = {
    "random": (
        {"ratio": 1e-2, "mask_seed": 5},
        _masked(lambda m, *_: ls.random_mask(m, ratio=1e-2, targets="auto", seed=5)),
    ),
    "structured": (
        {"method": "structured", "count": 64, "options": {"granularity": "rows"}},
        _masked(lambda m, *_: ls.structured_mask(
            m, granularity="rows", count=64, targets="auto", seed=0)),
    ),
    "snip": (
        {"method": "snip", "count": 40, "options": {"scope": "global", "examples": 8}},
        _masked(lambda m, t, task: ls.select_mask(
            m, score="snip", batches=_batches(t, task, 8), count=40, scope="global",
            targets="auto")),
    ),
    "id3 by increment": (
        {"method": "id3", "schedule": "increment", "count": 40, "targets": ("*.fc1",),
         "options": {"eps": 1.0, "exp": 2.0, "steps": 2}},
        lambda m, t, task: (m, ls.Schedule(
            "increment", score="id3", options={"eps": 1.0, "exp": 2.0}, count=40, steps=2,
            targets=["*.fc1"])),
    ),
    "bitfit": (
        {"method": "bitfit", "options": {"norms": False}},
        lambda m, t, task: (ls.baselines.bitfit(m, norms=False), None),
    ),
    "adapter": (
        {"method": "adapter", "options": {"width": 3}, "seed": 2},
        lambda m, t, task: (ls.baselines.adapter(m, width=3, seed=2), None),
    ),
}  # fmt: skip


def test_whatever_a_run_writes_names_the_device_that_its_model_is_on(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(origin, "device_name", lambda device=None: f"that of {device}")
    tiny, store = Tiny.at(tmp_path), RunStore(tmp_path / "store")
    job = tiny.job(measure={"trace": {"examples": 2}})
    run_job(job, store, tiny.places)
    files = [json.loads(path.read_text()) for path in store.path(job.config).rglob("*.json")]
    told = [one.get("provenance", one).get("device") for one in files]
    assert [name for name in told if name] == ["that of cpu"] * 3  # training, row, measurement


@pytest.mark.parametrize("method", BY_HAND)
def test_a_run_is_bit_for_bit_the_one_that_finetune_makes(
    tiny: Tiny, tmp_path: Path, method: str
) -> None:
    values, start = BY_HAND[method]
    config, store = tiny.config(**values), RunStore(tmp_path / "store")
    found = run_job(Job(config), store, tiny.places)["outcome"]
    task = ls.load_task(
        "sst2", source=tiny.places.sources["sst2"], num_train=16, num_dev=6, num_test=8,
        seed=config.seed,
    )  # fmt: skip
    model, tokenizer = ls.load_model(config.model)
    model, schedule = start(model, tokenizer, task)
    run = ls.finetune(
        model, tokenizer, task, lr=1e-2, epochs=1, batch_size=4, seed=config.seed,
        schedule=schedule, folder=tmp_path / "by hand",
    )  # fmt: skip
    assert found["train_loss"] == [float(f"{h['loss']:.5g}") for h in run.history]
    assert found["test"] == run.metrics["test"]
    assert found["distance"] == run.distance["l2"]
    assert found["evaluations"] == run.evaluations
    assert found["count"] == run.config["trainable"]
    ends = [read_tensors(folder / "theta.safetensors", "theta").tensors
            for folder in (store.path(config) / "training", tmp_path / "by hand")]  # fmt: skip
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_pretrained_model_comes_back_bit_for_bit_after_every_method(
    tiny: Tiny, tmp_path: Path
) -> None:
    base = load_base(tiny.config(), tiny.places)
    before, store = dict(base_digests(base.model)), RunStore(tmp_path)
    names = [name for name, _ in base.model.named_parameters()]
    ways: list[dict[str, Any]] = [values for values, _ in BY_HAND.values()]
    ways += [
        {"method": "full"},
        {"method": "gradient", "schedule": "repeat", "count": 30},
        {"method": "gradient", "schedule": "drop_regrow", "count": 30, "options": {"every": 2}},
    ]
    for values in ways:
        run_job(tiny.job(**values), store, tiny.places)
        again = load_base(tiny.config(), tiny.places).model
        assert again is base.model
        assert base_digests(again) == before
        assert [name for name, _ in again.named_parameters()] == names
        assert all(p.requires_grad and p.grad is None for p in again.parameters())


def test_the_pretrained_model_is_evaluated_where_nothing_is_trained(
    tiny: Tiny, tmp_path: Path
) -> None:
    found = run_job(tiny.job(method="none", lr=None), RunStore(tmp_path), tiny.places)["outcome"]
    task = ls.load_task(
        "sst2", source=tiny.places.sources["sst2"], num_train=16, num_dev=6, num_test=8
    )
    model, tokenizer = ls.load_model(tiny.folder / "opt")
    assert found["test"] == ls.evaluate(model, tokenizer, task)
    assert found["dev"] == ls.evaluate(model, tokenizer, task, split="dev")
    assert (found["count"], found["distance"], found["steps"]) == (0, 0.0, 0)
    told = ls.predict(model, tokenizer, task.test)
    right = [p.label == e.label for p, e in zip(told, task.test, strict=True)]
    assert found["correct"] == "".join("01"[r] for r in right)
    assert found["correct"].count("1") / 8 == found["test"]["accuracy"]


def test_a_run_that_diverged_at_once_keeps_the_start_point(tiny: Tiny, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    start = run_job(tiny.job(method="none", lr=None), store, tiny.places)["outcome"]
    found = run_job(tiny.job(lr=1e30), store, tiny.places)["outcome"]
    assert found["diverged"]
    assert (found["dev"], found["best_step"], found["distance"]) == (None, 0, 0.0)
    assert (found["test"], found["correct"]) == (start["test"], start["correct"])


EVERYTHING: dict[str, Any] = {
    "sharpness": {"examples": 4, "max_matvecs": 6}, "trace": {"examples": 4, "max_matvecs": 6},
    "tracking": {"examples": 4, "every": 3, "max_matvecs": 4},
    "preconditioned": {"examples": 4, "max_matvecs": 4},
}  # fmt: skip


@pytest.mark.parametrize("step", [1, 5])
def test_an_interrupted_run_ends_bit_for_bit_like_one_that_was_not(
    tiny: Tiny, tmp_path: Path, step: int
) -> None:
    asked = {name: EVERYTHING[name] for name in ("sharpness", "tracking")}
    job = tiny.job(asked, ratio=1e-3, epochs=2, settings={"evaluate_every": 2})
    whole = run_job(job, RunStore(tmp_path / "whole"), tiny.places)
    store = RunStore(tmp_path / "interrupted")

    def stop(event: Event) -> None:
        if event.step == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, store, tiny.places, tell=stop)
    assert job.config not in store
    assert lasting(run_job(job, store, tiny.places)) == lasting(whole)
    assert len(whole["measured"][key("tracking", asked["tracking"])]["steps"]) == 3
    assert not list(store.path(job.config).rglob("checkpoint*"))


def test_measurements_that_are_asked_for_later_equal_those_made_at_once(
    tiny: Tiny, tmp_path: Path
) -> None:
    job = tiny.job(EVERYTHING, ratio=1e-3)
    at_once = run_job(job, RunStore(tmp_path / "whole"), tiny.places)
    store, steps = RunStore(tmp_path / "later"), list[Event]()
    run_job(Job(job.config), store, tiny.places)
    ends = Job(job.config, {name: EVERYTHING[name] for name in ("sharpness", "trace")})
    assert not is_done(ends, store)
    run_job(ends, store, tiny.places, tell=steps.append)
    assert [event.kind for event in steps] == ["began"]  # nothing was trained again
    later = run_job(job, store, tiny.places)
    assert lasting(later) == lasting(at_once)
    assert is_done(job, store)
    folder = store.path(job.config)
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) == [
        "config.json", "measured", "result.json", "training"
    ]  # fmt: skip
    assert len(list((folder / "measured").iterdir())) == len(EVERYTHING)


def _push(point: Point) -> Callable[[nn.Module, dict[str, Any]], None]:
    def probe(model: nn.Module, record: dict[str, Any]) -> None:
        for p in ls.trainable(model).values():
            p.data.add_(1e-3)
        record["pushed"] = True

    return probe


def _reach(point: Point) -> dict[str, Any]:
    return {"values": digest_of(ls.trainable(point.model))}


PUSHING = Measurement("a training that ends elsewhere, as another device's does", during=_push)
REACHED = Measurement("where the training ended", after=_reach)


@pytest.mark.parametrize("method", [*BY_HAND, "adalora", "full"])
def test_a_second_training_that_ends_elsewhere_than_the_first_leaves_the_run_its_end(
    tiny: Tiny, tmp_path: Path, method: str
) -> None:
    if method == "adalora":
        pytest.importorskip("peft", reason="the optional package peft is not installed")
    values = BY_HAND[method][0] if method in BY_HAND else {"method": method}
    job, store = tiny.job(**values), RunStore(tmp_path)
    before = run_job(job, store, tiny.places)
    pushing, reached = f"{__name__}:PUSHING", f"{__name__}:REACHED"
    after = run_job(Job(job.config, {pushing: {}, reached: {}}), store, tiny.places)
    assert lasting(after)["outcome"] == lasting(before)["outcome"]
    found, theta = after["measured"], store.path(job.config) / "training" / "theta.safetensors"
    kept = read_tensors(theta, "theta").tensors
    values = {name: value for name, value in kept.items() if not name.endswith(".indices")}
    assert found[key(reached, {})]["values"] == digest_of(values)
    assert len(found[key(pushing, {})]["steps"]) == 4


def test_a_probe_that_left_before_the_end_sees_the_whole_training_another_time(
    tiny: Tiny, tmp_path: Path
) -> None:
    job = tiny.job({"tracking": EVERYTHING["tracking"]}, ratio=1e-3,
                   settings={"evaluate_every": 1})  # fmt: skip
    whole = run_job(job, RunStore(tmp_path / "whole"), tiny.places)
    store = RunStore(tmp_path / "left")

    def stop(event: Event) -> None:
        if event.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job, store, tiny.places, tell=stop)
    run_job(Job(job.config), store, tiny.places)
    assert lasting(run_job(job, store, tiny.places)) == lasting(whole)


def test_a_probe_that_would_see_a_part_of_the_training_sees_it_whole(
    tiny: Tiny, tmp_path: Path
) -> None:
    asked = {"tracking": EVERYTHING["tracking"]}
    job = tiny.job(asked, ratio=1e-3, settings={"evaluate_every": 1})
    whole = run_job(job, RunStore(tmp_path / "whole"), tiny.places)
    store = RunStore(tmp_path / "stopped")

    def stop(event: Event) -> None:
        if event.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(Job(job.config), store, tiny.places, tell=stop)
    assert (store.path(job.config) / "training" / "checkpoint.safetensors").exists()
    found = run_job(job, store, tiny.places)
    assert lasting(found) == lasting(whole)
    ((steps,),) = (values.values() for values in found["measured"].values())
    assert [entry["step"] for entry in steps] == [1, 4]


def test_sharpness_is_the_largest_magnitude_of_the_dense_hessian(
    tiny: Tiny, tmp_path: Path
) -> None:
    asked = {"examples": 4, "tol": 1e-4, "max_matvecs": 60}
    job = tiny.job({"sharpness": asked}, method="random", ratio=1e-3)
    found = run_job(job, RunStore(tmp_path), tiny.places)
    (values,) = found["measured"].values()
    base = load_base(job.config, tiny.places)
    ls.attach(base.model, ls.random_mask(base.model, ratio=1e-3, targets="auto"))
    batches = _batches(base.tokenizer, base.task, 4)
    dense = ls.exact_matrix(ls.HessianOperator(base.model, batches))
    ls.detach(base.model)
    largest = torch.linalg.eigvalsh(dense.double()).abs().max()
    assert abs(values["sharpness_before"]) == pytest.approx(float(largest), rel=1e-3)
    assert values["converged_before"]
    assert values["sharpness_after"] != values["sharpness_before"]


def _count(point: Point) -> dict[str, Any]:
    return {"weights": sum(p.numel() for p in ls.trainable(point.model).values())}


COUNTED = Measurement("the trainable numbers", after=_count)


def test_a_measurement_of_another_module_is_made_by_its_name(tiny: Tiny, tmp_path: Path) -> None:
    name = f"{__name__}:COUNTED"
    row = run_job(tiny.job({name: {}}), RunStore(tmp_path), tiny.places)
    assert row["measured"] == {key(name, {}): {"weights": row["outcome"]["count"]}}


@pytest.mark.parametrize(
    ("measure", "values", "said"),
    [
        ({}, {"method": "ramdom"}, "among|one of none, random"),
        ({}, {"options": {"samplin": "exact"}}, "did you mean sampling"),
        ({}, {"method": "full", "ratio": 0.1}, "its own size"),
        ({}, {"method": "full", "schedule": "static"}, "expected a score with a schedule"),
        ({}, {"settings": {"seed": 3}}, "beside those of the run itself"),
        ({}, {"settings": {"overwrite": True}}, "expected settings among"),
        ({}, {"settings": {"folder": "elsewhere"}}, "expected settings among"),
        ({}, {"lr": None}, "expected a learning rate"),
        ({}, {"model": "bert", "method": "prefix"}, "expected a language model"),
        ({"sharpnes": {}}, {}, "did you mean sharpness"),
        ({"sharpness": {"example": 3}}, {}, "did you mean examples"),
        ({"no.such.module:x": {}}, {}, "expected a module"),
        ({"landscape:UserError": {}}, {}, "expected a Measurement"),
        ({"sharpness": {}}, {"method": "none", "lr": None}, "trains nothing"),
        (
            {"trace": {}},
            {
                "method": "id3",
                "schedule": "increment",
                "count": 40,
                "options": {"eps": 1.0, "exp": 2.0},
            },
            "which has none then",
        ),
        ({"tracking": {}}, {"method": "none", "lr": None}, "trains nothing"),
    ],
)
def test_what_is_none_is_refused_and_leaves_no_result(
    tiny: Tiny, tmp_path: Path, measure: Any, values: Any, said: str
) -> None:
    job, store = tiny.job(measure, **values), RunStore(tmp_path)
    with pytest.raises(ls.UserError, match=said):
        run_job(job, store, tiny.places)
    assert job.config not in store


def test_one_mask_serves_several_seeds_of_the_data(tiny: Tiny, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    rows = [run_job(tiny.job(seed=s, mask_seed=9), store, tiny.places)["outcome"] for s in (0, 1)]
    assert rows[0]["identity"]["mask indices"] == rows[1]["identity"]["mask indices"]
    assert rows[0]["identity"]["train rows"] != rows[1]["identity"]["train rows"]


def test_lora_has_the_rank_nearest_to_its_budget_and_a_mask_on_it_chooses_from_it(
    tiny: Tiny, tmp_path: Path
) -> None:
    pytest.importorskip("peft", reason="the optional package peft is not installed")
    store, width = RunStore(tmp_path), SIZES["num_train"] * 2  # of the model, 32
    of_rank = 4 * 2 * width  # two layers' queries and values, A and B
    plain = run_job(tiny.job(method="lora", count=3 * of_rank + 7), store, tiny.places)
    assert plain["outcome"]["count"] == 3 * of_rank
    options = {"on": "lora", "surplus": 2.0}
    on_top = tiny.job(method="magnitude", count=of_rank, options=options)
    found = run_job(on_top, store, tiny.places)
    assert found["outcome"]["count"] == of_rank
    theta = store.path(on_top.config) / "training" / "theta.safetensors"
    assert all(".lora_" in name for name in read_tensors(theta, "theta").tensors)


@pytest.mark.parametrize("method", ["none", "random"])
@pytest.mark.parametrize("changed", ["opt/config.json", "opt/model.safetensors", "SST-2/train.tsv"])
def test_nothing_is_measured_on_a_finished_run_from_other_inputs_than_its_own(
    tmp_path: Path, method: str, changed: str
) -> None:
    tiny, store = Tiny.at(tmp_path), RunStore(tmp_path / "store")
    values = {"method": method} | ({"lr": None} if method == "none" else {})
    run_job(tiny.job(**values), store, tiny.places)
    asked = tiny.job({f"{__name__}:COUNTED": {}}, **values)
    path = tmp_path / changed
    was = path.read_bytes()
    path.write_bytes(was + b"\n" if changed.endswith("json") else altered(was))
    with pytest.raises(
        ls.UserError, match=r"the inputs that the run \w+ had, got other (files|examp)"
    ):
        run_job(asked, store, tiny.places)
    assert not list(store.path(asked.config).glob("measured/*"))
    path.write_bytes(was)
    assert run_job(asked, store, tiny.places)["measured"]


def altered(content: bytes) -> bytes:
    """Change a label of a table, or a bit of a tensor."""
    if b"\t0\n" in content:
        return content.replace(b"\t0\n", b"\t1\n", 1)
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("instant", ["unlink", "write_measured"])
def test_a_process_that_was_killed_while_it_joined_a_measurement_loses_nothing(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instant: str
) -> None:
    job = tiny.job({"sharpness": EVERYTHING["sharpness"]}, ratio=1e-3)
    store = RunStore(tmp_path)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        owner = RunStore if instant == "write_measured" else Path
        patched.setattr(owner, instant, die)
        with pytest.raises(KeyboardInterrupt):
            run_job(job, store, tiny.places)
    row = run_job(job, store, tiny.places)
    ((name, values),) = row["measured"].items()
    assert {"sharpness_before", "sharpness_after"} <= values.keys()
    measured = store.path(job.config) / "measured"
    assert [path.name for path in measured.iterdir()] == [f"{name}.json"]
