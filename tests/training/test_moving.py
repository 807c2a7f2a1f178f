"""Moving masks in other people's loops: accumulated gradients, a head beside, a trainer."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from conftest import CASES
from oracles import selection as oracle
from oracles.training import order
from samples import tiny_task
from torch import nn
from transformers import Trainer, TrainingArguments

import landscape as ls
from landscape.errors import UserError
from landscape.subspace import attached_mask, thetas
from landscape.training.callbacks import DeltaCallback
from landscape.training.groups import parameter_groups

KINDS = ["static", "increment", "repeat", "drop_regrow"]
ID3 = {"score": "id3", "options": {"eps": 0.5, "exp": 1.0}}
BERT = next(case for case in CASES if case.name == "bert")


def schedule(kind: str, **settings) -> ls.Schedule:
    return ls.Schedule(kind, **ID3, **({"count": 29, "every": 2} | settings))


def copies(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in values.items()}


def rows(model: nn.Module, first: int, last: int) -> torch.Tensor:
    """The sum of the losses of some rows of nine."""
    ids = torch.randint(3, 60, (9, 6), generator=torch.Generator().manual_seed(4))[first:last]
    labels = torch.arange(first, last) % 2
    logits = model(input_ids=ids).logits
    return torch.nn.functional.cross_entropy(logits, labels, reduction="sum")


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_several_backwards_select_as_their_sum_does_in_one(kind) -> None:
    ends = []
    for parts in ([(0, 9)], [(0, 2), (2, 7), (7, 9)]):
        model = BERT.model()
        moving = ls.MovingMask(schedule(kind, targets=BERT.targets), model, total_steps=5)
        moving.attach()
        optimizer = ls.AdamW(ls.trainable(model).values(), lr=0.05)
        for step in range(5):
            optimizer.zero_grad()
            with moving.step(step, optimizer, backwards=3):
                for first, last in parts:
                    (rows(model, first, last) / 9).backward()
            optimizer.step()
        ends.append((moving.indices(), copies(ls.trainable(model))))
    (whole, theta), (held, found) = ends
    assert all(torch.equal(held[name], whole[name]) for name in whole)
    assert sum(t.abs().sum() for t in theta.values()) > 0
    for name, values in theta.items():
        torch.testing.assert_close(found[name], values, rtol=1e-8, atol=1e-10)


def test_a_head_beside_a_moving_mask_trains_as_in_dense_training() -> None:
    """The head has an optimizer of its own in the oracle: whole tensors, all of them active."""
    model, plain = BERT.model(), BERT.model()
    moving = ls.MovingMask(
        schedule("increment", targets=BERT.targets, dense="classifier", scope="tensor"), model, 4
    )
    moving.attach()
    own = ls.trainable(model)
    assert list(own)[-2:] == ["classifier.weight", "classifier.bias"]
    optimizer = ls.AdamW(own.values(), lr=0.02)
    head = {n: p for n, p in plain.named_parameters() if n.startswith("classifier.")}
    body = oracle.DenseSchedule(plain, [n for n in own if n not in head], "id3", eps=0.5, exp=1.0)
    beside = torch.optim.AdamW(head.values(), lr=0.02, weight_decay=0.0)
    for step in range(4):
        optimizer.zero_grad()
        with moving.step(step, optimizer):
            BERT.loss(model).backward()
        optimizer.step()
        loss = BERT.loss(plain)
        grads = oracle.gradients(plain, [*body.names, *head], loss)
        body.select({n: attached_mask(model).indices[n].tolist() for n in body.names}, "increment")
        body.update({n: grads[n] for n in body.names}, 0.02, 0.0, 1e9)
        for name, p in head.items():
            p.grad = grads[name]
        beside.step()
    parameters = dict(model.named_parameters())
    for name in (*head, *body.names):
        wanted = head[name] if name in head else body.weights[name]
        torch.testing.assert_close(parameters[name], wanted, rtol=0, atol=1e-9)
    assert optimizer.count == 29 + sum(p.numel() for p in head.values())
    assert not torch.equal(ls.detach(model).classifier.weight, head["classifier.weight"])


class InOrder(Trainer):
    """Trains on batches that are collated already, one after another, by their task's loss."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        total, terms = ls.task_loss(model, inputs)
        return total / terms

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def trainer(
    folder: Path, setup, planned: ls.Schedule, *, size: int = 8, accumulate: int = 1, **settings
) -> InOrder:
    """Return a trainer that passes twice over a task in the order in which `finetune` does."""
    model, tokenizer, task = setup
    callback = ls.MovingMaskCallback(planned, model, **settings.pop("callback", {}))
    optimizer = ls.AdamW(ls.trainable(model).values(), lr=1e-2, weight_decay=0.1)
    batches = [
        batch
        for epoch in range(2)
        for batch in ls.make_batches(
            [task.train[i] for i in order(0, epoch, len(task.train))], tokenizer, size
        )
    ]
    arguments = TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=1, num_train_epochs=1, use_cpu=True,
        report_to=[], disable_tqdm=True, logging_strategy="no",
        lr_scheduler_type="constant", remove_unused_columns=False,
        gradient_accumulation_steps=accumulate,
        **({"max_grad_norm": 0, "save_strategy": "no"} | settings),
    )  # fmt: skip
    return InOrder(
        model, arguments, train_dataset=batches, data_collator=lambda items: items[0],
        callbacks=[callback], optimizers=(optimizer, None),
    )  # fmt: skip


