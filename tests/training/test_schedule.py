"""Schedules: exact budgets at every step, against dense training, across a resume."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import selection as oracle
from samples import tiny_task

import landscape as ls
from landscape.errors import UserError
from landscape.masks import share
from landscape.training.budget import selected_after
from landscape.training.moving import MovingMask
from theory.statements.updates import update_counts

H = {"score": "id3", "options": {"eps": 0.5, "exp": 1.0}}
KINDS = ["static", "increment", "repeat", "drop_regrow"]


def turns(quota: dict[str, int], total: int) -> dict[str, int]:
    """Give total selections to tensors one at a time, each to whoever is furthest behind."""
    counts = dict.fromkeys(quota, 0)
    for _ in range(total):
        name = min(
            (n for n in quota if counts[n] < quota[n]), key=lambda n: (counts[n] + 0.5) / quota[n]
        )
        counts[name] += 1
    return counts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_training_under_a_schedule_equals_dense_masked_training(case, kind, scope) -> None:
    budget, steps, total = 29, 5, 8
    model = case.model()
    twin = copy.deepcopy(model)
    settings_ = {"every": 2} if kind in ("repeat", "drop_regrow") else {}
    schedule = ls.Schedule(
        kind, **H, count=budget, targets=case.targets, scope=scope, steps=steps, **settings_
    )
    moving = MovingMask(schedule, model, total)
    moving.attach()
    thetas = ls.trainable(model)
    optimizer = ls.AdamW(thetas.values(), lr=0.01, weight_decay=0.1)
    dense = oracle.DenseSchedule(twin, list(thetas), "id3", eps=0.5, exp=1.0)
    shapes = {n: tuple(w.shape) for n, w in dense.weights.items()}
    quota = share(shapes, budget)
    updates = 0
    for step in range(total):
        with moving.step(step, optimizer):
            optimizer.zero_grad()
            case.loss(model).backward()
        torch.nn.utils.clip_grad_norm_(thetas.values(), 0.05)
        optimizer.step()
        updates += optimizer.count

        grads = oracle.gradients(twin, dense.names, case.loss(twin))
        everything = budget if scope == "global" else quota
        if kind == "increment" and step < steps:
            first, last = budget * step // steps, budget * (step + 1) // steps
            a, b = turns(quota, first), turns(quota, last)
            wanted = last - first if scope == "global" else {n: b[n] - a[n] for n in quota}
            dense.select(dense.choose(grads, wanted, exclude=True), kind)
        elif step == 0 or (kind == "repeat" and step % 2 == 0):
            dense.select(dense.choose(grads, everything, exclude=kind != "repeat"), kind)
        elif kind == "drop_regrow" and step % 2 == 0 and step < steps:
            many = (
                int(0.3 * budget)
                if scope == "global"
                else {n: int(0.3 * q) for n, q in quota.items()}
            )
            chosen = dense.choose(grads, many, exclude=True)
            dense.select(chosen, kind, dropped=dense.least_moved(many))
        dense.update(grads, 0.01, 0.1, 0.05)

        ls.subspace.synchronise(model)
        parameters = dict(model.named_parameters())
        for name, weight in dense.weights.items():
            # float64 throughout; Llama's norms compute in float32, and AdamW divides by sqrt(v)
            slack = 1e-5 if case.name == "llama" else 1e-9
            torch.testing.assert_close(parameters[name], weight, rtol=0, atol=slack)
            held = torch.zeros(weight.numel(), dtype=torch.bool)
            held[moving.indices()[name]] = True
            assert bool(held[dense.active[name]].all())
            if kind != "repeat":
                assert int(held.sum()) == int(dense.active[name].sum())
            untouched = dense.start[name].reshape(-1)[~held]
            assert torch.equal(parameters[name].detach().view(-1)[~held], untouched)
    assert updates == dense.updates
    ls.detach(model)
    parameters = dict(model.named_parameters())
    assert all(torch.equal(parameters[n], dense.start[n]) for n in dense.names)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), st.integers(1, 60))
def test_uniform_increments_hand_out_the_budget_evenly_and_then_nothing(budget, steps) -> None:
    total = [selected_after(budget, steps, t) for t in range(2 * steps + 1)]
    increments = [b - a for a, b in itertools.pairwise(total)]
    assert total[steps:] == [budget] * (steps + 1)
    assert set(increments[:steps]) <= {budget // steps, -(-budget // steps)}


class Tied(torch.nn.Module):
    """A loss that is the sum of all weights: every gradient is 1 and every score the same."""

    def __init__(self, shapes: list[tuple[int, int]], dtype: torch.dtype) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleDict(
            {f"l{i}": torch.nn.Linear(b, a, bias=False, dtype=dtype)
             for i, (a, b) in enumerate(shapes)}
        )  # fmt: skip

    def forward(self) -> torch.Tensor:
        return sum(m(m.weight.new_ones(1, m.in_features)).sum() for m in self.layers.values())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3),
    st.sampled_from(KINDS),
    st.sampled_from(["global", "tensor"]),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    st.integers(1, 7), st.one_of(st.none(), st.integers(1, 9)), st.integers(1, 3), st.data(),
)  # fmt: skip
def test_ties_meet_every_budget_exactly_at_every_step_of_every_schedule(
    shapes, kind, scope, dtype, total, steps, every, data
) -> None:
    model = Tied(shapes, dtype)
    size = sum(a * b for a, b in shapes)
    budget = data.draw(st.integers(1, size), label="budget")
    start = {n: p.detach().clone().flatten() for n, p in model.named_parameters()}
    schedule = ls.Schedule(kind, count=budget, targets="*", scope=scope, steps=steps, every=every)
    moving = MovingMask(schedule, model, total)
    moving.attach()
    optimizer = ls.AdamW(ls.trainable(model).values(), lr=0.5, weight_decay=0.1)
    horizon = steps or total
    for step in range(total):
        with moving.step(step, optimizer):
            optimizer.zero_grad()
            model().backward()
        optimizer.step()
        wanted = budget * min(step + 1, horizon) // horizon if kind == "increment" else budget
        assert optimizer.count == wanted
        ls.subspace.synchronise(model)
        weights = dict(model.named_parameters())
        for name, indices in moving.indices().items():
            assert torch.all(indices[1:] > indices[:-1])
            held = torch.zeros(start[name].numel(), dtype=torch.bool)
            held[indices] = True
            flat = weights[name].detach().flatten()
            assert torch.equal(flat[~held], start[name][~held])
    held = {n: i.tolist() for n, i in moving.indices().items()}
    if kind == "static" and scope == "global":  # ties go to the first tensor, the lowest index
        assert [(n, i) for n, chosen in held.items() for i in chosen] == [
            (n, i) for n, flat in start.items() for i in range(flat.numel())
        ][:budget]
    if kind != "repeat" and scope == "tensor" and (kind != "increment" or total >= horizon):
        quota = share({n: tuple(p.shape) for n, p in weights.items() if n in held}, budget)
        assert {n: len(chosen) for n, chosen in held.items()} == quota
    ls.detach(model)
    assert all(torch.equal(p.flatten(), start[n]) for n, p in model.named_parameters())


@pytest.fixture
def setup():
    tokenizer = ls.tiny_tokenizer()
    return ls.tiny_model("llama", vocab_size=len(tokenizer)), tokenizer, tiny_task()


def finetune(setup, schedule: ls.Schedule, **settings_) -> ls.Run:
    model, tokenizer, task = setup
    options = {"lr": 1e-2, "epochs": 3, "batch_size": 8, "seed": 0, "test": False}
    return ls.finetune(model, tokenizer, task, schedule=schedule, **(options | settings_))


@pytest.mark.parametrize(
    ("budget", "steps"),
    [(36, 9), (5, 9), (37, 9), (1, 9), (40, 4), (36, 20)],
    ids=["divides", "fewer than steps", "not divisible", "one", "past the horizon", "cut short"],
)  # nine steps in all
def test_increments_meet_the_budget_exactly_in_a_run(setup, budget, steps) -> None:
    run = finetune(setup, ls.Schedule("increment", **H, count=budget, steps=steps))
    expected = [budget * min(t, steps) // steps for t in range(1, 10)]
    assert [record["updated"] for record in run.history] == expected
    if steps <= 9:
        assert expected[-1] == budget


def test_updates_in_a_run_are_those_of_the_theory(setup) -> None:
    budget, steps = 45, 9
    static, increments = update_counts(budget, steps)
    for kind, expected in (("static", static), ("increment", increments), ("repeat", static)):
        run = finetune(setup, ls.Schedule(kind, **H, count=budget))
        assert sum(record["updated"] for record in run.history) == expected
        assert len(run.history) == steps
        ls.detach(setup[0])


def test_given_increments_are_followed_step_by_step(setup) -> None:
    given = [3, 0, 10, 1]
    run = finetune(setup, ls.Schedule("increment", **H, increments=given))
    assert [record["updated"] for record in run.history] == [3, 3, 13, 14, 14, 14, 14, 14, 14]


@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("kind", ["static", "repeat", "drop_regrow"])
def test_other_schedules_hold_the_whole_budget_at_every_step(setup, kind, scope) -> None:
    run = finetune(setup, ls.Schedule(kind, **H, count=41, every=2, scope=scope))
    assert {record["updated"] for record in run.history} == {41}
    if kind != "repeat":
        assert ls.subspace.attached_mask(setup[0]).count == 41


def test_a_budget_of_almost_all_weights_is_exchanged_as_far_as_there_are_others(setup) -> None:
    model = setup[0]
    size = ls.random_mask(model, density=0.5).size
    run = finetune(setup, ls.Schedule("drop_regrow", **H, count=size - 3))
    assert {record["updated"] for record in run.history} == {size - 3}


class Killed(Exception):
    """Stands for the end of a process."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("killed_after", [2, 5])
