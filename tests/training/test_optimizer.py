"""Optimizers by name: their steps in numpy, their states in a run that was stopped."""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import pytest
import torch
from samples import tiny_task
from torch import nn

import landscape as ls
from landscape.errors import UserError
from landscape.training import make_optimizer

LR = 0.05
GRADIENTS = np.random.default_rng(0).normal(size=(6, 5))
START = np.linspace(-1, 1, 5)


def stepped(name, **options) -> tuple[np.ndarray, torch.optim.Optimizer, nn.Parameter]:
    """Take six steps along prescribed gradients, in float64."""
    theta = nn.Parameter(torch.from_numpy(START.copy()))
    optimizer = make_optimizer(name, [theta], lr=LR, **options)
    if hasattr(optimizer, "train"):
        optimizer.train()
    for gradient in GRADIENTS:
        theta.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
    return theta.detach().numpy(), optimizer, theta


def test_sgd_is_heavy_ball_with_decay() -> None:
    theta, velocity = START.copy(), 0.0
    for gradient in GRADIENTS:
        velocity = 0.9 * velocity + gradient + 0.1 * theta
        theta = theta - LR * velocity
    found, *_ = stepped("sgd", momentum=0.9, weight_decay=0.1)
    assert found == pytest.approx(theta, abs=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adafactor_of_one_row_is_its_second_moment_with_clipped_updates(decay) -> None:
    """Shazeer & Stern, algorithms 4 and 8, with a learning rate that is given."""
    theta, square = START.copy(), 0.0
    clipped = []
    for t, gradient in enumerate(GRADIENTS, start=1):
        beta = 1 - t**-0.8
        square = beta * square + (1 - beta) * (gradient**2 + 1e-30)
        update = gradient / np.sqrt(square)
        clipped.append(np.sqrt(np.mean(update**2)) > 1)
        update /= max(1.0, np.sqrt(np.mean(update**2)))
        theta = theta - LR * decay * theta - LR * update
    assert True in clipped
    found, *_ = stepped("adafactor", weight_decay=decay)
    assert found == pytest.approx(theta, abs=1e-9)


@pytest.mark.parametrize("warmup", [0, 3])
def test_schedule_free_averages_what_adam_without_momentum_does(warmup) -> None:
    """Defazio et al., algorithm 1: gradients at y, steps of z, the result is the average x."""
    pytest.importorskip("schedulefree")
    beta1, beta2 = 0.9, 0.99
    x, z, square, weights, largest = START.copy(), START.copy(), 0.0, 0.0, 0.0
    for t, gradient in enumerate(GRADIENTS, start=1):
        rate = LR * min(1.0, t / warmup) if warmup else LR
        square = beta2 * square + (1 - beta2) * gradient**2
        z = z - rate * gradient / (np.sqrt(square / (1 - beta2**t)) + 1e-8)
        largest = max(largest, rate)
        weights += largest**2
        x = x + (largest**2 / weights) * (z - x)
    y = (1 - beta1) * z + beta1 * x
    found, optimizer, theta = stepped("schedule-free", betas=(beta1, beta2), warmup=warmup)
    assert found == pytest.approx(y, abs=1e-9)
    optimizer.eval()  # type: ignore[attr-defined]
    assert theta.detach().numpy() == pytest.approx(x, abs=1e-9)


def test_a_class_of_torch_is_an_optimizer_too() -> None:
    found, optimizer, _ = stepped(partial(torch.optim.RMSprop, alpha=0.5))
    assert isinstance(optimizer, torch.optim.RMSprop)
    theta, square = START.copy(), 0.0
    for gradient in GRADIENTS:
        square = 0.5 * square + 0.5 * gradient**2
        theta = theta - LR * gradient / (np.sqrt(square) + 1e-8)
    assert found == pytest.approx(theta, abs=1e-12)


@pytest.mark.parametrize("optimizer", ["adafactor", torch.optim.Adafactor, "sgd", "schedule-free"])
def test_optimizers_train_a_mask_that_leaves_tensors_empty(optimizer) -> None:
    model = ls.tiny_model("llama", vocab_size=len(ls.tiny_tokenizer()))
    mask = ls.random_mask(model, count=3, targets="*_proj", sampling="exact")
    assert 0 in {i.numel() for i in mask.indices.values()}
    ls.attach(model, mask)
    run = ls.finetune(
        model, ls.tiny_tokenizer(), tiny_task(24), lr=1e-2, epochs=1, optimizer=optimizer
    )
    assert not run.diverged
    assert run.distance["l2"] > 0


def test_a_missing_schedulefree_is_named_with_the_line_that_installs_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    with pytest.raises(UserError, match="pip install schedulefree"):
        make_optimizer("schedule-free", [nn.Parameter(torch.zeros(2))], lr=0.1)


def test_a_mask_that_moves_wants_the_model_itself() -> None:
    model = ls.tiny_model("llama", vocab_size=len(ls.tiny_tokenizer()))
    wrapped = nn.DataParallel(model)
    with pytest.raises(UserError, match="got it wrapped in DataParallel; pass the model inside"):
        ls.finetune(
            wrapped, ls.tiny_tokenizer(), tiny_task(24), lr=0.1,
            schedule=ls.Schedule("static", count=9),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": "adam"}, "optimizer to be one of adamw, sgd, adafactor, schedule-free"),
        ({"optimizer": "adamw", "momentum": 0.9}, "takes momentum, got 'adamw'; leave momentum"),
        ({"optimizer": "sgd", "betas": (0.8, 0.9)}, "takes betas, got 'sgd'"),
        ({"optimizer": "adafactor", "eps": 1e-3}, "takes eps, got 'adafactor'"),
        ({"optimizer": torch.optim.NAdam, "weight_decay": 0.1}, "a function, which sets its own"),
        ({"optimizer": "schedule-free", "lr_schedule": "cosine"}, 'lr_schedule "constant" with'),
        ({"optimizer": lambda parameters, lr: None}, "expected optimizer to be a function that"),
        ({"optimizer": "sgd", "schedule": ls.Schedule("static", count=9)},
         "adamw or a landscape.AdamW, whose state follows a mask that moves, got 'sgd'"),


    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused_before_a_step(settings, words) -> None:
    model = ls.tiny_model("llama", vocab_size=len(ls.tiny_tokenizer()))
    if "schedule" not in settings:
        ls.attach(model, ls.random_mask(model, density=0.1))
    with pytest.raises(UserError, match=words):
        ls.finetune(model, ls.tiny_tokenizer(), tiny_task(24), **({"lr": 0.1} | settings))


def test_an_optimizer_that_asks_for_the_loss_again_is_refused_before_training() -> None:
    with pytest.raises(UserError, match="steps by the gradient it has, got LBFGS"):
        make_optimizer(torch.optim.LBFGS, [nn.Parameter(torch.zeros(3))], lr=1.0)
    for kind in (torch.optim.NAdam, torch.optim.RMSprop, partial(ls.AdamW)):
        make_optimizer(kind, [nn.Parameter(torch.zeros(3))], lr=1.0)