@pytest.fixture
def setup():
    tokenizer = ls.tiny_tokenizer()
    return ls.tiny_model("llama", vocab_size=len(tokenizer)), tokenizer, tiny_task()


def last_point(setup, planned: ls.Schedule):
    """Return theta and indices after the last step of `finetune`, not at the best one."""
    model, tokenizer, task = setup
    seen = {}

    def look(model: nn.Module, _: object) -> None:
        seen["end"] = copies(ls.trainable(model)), dict(attached_mask(model).indices)

    ls.finetune(
        model, tokenizer, task, lr=1e-2, weight_decay=0.1, epochs=2, batch_size=8, seed=0,
        schedule=planned, probes=[look], test=False,
    )  # fmt: skip
    return seen["end"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_trainer_with_a_schedule_takes_the_steps_of_finetune_bit_for_bit(
    tmp_path, setup, kind
) -> None:
    planned = schedule(kind, count=43)
    other = copy.deepcopy(setup[0]), *setup[1:]
    theta, indices = last_point(setup, planned)
    loop = trainer(tmp_path, other, planned)
    loop.train()
    assert loop.state.global_step == 6
    found = ls.trainable(other[0])
    assert sum(t.abs().sum() for t in theta.values()) > 0
    for name, held in attached_mask(other[0]).indices.items():
        assert torch.equal(held, indices[name])
        assert torch.equal(found[name], theta[name])


def test_a_trainer_that_accumulates_selects_by_the_gradients_of_the_whole_step(
    tmp_path, setup
) -> None:
    planned = schedule("increment", count=43)
    other = copy.deepcopy(setup[0]), *setup[1:]
    _, indices = last_point(setup, planned)
    loop = trainer(tmp_path, other, planned, size=4, accumulate=2)
    loop.train()
    assert loop.state.global_step == 6
    held = attached_mask(other[0]).indices
    assert sum(i.numel() for i in held.values()) == 43
    assert all(torch.equal(held[name], indices[name]) for name in indices)


@pytest.mark.parametrize("kind", KINDS)
def test_a_trainer_with_a_schedule_resumes_bit_for_bit_from_its_checkpoint(
    tmp_path, setup, kind
) -> None:
    planned = schedule(kind, count=43, steps=6, dense="lm_head")
    models = [copy.deepcopy(setup[0]) for _ in range(2)]
    saving = {"save_strategy": "steps", "save_steps": 3}
    trainer(tmp_path / "whole", (models[0], *setup[1:]), planned, **saving).train()
    folder = tmp_path / "whole" / "checkpoint-3"
    again = trainer(tmp_path / "again", (models[1], *setup[1:]), planned, **saving)
    (callback,) = (
        c for c in again.callback_handler.callbacks if isinstance(c, ls.MovingMaskCallback)
    )
    with pytest.raises(UserError, match="another mask"):
        again.train(resume_from_checkpoint=str(folder))
    callback.go_to(folder)
    again.train(resume_from_checkpoint=str(folder))
    whole, found = (ls.trainable(model) for model in models)
    assert all(p.abs().sum() > 0 for p in whole.values() if p.numel())
    held = attached_mask(models[0]).indices
    assert all(torch.equal(attached_mask(models[1]).indices[n], i) for n, i in held.items())
    assert all(torch.equal(p, whole[n]) for n, p in found.items())
    with pytest.raises(UserError, match="expected a trainer's checkpoint"):
        callback.go_to(tmp_path)


def test_a_small_checkpoint_holds_a_dense_head_and_the_trainer_resumes_from_it(tmp_path) -> None:
    def loop(model: nn.Module, folder: Path) -> Trainer:
        ids = torch.randint(3, 60, (8, 6), generator=torch.Generator().manual_seed(1))
        batches = [{"input_ids": row, "labels": torch.tensor(i % 2)} for i, row in enumerate(ids)]
        arguments = TrainingArguments(
            output_dir=str(folder), per_device_train_batch_size=2, num_train_epochs=1, use_cpu=True,
            report_to=[], disable_tqdm=True, save_strategy="steps", save_steps=2, seed=1,
            logging_strategy="no", learning_rate=1e-2,
        )  # fmt: skip
        return Trainer(model, arguments, train_dataset=batches, callbacks=[DeltaCallback()])

    def start() -> nn.Module:
        model = BERT.model(torch.float32)
        mask = ls.random_mask(model, density=0.1, targets=BERT.targets, seed=1)
        ls.attach(model, mask, dense="classifier")
        return model

    whole, again = start(), start()
    loop(whole, tmp_path / "whole").train()
    folder = tmp_path / "whole" / "checkpoint-2"
    loop(again, tmp_path / "again").train(resume_from_checkpoint=str(folder))
    wanted = ls.trainable(whole)
    assert all(torch.equal(p, wanted[n]) for n, p in ls.trainable(again).items())
    fresh = BERT.model(torch.float32)
    assert not torch.equal(whole.classifier.weight, fresh.classifier.weight)
    ls.load_delta(fresh, tmp_path / "whole" / "checkpoint-4" / "delta.safetensors")
    assert torch.equal(fresh.classifier.weight, whole.classifier.weight)


def test_a_trainers_clipping_is_over_the_weights_that_the_step_has_selected(
    tmp_path, setup
) -> None:
    """All weights are new at the first step: a trainer's own clipping would see none of them."""
    norms = []

    class Look(ls.AdamW):
        def step(self, closure=None):
            grads = [p.grad for g in self.param_groups for p in g["params"] if p.grad is not None]
            norms.append(float(torch.cat(grads).norm()))
            return super().step(closure)

    loop = trainer(tmp_path, setup, schedule("static"), callback={"max_gradient_norm": 1e-3})
    loop.optimizer = Look(ls.trainable(setup[0]).values(), lr=1e-2)
    loop.train()
    assert len(norms) == 6
    assert norms == pytest.approx([1e-3] * 6, rel=0.02)  # torch divides by norm + 1e-6


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"max_grad_norm": 1.0}, "expected max_grad_norm=0 .*got 1.0"),
        ({"max_grad_norm": 0}, "landscape.AdamW, .*torch.optim.*SGD"),
    ],
)
def test_a_trainer_that_a_moving_mask_cannot_follow_is_refused(
    tmp_path, setup, settings, sentence
) -> None:
    loop = trainer(tmp_path, setup, schedule("static"), **settings)
    if not settings["max_grad_norm"]:
        loop.optimizer = torch.optim.SGD(ls.trainable(setup[0]).values(), lr=0.1)
    with pytest.raises(UserError, match=sentence):
        loop.train()


