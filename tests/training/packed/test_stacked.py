"""Lanes that are computed at once, as on a GPU, against their solo runs in float64."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from pack_cases import TOKENIZER, headed, masked, solo_runs
from packed_results import close, same
from samples import tiny_task

import landscape as ls
from landscape.errors import UserError
from landscape.training.packed.dropout import LaneDropout
from landscape.training.packed.pack import Pack
from landscape.training.packed.stacked import Stack

pytestmark = pytest.mark.filterwarnings("ignore:expected splits")

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]
DROPS = ("resid_pdrop", "attn_pdrop", "embd_pdrop", "summary_first_dropout")


def single(model, lanes, prepare):
    """The same lanes on candidates of one token each."""
    found = []
    for i, lane in enumerate(lanes):
        examples = tuple(
            ls.Example(f"film {j % 5}" + " and" * (j % (3 + i)), ("x", "y"), j % 2)
            for j in range(15 + 2 * i)
        )
        task = ls.Task("single", examples, examples[: 4 + i], examples[:9])
        found.append(ls.Lane(task, mask=lane.mask, **vars(lane.settings)))
    return model, found, prepare


CASES = {
    "opt": lambda: masked("opt"),
    "gpt2": lambda: single(*masked("gpt2", **dict.fromkeys(DROPS, 0.0))),
    "opt, one token": lambda: single(*masked("opt")),
    "bert": headed,
}
DROPPING = {
    "opt": lambda: masked("opt", dropout=0.1, attention_dropout=0.2),
    "gpt2": lambda: single(*masked("gpt2")),
    "bert": lambda: headed(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.2),
}


def whole(model: torch.nn.Module, lanes: list[ls.Lane], **how) -> Pack:
    pack = Pack(model, TOKENIZER, lanes, stacked=True, **how)
    assert pack._together is not None
    while pack.alive:
        pack.step()
    for course in pack.courses:
        pack.finish(course)
    return pack


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES)
def test_each_stacked_run_is_its_solo_run_to_rounding(
    case: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, lanes, prepare = CASES[case]()
    model = model.to(device)
    solo_in_pieces(model, lanes, solo_runs(model, lanes, prepare), monkeypatch)


@pytest.mark.parametrize("case", DROPPING)
def test_on_a_cpu_stacked_lanes_draw_what_their_solo_runs_do(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, lanes, prepare = DROPPING[case]()
    solo_in_pieces(model, lanes, solo_runs(model, lanes, prepare), monkeypatch)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", DROPPING)
def test_a_stacked_lane_draws_the_same_whichever_lanes_are_with_it(
    case: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, lanes, _ = DROPPING[case]()
    model = model.to(device)
    masked_only = [lane for lane in lanes if lane.mask is not None]
    packs = [whole(model, [lane]).courses[0] for lane in masked_only]
    alone = [(course.run, course.best.point) for course in packs]
    solo_in_pieces(model, masked_only, alone, monkeypatch)
    plain = copy.deepcopy(lanes[0])
    plain.settings = dataclasses.replace(plain.settings, seed=plain.settings.seed + 9)
    other = whole(model, [plain]).courses[0]
    assert other.history[0]["loss"] != alone[0][0].history[0]["loss"]


def test_a_lane_between_two_that_accumulate_more_keeps_its_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, lanes, prepare = masked("opt", dropout=0.1, attention_dropout=0.2)
    mixed = [
        ls.Lane(tiny_task(20), mask=lane.mask, lr=1e-2, epochs=1, batch_size=5, accumulate=count,
                seed=seed)
        for seed, (count, lane) in enumerate(zip((2, 1, 2), lanes, strict=True))
    ]  # fmt: skip
    solo_in_pieces(model, mixed, solo_runs(model, mixed, prepare), monkeypatch)


def test_away_from_a_cpu_what_draws_past_the_lanes_is_refused() -> None:
    drops = LaneDropout({0: 1}, left=False, device=torch.device("cpu"))
    with drops:
        torch.dropout(torch.ones(3), 0.5, True)
    drops._device = torch.device("meta")
    with drops, pytest.raises(UserError, match="draws random numbers otherwise; train these runs"):
        torch.dropout(torch.ones(3), 0.5, True)


def solo_in_pieces(model, lanes, solo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold a pack against runs, in one piece, and in as many as there can be."""
    for tokens, most in ((None, 2**30), (150, 1)):
        monkeypatch.setattr("landscape.training.packed.stacked.MATRICES", most)
        pack = whole(model, lanes, tokens=tokens)
        for course, (run, ends) in zip(pack.courses, solo, strict=True):
            assert same(course.run, run)
            assert close(course.best.point, ends)
            assert any(bool(v.any()) for v in course.best.point.values())


@pytest.mark.parametrize("device", DEVICES)
def test_stacked_optimizers_have_the_state_of_solo_ones(device: str) -> None:
    model, lanes, _ = masked("opt")
    model = model.to(device)
    packs = [Pack(model, TOKENIZER, lanes, stacked=stacked) for stacked in (True, False)]
    for pack in packs:
        for _ in range(3):
            pack.step()
    stacked, plain = (pack.state_dict() for pack in packs)
    for lane in plain:
        for part in ("parameters", "updates"):
            assert close(stacked[lane][part], plain[lane][part])


