"""Every setting of a lane has, beside lanes with others, the effect that it has on a solo run."""

from __future__ import annotations

import math
import time

import pytest
import torch
from pack_cases import TOKENIZER, solo_runs, texts
from packed_results import close, same

import landscape as ls
from landscape.training.packed.pack import Pack
from landscape.training.packed.stacked import _full

pytestmark = pytest.mark.filterwarnings("ignore:expected splits")


class Blown(torch.optim.SGD):
    """Leaves one weight of the first tensor infinite: finite losses do not show it."""

    def step(self, closure=None) -> None:
        super().step(closure)
        self.param_groups[0]["params"][0].data[0] = math.inf


class Beside(torch.optim.SGD):
    """Writes through ``.data``, which leaves the parameters' versions as they were."""

    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad, alpha=-group["lr"])


BASE = {"lr": 5e-2, "epochs": 2, "batch_size": 4}
SETTINGS = (
    {}, {"weight_decay": 0.5}, {"betas": (0.5, 0.7)}, {"eps": 1e-2}, {"max_length": 11},
    {"bos": 7}, {"evaluate_every": 3}, {"test": False},
    {"evaluate_every": 1, "optimizer": Blown}, {"optimizer": Beside},
)  # fmt: skip
AVERAGED = {"optimizer": "schedule-free"}
PARTS = ("history", "evaluations", "metrics", "distance")


def task(count: int = 8) -> ls.Task:
    words = ("bad", "good")
    examples = tuple(
        ls.Example(f"film {i % 5} is {words[i % 2]}" + " and" * (i % 3), ("x", "y"), i % 2)
        for i in range(count)
    )
    return ls.Task("one token", examples, examples[:3], examples[3:6])


def lanes_of(model: torch.nn.Module, *settings: dict) -> list[ls.Lane]:
    """Lanes of one task and mask, so that they differ in their settings alone."""
    mask, shared = ls.random_mask(model, density=0.1, seed=1), task()
    return [ls.Lane(shared, mask=mask, **{**BASE, **own}) for own in settings]


def finished(model: torch.nn.Module, lanes: list[ls.Lane], *, stacked: bool) -> Pack:
    pack = Pack(model, TOKENIZER, lanes, stacked=stacked)
    while pack.alive:
        pack.step()
    for course in pack.courses:
        pack.finish(course)
    return pack


@pytest.mark.parametrize("stacked", [False, True])
def test_each_setting_of_a_lane_is_that_of_its_solo_run(stacked: bool) -> None:
    model = ls.tiny_model("opt", vocab_size=len(TOKENIZER)).double()
    try:
        import schedulefree  # noqa: F401
    except ImportError:
        settings = SETTINGS
    else:
        settings = (*SETTINGS, AVERAGED)
    lanes = lanes_of(model, *settings)
    solo = solo_runs(model, lanes, lambda i, m: ls.attach(m, lanes[i].mask))
    pack = finished(model, lanes, stacked=stacked)
    for own, course, (run, ends) in zip(settings, pack.courses, solo, strict=True):
        assert same(course.run, run), own
        assert close(course.best.point, ends), own
    for own, (run, _) in list(zip(settings, solo, strict=True))[1:]:  # each matters
        assert not all(close(getattr(solo[0][0], p), getattr(run, p)) for p in PARTS), own


def test_each_lane_selects_its_checkpoint_by_its_own_measure() -> None:
    model = ls.tiny_model("opt", vocab_size=len(TOKENIZER))
    by_metric, by_loss = Pack(model, TOKENIZER, lanes_of(model, {}, {"select_by": "loss"})).courses
    for course in (by_metric, by_loss):
        course.best.judge(1, {"accuracy": 0.9, "loss": 2.0}, course.point)
        course.best.judge(2, {"accuracy": 0.8, "loss": 1.0}, course.point)
    assert (by_metric.best.step, by_loss.best.step) == (1, 2)