def test_a_step_without_a_backward_or_with_too_many_is_refused() -> None:
    model = BERT.model()
    moving = ls.MovingMask(schedule("static", targets=BERT.targets), model)
    moving.attach()
    optimizer = ls.AdamW(ls.trainable(model).values(), lr=0.1)

    def step(*losses: torch.Tensor | None) -> None:
        with moving.step(0, optimizer):
            for loss in losses:
                (BERT.loss(model) if loss is None else loss).backward()

    with pytest.raises(UserError, match="none that reached a masked tensor"):
        step(BERT.loss(model))  # its forward was outside
    with pytest.raises(UserError, match=r"at most 1 backward .*backwards="):
        step(None, None)


def test_increments_without_a_number_of_steps_are_refused() -> None:
    model = BERT.model()
    moving = ls.MovingMask(schedule("increment", targets=BERT.targets), model)
    moving.attach()
    optimizer = ls.AdamW(ls.trainable(model).values(), lr=0.1)
    with (
        pytest.raises(UserError, match="number of steps of a schedule"),
        moving.step(0, optimizer),
    ):
        pass


def test_a_schedule_without_dense_parameters_says_nothing_of_them_in_a_configuration() -> None:
    """So that folders of runs from before there were any are still those runs'."""
    assert "dense" not in schedule("static").as_dict()
    assert schedule("static", dense=("classifier",)).as_dict()["dense"] == ["classifier"]


