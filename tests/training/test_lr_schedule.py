"""The learning rate of every step, against its closed form."""

from __future__ import annotations

import math

import pytest
import torch
from samples import tiny_task
from torch import nn

import landscape as ls
from landscape.errors import UserError
from landscape.training import make_lr_schedule

TOKENIZER = ls.tiny_tokenizer()


def closed(name: str, t: int, steps: int, warmup: int) -> float:
    if t < warmup:
        return t / warmup
    left = (steps - t) / (steps - warmup)
    return {"constant": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}[name]


def run_of(**settings) -> ls.Run:
    model = ls.tiny_model("llama", vocab_size=len(TOKENIZER))
    ls.attach(model, ls.random_mask(model, density=0.1))
    chosen = {"lr": 0.02, "epochs": 3, "batch_size": 6, "test": False} | settings
    return ls.finetune(model, TOKENIZER, tiny_task(24), **chosen)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
@pytest.mark.parametrize(("warmup", "steps"), [(0, 0), (3, 3), (0.25, 3), (0.01, 0)])
def test_the_rate_of_every_step_is_its_closed_form(name, warmup, steps) -> None:
    history = run_of(lr_schedule=name, warmup=warmup).history
    assert len(history) == 12
    if name == "constant" and not steps:
        assert "lr" not in history[0]
        return
    wanted = [0.02 * closed(name, t, 12, steps) for t in range(12)]
    assert [record["lr"] for record in history] == pytest.approx(wanted, abs=1e-15)


def test_a_step_moves_by_the_rate_of_its_place() -> None:
    """Plain descent on a line: the way is the sum of the rates."""
    theta = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([theta], lr=0.5)
    schedule = make_lr_schedule("linear", optimizer, steps=8, warmup=2)
    assert schedule is not None
    for _ in range(8):
        theta.grad = -torch.ones(1, dtype=torch.float64)
        optimizer.step()
        schedule.step()
    assert theta.item() == pytest.approx(0.5 * sum(closed("linear", t, 8, 2) for t in range(8)))


def test_schedule_free_warms_up_by_itself_and_from_its_first_step() -> None:
    """Its first step is z = -lr / w g / |g| from theta = 0, and the average is z."""
    pytest.importorskip("schedulefree")
    model = ls.tiny_model("llama", vocab_size=len(TOKENIZER))
    ls.attach(model, ls.random_mask(model, density=0.1))
    training = ls.Training(
        model, TOKENIZER, tiny_task(24), lr=0.03, optimizer="schedule-free", warmup=3, eps=1e-30
    )
    assert "lr" not in training.step()
    moved = max(float(theta.detach().abs().max()) for theta in ls.trainable(model).values())
    assert moved == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("warmup", [-1, 1.0, "some", True, math.nan])
def test_a_warm_up_is_a_number_of_steps_or_a_share_below_one(warmup) -> None:
    with pytest.raises(UserError, match="warmup"):
        run_of(warmup=warmup)