@pytest.mark.parametrize("stacked", [False, True])
def test_a_model_in_training_mode_is_judged_without_dropout_and_left_in_it(stacked: bool) -> None:
    model = ls.tiny_model("opt", vocab_size=len(TOKENIZER), dropout=0.3).double()
    lanes = lanes_of(model, {"epochs": 1}, {"epochs": 1, "seed": 1})
    wanted = finished(model, lanes, stacked=stacked)
    frozen = model.train().model.decoder.final_layer_norm.eval()
    found = finished(model, lanes, stacked=stacked)
    for course, other in zip(found.courses, wanted.courses, strict=True):
        assert same(course.run, other.run)
    assert [module for module in model.modules() if not module.training] == [frozen]


@pytest.mark.parametrize("stacked", [False, True])
def test_a_bfloat16_model_has_thetas_in_float32_as_alone(stacked: bool) -> None:
    model = ls.tiny_model("opt", vocab_size=len(TOKENIZER)).bfloat16()
    lanes = lanes_of(model, {"epochs": 1})
    ((run, ends),) = solo_runs(model, lanes, lambda i, m: ls.attach(m, lanes[i].mask))
    (course,) = finished(model, lanes, stacked=stacked).courses
    kinds = {name: value.dtype for name, value in ends.items()}
    assert {name: value.dtype for name, value in course.best.point.items()} == kinds
    assert {*kinds.values()} == {torch.float32}
    for record, other in zip(course.history, run.history, strict=True):
        assert record["loss"] == pytest.approx(other["loss"], rel=4 * 2**-8)  # 4 roundings


def test_a_stack_adds_up_gradients_of_bfloat16_in_float32() -> None:
    a, b = (torch.randn(2, 200, n, generator=torch.Generator().manual_seed(n)) for n in (3, 5))
    a, b = a.bfloat16(), b.bfloat16()
    found = _full(a, b)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), a.double().mT @ b.double(), 0, 200 * 2**-23)


def test_seconds_go_on_from_those_of_a_state_and_lanes_share_those_of_a_step() -> None:
    model = ls.tiny_model("opt", vocab_size=len(TOKENIZER))
    lanes = lanes_of(model, {}, {}, {}, {})
    kept = Pack(model, TOKENIZER, lanes).state_dict()
    for i, state in enumerate(kept.values()):
        state["seconds"] = 1000.0 * i
    pack = Pack(model, TOKENIZER, lanes)
    pack.load_state_dict(kept)
    began = time.perf_counter()
    pack.step()
    wall = time.perf_counter() - began
    spent = [course.seconds - 1000 * i for i, course in enumerate(pack.courses)]
    assert spent == pytest.approx([sum(spent) / 4] * 4, rel=1e-2)
    assert 0 < sum(spent) <= wall


def test_attention_that_drops_all_gives_what_it_gives_alone() -> None:
    model = ls.tiny_model("opt", vocab_size=len(TOKENIZER), dropout=0.2, attention_dropout=1.0)
    model = model.double()
    lanes = lanes_of(model, {"epochs": 1}, {"epochs": 1, "seed": 3})
    solo = solo_runs(model, lanes, lambda i, m: ls.attach(m, lanes[i].mask))
    for course, (run, _) in zip(finished(model, lanes, stacked=False).courses, solo, strict=True):
        assert same(course.run, run)
        assert math.isfinite(course.history[-1]["loss"])


def test_a_lane_keeps_copies_of_the_values_that_it_is_given_in_the_types_of_the_model() -> None:
    model = ls.tiny_model("bert").double()
    given = {"classifier.bias": torch.ones(2)}
    mask = ls.random_mask(model, density=0.1, targets=["*.query"])
    lane = ls.Lane(texts(14), mask=mask, values=given, lr=1e-2)
    given["classifier.bias"].zero_()
    (course,) = Pack(model, TOKENIZER, [lane]).courses
    assert course.own["classifier.bias"].tolist() == [1, 1]
    assert course.own["classifier.bias"].dtype == torch.float64