def test_a_head_has_a_rate_of_its_own_beside_a_moving_mask() -> None:
    """At the first step AdamW moves everything by its rate, whatever the gradient's size."""
    model = BERT.model()
    start = model.classifier.weight.detach().clone()
    moving = ls.MovingMask(schedule("static", targets=BERT.targets, dense="classifier"), model)
    moving.attach()
    groups = parameter_groups(model, lr=0.5, dense_lr=1e-3)
    optimizer = ls.AdamW(groups, lr=1.0, eps=1e-30)
    with moving.step(0, optimizer):
        BERT.loss(model).backward()
    optimizer.step()
    moved = (model.classifier.weight - start).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 1e-3), rtol=1e-6, atol=0)
    theta = torch.cat([t.detach().abs() for t in thetas(model).values()])
    torch.testing.assert_close(theta, torch.full_like(theta, 0.5), rtol=1e-6, atol=0)


def test_a_rate_for_dense_parameters_that_are_not_there_is_refused() -> None:
    model = BERT.model()
    assert [g["lr"] for g in parameter_groups(model, lr=0.1)] == [0.1]
    with pytest.raises(UserError, match=r"got 0\.01 and none; name them in attach"):
        parameter_groups(model, lr=0.1, dense_lr=0.01)


class Killed(Exception):
    """Stands for the end of a process."""


@pytest.mark.parametrize("kind", ["increment", None])
def test_a_killed_run_with_a_head_beside_its_mask_resumes_bit_for_bit(
    tmp_path, setup, kind
) -> None:
    """The output head of a language model, with a schedule or with a mask that stays."""
    model, tokenizer, task = setup
    planned = None if kind is None else schedule(kind, count=43, dense="lm_head")
    settings = {
        "lr": 1e-2, "epochs": 2, "batch_size": 8, "seed": 0, "test": False, "checkpoint_every": 1,
        "schedule": planned,
    }  # fmt: skip

    def start() -> nn.Module:
        fresh = copy.deepcopy(model)
        if kind is None:
            ls.attach(fresh, ls.random_mask(fresh, count=43, seed=1), dense="lm_head")
        return fresh

    def kill(_: nn.Module, record: dict[str, float]) -> None:
        if record["step"] == 4:
            raise Killed

    whole, resumed = start(), start()
    expected = ls.finetune(whole, tokenizer, task, folder=tmp_path / "whole", **settings)
    with pytest.raises(Killed):
        ls.finetune(start(), tokenizer, task, folder=tmp_path / "cut", probes=[kill], **settings)
    found = ls.finetune(resumed, tokenizer, task, folder=tmp_path / "cut", **settings)
    assert found.history == expected.history
    wanted = ls.trainable(whole)
    assert not torch.equal(whole.lm_head.weight, model.lm_head.weight)
    assert all(torch.equal(p, wanted[n]) for n, p in ls.trainable(resumed).items())
    assert found.distance == expected.distance
    ends = [m.lm_head.weight.detach().double() for m in (whole, model)]
    assert found.distance["per_tensor"]["lm_head.weight"] == pytest.approx(
        float((ends[0] - ends[1]).norm()), rel=1e-6
    )