def test_a_stacked_lane_that_diverges_ends_alone_as_its_solo_run() -> None:
    model, lanes, _prepare = masked("opt")
    wild = ls.Lane(
        tiny_task(20), mask=lanes[0].mask, lr=1e200, epochs=2, batch_size=5,
        max_gradient_norm=math.inf,
    )  # fmt: skip
    mixed = [lanes[0], wild, lanes[2]]
    courses = whole(model, mixed).courses
    for course, (run, ends) in zip(
        courses, solo_runs(model, mixed, prepare_of(mixed)), strict=True
    ):
        assert same(course.run, run)
        assert close(course.best.point, ends)
    assert courses[1].run.diverged
    stayed = courses[1].point().values()
    assert all(bool(torch.isfinite(value).all()) for value in stayed)
    assert courses[1].run.metrics["steps"] < courses[0].run.metrics["steps"]


def prepare_of(lanes: list[ls.Lane]):
    return lambda i, solo: ls.attach(solo, lanes[i].mask)


@pytest.mark.parametrize("device", DEVICES)
def test_a_stacked_pack_goes_on_from_its_state_bit_for_bit(device: str) -> None:
    model, lanes, _ = masked("opt")
    model = model.to(device)
    wanted = whole(model, lanes)
    first = Pack(model, TOKENIZER, lanes, stacked=True)
    for _ in range(3):
        first.step()
    kept = first.state_dict()
    again = Pack(model, TOKENIZER, lanes, stacked=True)
    again.step()
    again.load_state_dict(kept)
    while again.alive:
        again.step()
    while first.alive:
        first.step()
    for pack in (again, first):
        for found, course in zip(pack.courses, wanted.courses, strict=True):
            assert found.history == course.history
            assert found.best.evaluations == course.best.evaluations
            ends = course.best.point
            assert all(torch.equal(found.best.point[name], ends[name]) for name in ends)


def test_a_checkpoint_of_a_stacked_pack_holds_no_other_lanes_numbers() -> None:
    model, lanes, _ = masked("opt")
    pack = Pack(model, TOKENIZER, lanes, stacked=True)
    pack.step()
    for state, lane in zip(pack.state_dict().values(), lanes, strict=True):
        tensors = [*state["parameters"].values()]
        for values in state["updates"]["optimizer"]["state"].values():
            tensors += values.values()
        assert all(t.untyped_storage().nbytes() == t.numel() * t.element_size() for t in tensors)
        counts = lane.mask.count, len(lane.mask.indices)
        assert sum(t.numel() for t in tensors) == 3 * counts[0] + counts[1]


def test_stacked_lanes_of_several_candidate_lengths_are_their_solo_runs() -> None:
    model, lanes, prepare = masked("opt")
    examples = tuple(
        ls.Example(f"film {i % 5}" + " and" * (i % 4), (" bad", " good and bad"), i % 2)
        for i in range(14)
    )
    task = ls.Task("long", examples[:10], examples[4:10], examples[10:])
    long = [ls.Lane(task, mask=lane.mask, lr=1e-2, epochs=1, batch_size=4) for lane in lanes]
    for course, (run, _) in zip(
        whole(model, long).courses, solo_runs(model, long, prepare), strict=True
    ):
        assert same(course.run, run)


@pytest.mark.parametrize("device", DEVICES)
def test_in_float32_and_autocast_stacked_losses_are_close_to_the_solo_ones(device: str) -> None:
    model, lanes, prepare = masked("opt")
    model = model.float().to(device)
    for autocast, tolerance in ((None, 1e-4), ("bf16", 2e-2)):
        own = [
            ls.Lane(lane.task, mask=lane.mask, lr=1e-2, epochs=1, batch_size=4, autocast=autocast)
            for lane in lanes
        ]
        for course, (run, _) in zip(
            whole(model, own).courses, solo_runs(model, own, prepare), strict=True
        ):
            for found, wanted in zip(course.history, run.history, strict=True):
                assert found["loss"] == pytest.approx(wanted["loss"], rel=tolerance)


def test_evaluations_of_stacked_lanes_are_made_together(monkeypatch: pytest.MonkeyPatch) -> None:
    model, lanes, _ = single(*masked("opt"))
    pack = Pack(model, TOKENIZER, lanes, stacked=True)
    monkeypatch.setattr(Pack, "evaluate", None)
    while pack.alive:
        pack.step()
    assert all(course.best.evaluations for course in pack.courses)


def test_a_stack_shows_every_lane_its_weights_and_no_other() -> None:
    model, lanes, _ = masked("opt")
    pack = Pack(model, TOKENIZER, lanes, stacked=True)
    courses = dict(enumerate(pack.courses))
    for i, course in courses.items():
        for weight in course.masked.values():
            weight.theta.data.add_(i + 1.0)
    stack = Stack(model, courses)
    stack.begin()
    for tensor in stack._tensors.values():
        name = next(n for n, p in model.named_parameters() if p is tensor.weight)
        shown = stack.matrices(tensor, 1, 3, torch.float64)
        for i in (1, 2):
            wanted = copy.deepcopy(tensor.weight.detach()).view(-1)
            if name in courses[i].masked:
                wanted[lanes[i].mask.indices[name]] += i + 1.0
            assert torch.equal(shown[i - 1].reshape(-1), wanted)