def test_a_scheduled_run_resumed_equals_the_uninterrupted_one_bit_for_bit(
    setup, tmp_path, kind, killed_after
) -> None:
    model = setup[0]
    schedule = ls.Schedule(kind, **H, count=43, every=1 if kind == "repeat" else 3)
    options = {"checkpoint_every": 2, "weight_decay": 0.1}

    def kill(_: torch.nn.Module, record: dict[str, float]) -> None:
        if record["step"] == killed_after:
            raise Killed

    def end() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        thetas = {n: p.detach().clone() for n, p in ls.trainable(model).items()}
        indices = dict(ls.subspace.attached_mask(model).indices)
        ls.detach(model)
        return thetas, indices

    whole = finetune(setup, schedule, folder=tmp_path / "whole", **options)
    expected = end()
    with pytest.raises(Killed):
        finetune(setup, schedule, folder=tmp_path / "cut", probes=[kill], **options)
    ls.detach(model)
    resumed = finetune(setup, schedule, folder=tmp_path / "cut", **options)
    found = end()
    again = finetune(setup, schedule, folder=tmp_path / "cut", **options)
    read = end()
    assert resumed.history == whole.history == again.history
    assert resumed.evaluations == whole.evaluations
    for other in (found, read):
        for ours, theirs in zip(expected, other, strict=True):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[n], theirs[n]) for n in ours)


