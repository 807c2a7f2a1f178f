"""Packed runs against their solo runs, to rounding, in float64; and what one does to the others."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from pack_cases import TOKENIZER, headed, masked, solo_runs, texts
from packed_results import close, same
from samples import tiny_task
from torch import nn

import landscape as ls
from landscape.errors import UserError
from landscape.training.packed import why_not
from landscape.training.packed.alone import alone
from landscape.training.packed.pack import Pack

pytestmark = pytest.mark.filterwarnings("ignore:expected splits")

DROPOUT = {
    "opt": {"dropout": 0.1, "attention_dropout": 0.2},
    "gpt2": {"resid_pdrop": 0.1, "attn_pdrop": 0.2, "embd_pdrop": 0.1},
    "bert": {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2},
}
CASES = {
    "opt": lambda: masked("opt"),
    "opt, dropout": lambda: masked("opt", **DROPOUT["opt"]),
    "gpt2, dropout": lambda: masked("gpt2", **DROPOUT["gpt2"]),
    "bert": headed,
    "bert, dropout": lambda: headed(**DROPOUT["bert"]),
    "bert, dropout, eager": lambda: headed(attn_implementation="eager", **DROPOUT["bert"]),
    "roberta, dropout": lambda: headed("roberta", **DROPOUT["bert"]),
}


def whole(model: nn.Module, lanes: list[ls.Lane], **how) -> Pack:
    pack = Pack(model, TOKENIZER, lanes, **how)
    while pack.alive:
        pack.step()
    for course in pack.courses:
        pack.finish(course)
    return pack


@pytest.mark.parametrize("case", CASES)
def test_each_packed_run_is_its_solo_run_to_rounding(case: str) -> None:
    model, lanes, prepare = CASES[case]()
    before = copy.deepcopy(model.state_dict())
    flags = [p.requires_grad for p in model.parameters()]
    sizes = (2048, 200) if case == "opt, dropout" else (2048,)  # in one part, and in several
    packs = [whole(model, lanes, tokens=n) for n in sizes]
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
    solo = solo_runs(model, lanes, prepare)
    for course, (run, ends) in ((c, s) for p in packs for c, s in zip(p.courses, solo)):
        assert same(course.run, run)
        assert close(course.best.point, ends)
        assert any(bool(v.any()) for v in course.best.point.values())


def test_in_float32_with_rotations_and_autocast_losses_are_close_to_the_solo_ones() -> None:
    model, lanes, prepare = masked("llama")
    model = model.float()
    lanes = [
        ls.Lane(lane.task, mask=lane.mask, lr=1e-2, epochs=1, batch_size=4, autocast="bf16")
        for lane in lanes
    ]
    for course, (run, _) in zip(
        whole(model, lanes).courses, solo_runs(model, lanes, prepare), strict=True
    ):
        for found, wanted in zip(course.history, run.history, strict=True):
            assert found["loss"] == pytest.approx(wanted["loss"], rel=2e-2)


def test_a_lane_that_diverges_ends_alone_and_the_others_are_what_they_were() -> None:
    model, lanes, prepare = masked("opt", **DROPOUT["opt"])
    wild = ls.Lane(
        tiny_task(20), mask=lanes[0].mask, lr=1e200, epochs=2, batch_size=5,
        max_gradient_norm=math.inf, optimizer="sgd",
    )  # fmt: skip
    mixed = [lanes[0], wild, lanes[2]]
    courses = whole(model, mixed).courses
    assert courses[1].run.diverged
    assert courses[1].run.metrics["steps"] < courses[0].run.metrics["steps"]
    wanted = solo_runs(model, lanes, prepare)
    assert same(courses[0].run, wanted[0][0])
    assert same(courses[2].run, wanted[2][0])


def test_a_lane_without_patience_ends_early_and_the_others_go_on() -> None:
    model, lanes, prepare = masked("opt")
    hasty = ls.Lane(lanes[0].task, mask=lanes[0].mask, lr=1e-30, epochs=3, batch_size=8, patience=1)
    courses = whole(model, [hasty, lanes[1]]).courses
    solo = solo_runs(model, [hasty, lanes[1]], prepare)
    assert same(courses[0].run, solo[0][0])
    assert courses[0].run.metrics["steps"] < courses[0].total
    assert same(courses[1].run, solo[1][0])


def test_a_pack_goes_on_from_its_state_bit_for_bit() -> None:
    model, lanes, _ = headed(**DROPOUT["bert"])
    wanted = whole(model, lanes)
    first = Pack(model, TOKENIZER, lanes)
    for _ in range(3):
        first.step()
    again = Pack(model, TOKENIZER, lanes)
    again.load_state_dict(first.state_dict())
    while again.alive:
        again.step()
    for found, course in zip(again.courses, wanted.courses, strict=True):
        assert found.history == course.history
        ends = course.best.point
        assert all(torch.equal(found.best.point[name], ends[name]) for name in ends)


def test_a_killed_pack_goes_on_from_its_folder_and_writes_the_folders_of_solo_runs(
    tmp_path, monkeypatch
) -> None:
    model, lanes, prepare = headed()
    wanted = ls.finetune_packed(model, TOKENIZER, lanes, folder=tmp_path / "whole")
    step, taken = Pack.step, []

    def killed(pack: Pack) -> bool:
        taken.append(pack.taken)
        if len(taken) == 5:
            raise KeyboardInterrupt
        return step(pack)

    monkeypatch.setattr(Pack, "step", killed)
    how = {"folder": tmp_path / "killed", "checkpoint_every": 2}
    with pytest.raises(KeyboardInterrupt):
        ls.finetune_packed(model, TOKENIZER, lanes, **how)
    found = ls.finetune_packed(model, TOKENIZER, lanes, **how)
    assert max(taken.count(i) for i in set(taken)) == 2  # one step is taken again, no other
    for run, other in zip(found, wanted, strict=True):
        assert same(run, other, 0.0)
    assert not list((tmp_path / "killed").glob("*.safetensors"))
    solo = copy.deepcopy(model)
    prepare(1, solo)
    read = ls.finetune(
        solo, TOKENIZER, lanes[1].task, folder=tmp_path / "killed" / "01",
        **vars(lanes[1].settings),
    )  # fmt: skip
    assert read.stored
    assert same(read, wanted[1], 0.0)
    assert ls.distance(solo).l2 == pytest.approx(read.distance["l2"])


def test_a_finished_pack_is_read_and_another_in_its_folder_refused(tmp_path) -> None:
    model, lanes, _ = masked("opt")
    wanted = ls.finetune_packed(model, TOKENIZER, lanes, folder=tmp_path)
    found = ls.finetune_packed(model, TOKENIZER, lanes, folder=tmp_path)
    assert all(run.stored and same(run, other, 0.0) for run, other in zip(found, wanted))
    with pytest.raises(UserError, match="another configuration"):
        ls.finetune_packed(model, TOKENIZER, lanes[::-1], folder=tmp_path)


def test_inside_a_lane_alone_the_model_judges_as_the_solo_model_and_is_restored() -> None:
    model, lanes, prepare = headed()
    pack = whole(model, lanes)
    before = copy.deepcopy(model.state_dict())
    for i, course in enumerate(pack.courses):
        solo = copy.deepcopy(model)
        prepare(i, solo)
        ls.finetune(solo, TOKENIZER, lanes[i].task, **vars(lanes[i].settings))
        with alone(model, course, course.best.point):
            found = ls.evaluate(model, TOKENIZER, lanes[i].task)
            assert ls.trainable(model).keys() == ls.trainable(solo).keys()
        assert close(found, ls.evaluate(solo, TOKENIZER, lanes[i].task))
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())


def test_what_cannot_be_packed_is_said_in_a_sentence() -> None:
    model = ls.tiny_model("opt", vocab_size=len(TOKENIZER))
    task, mask = tiny_task(16), ls.random_mask(model, ratio=1e-2)
    embedding = ls.random_mask(model, ratio=1e-2, targets="*embed_tokens")
    wrapped = ls.Lane(task, mask=mask, lr=1e-2)
    assert why_not(model, wrapped) is None
    assert "embed_tokens" in why_not(model, ls.Lane(task, mask=embedding, lr=1e-2))
    assert "trains nothing" in why_not(model, ls.Lane(task, lr=1e-2))
    norms = ls.tiny_model("llama", vocab_size=len(TOKENIZER))
    assert "RMSNorm" in why_not(norms, ls.Lane(task, dense="*norm", lr=1e-2))
    twice = ls.Lane(task, mask=mask, values={next(iter(mask.indices)): torch.ones(1)}, lr=1e-2)
    assert "values of its own" in why_not(model, twice)
    ls.attach(model, mask)
    assert "mask attached" in why_not(model, wrapped)
    with pytest.raises(UserError, match="mask attached; train it alone"):
        ls.finetune_packed(model, TOKENIZER, [wrapped])


def test_lanes_of_two_kinds_are_refused_together() -> None:
    model, lanes, _ = headed()
    other = ls.Lane(texts(16), dense="classifier", lr=1e-2, autocast="bf16")
    with pytest.raises(UserError, match="share the kind"):
        Pack(model, TOKENIZER, [*lanes, other])


def test_a_model_that_draws_past_torchs_dropout_is_refused() -> None:
    model, lanes, _ = masked("opt")
    module = model.model.decoder.layers[0]
    module.register_forward_hook(lambda m, given, out: (torch.rand(1), out)[1])
    with pytest.raises(UserError, match="draws random numbers otherwise"):
        Pack(model, TOKENIZER, lanes).step()


def test_lane_of_refuses_other_tensors_and_a_theta_that_has_moved() -> None:
    model, lanes, prepare = masked("opt")
    solo = copy.deepcopy(model)
    prepare(0, solo)
    ls.finetune(solo, TOKENIZER, lanes[0].task, **vars(lanes[0].settings))
    with pytest.raises(UserError, match="theta is 0"):
        ls.lane_of(model, solo, lanes[0].task, lr=1e-2)
    other = ls.tiny_model("opt", vocab_size=len(TOKENIZER) + 8)
    with pytest.raises(UserError, match="expected a model with the tensors"):
        ls.lane_of(model, other, lanes[0].task, lr=1e-2)


def test_a_lane_keeps_numbers_of_the_order_of_its_mask_and_no_copy_of_the_weights() -> None:
    model, lanes, _ = masked("opt")
    pack = Pack(model, TOKENIZER, lanes)
    pack.step()
    for course, lane in zip(pack.courses, lanes, strict=True):
        held = {}
        for weight in course.masked.values():
            states = course.updates.optimizer.state[weight.theta].values()
            for tensor in (weight.theta, weight.indices, weight.origin, *states):
                held[id(tensor)] = tensor.numel()
        assert sum(held.values()) <= 6 * lane.mask.count + 3 * len(course.masked)
        assert not course.own