@pytest.mark.parametrize("kind", ["increment", "repeat"])
def test_the_chosen_checkpoint_has_the_mask_it_was_evaluated_with(setup, monkeypatch, kind) -> None:
    model, tokenizer, task = setup
    honest, counts = ls.evaluate, []

    def judge(model, *arguments, **settings_):
        counts.append(ls.subspace.attached_mask(model).count)
        return honest(model, *arguments, **settings_) | {"accuracy": float(len(counts) == 2)}

    monkeypatch.setattr("landscape.training.training.evaluate", judge)
    run = finetune(setup, ls.Schedule(kind, **H, count=90))
    assert run.metrics["best_step"] == 6
    assert len(set(counts)) == 3
    assert ls.subspace.attached_mask(model).count == counts[1]
    loss = honest(model, tokenizer, task, split="dev")["loss"]
    assert loss == run.metrics["dev"]["loss"]


def test_the_best_point_before_the_end_of_a_process_is_still_the_best_after(
    setup, tmp_path, monkeypatch
) -> None:
    calls = []

    def judge(*_, **__):
        calls.append(1)
        return {"accuracy": 0.5, "loss": float(len(calls))}

    def kill(_: torch.nn.Module, record: dict[str, float]) -> None:
        if record["step"] == 5:
            raise Killed

    monkeypatch.setattr("landscape.training.training.evaluate", judge)
    schedule = ls.Schedule("increment", **H, count=90)
    with pytest.raises(Killed):
        finetune(setup, schedule, folder=tmp_path, probes=[kill], checkpoint_every=4)
    ls.detach(setup[0])
    run = finetune(setup, schedule, folder=tmp_path, checkpoint_every=4)
    assert run.metrics["best_step"] == 3
    assert ls.subspace.attached_mask(setup[0]).count == 30
    assert run.distance["l2"] > 0


def test_a_repeated_run_keeps_dropped_weights_in_its_delta(setup, tmp_path) -> None:
    model = setup[0]
    finetune(setup, ls.Schedule("repeat", **H, count=30))
    mask = ls.subspace.attached_mask(model)
    assert 30 < mask.count <= 9 * 30
    path = ls.save_delta(model, tmp_path / "delta.safetensors")
    expected = {n: p.detach().clone() for n, p in ls.trainable(model).items()}
    ls.detach(model)
    ls.load_delta(model, path)
    found = ls.trainable(model)
    assert all(torch.equal(found[n], expected[n]) for n in expected)


def test_a_loss_that_is_not_finite_selects_nothing_and_ends_the_run(setup, monkeypatch) -> None:
    honest, calls = ls.task_loss, []

    def breaking(model, batch):
        calls.append(1)
        total, count = honest(model, batch)
        return (total * float("nan") if len(calls) == 4 else total), count

    monkeypatch.setattr("landscape.training.training.task_loss", breaking)
    run = finetune(setup, ls.Schedule("increment", **H, count=90))
    assert run.diverged
    assert [record["updated"] for record in run.history] == [10, 20, 30, 30]


def test_a_tensor_that_the_loss_never_uses_does_not_cost_budget(setup) -> None:
    model = setup[0]
    model.register_parameter("spare_q_proj", torch.nn.Parameter(torch.ones(50)))
    schedule = ls.Schedule(
        "drop_regrow", **H, count=60, scope="tensor", targets=["*.q_proj", "spare*"]
    )
    run = finetune(setup, schedule)
    assert {record["updated"] for record in run.history} == {60}


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        (ls.Schedule("static", count=10**9), "at most"),
        (ls.Schedule("static"), "exactly one"),
        (ls.Schedule("static", count=3, targets="*.nothing"), "matches none"),
        (ls.Schedule("increment", increments=[0, 0]), "at least 1"),
    ],
)
def test_a_schedule_that_does_not_fit_the_model_leaves_it_plain(setup, schedule, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        finetune(setup, schedule)
    assert not ls.subspace.is_attached(setup[0])


@pytest.mark.parametrize("more", [[], ["*.up_proj"]], ids=["alone", "with others"])
def test_auto_means_the_same_as_a_text_and_in_a_list_of_patterns(setup, more) -> None:
    model, *_ = setup
    given = [["auto", *more], ("auto", *more), *([] if more else ["auto"])]
    for targets in given:
        found = ls.Schedule("static", count=5, targets=targets).on(model)
        assert found.targets == (["*.[qv]_proj", *more] if more else "*.[qv]_proj")
    plain = ls.Schedule("static", count=5, targets=more or "*.up_proj")
    assert plain.on(model) is plain


def test_a_model_with_a_mask_is_refused(setup) -> None:
    ls.attach(setup[0], ls.random_mask(setup[0], density=0.1))
    with pytest.raises(UserError, match="detach"):
        finetune(setup, ls.Schedule("static", count=5))
