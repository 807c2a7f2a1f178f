"""Inside torch.autocast torch keeps narrow copies of weights; whoever writes weights says so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import landscape as ls

NARROW = {"device_type": "cpu", "dtype": torch.bfloat16}


def task() -> ls.Task:
    words = ("terrible", "great")
    rows = [
        ls.Example(prompt=f"film {i} is {words[i % 2]}", candidates=(" no", " yes"), label=i % 2)
        for i in range(24)
    ]
    return ls.Task("given", tuple(rows[:16]), tuple(rows[16:20]), tuple(rows[20:]))


def test_full_fine_tuning_inside_autocast_sees_the_weights_that_it_writes() -> None:
    """Every forward saw the first step's weights: a loss of .53 where it is .33."""
    task_, losses = task(), []
    for inside in (True, False):
        model, tokenizer = ls.tiny_model("opt"), ls.tiny_tokenizer()
        options = {"lr": 3e-3, "epochs": 4, "batch_size": 16, "seed": 0}
        with torch.autocast(**NARROW, enabled=inside):
            run = ls.finetune(model, tokenizer, task_, **options)
            found = ls.evaluate(model, tokenizer, task_)["loss"]
        losses.append([step["loss"] for step in run.history] + [found])
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)


def test_a_model_merged_inside_autocast_computes_with_the_merged_weights() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)), torch.ones(4, 8)
    with torch.autocast(**NARROW):
        before = model(x)
        ls.attach(model, ls.random_mask(model, density=0.5, targets="*weight"))
        with torch.no_grad():
            for theta in ls.trainable(model).values():
                theta.add_(0.3)
        masked = model(x)
        ls.merge(model)
        merged = model(x)
    with torch.autocast(**NARROW):
        fresh = model(x)
    assert torch.equal(merged, fresh)
    torch.testing.assert_close(merged, masked, rtol=0.05, atol=0.05)
    assert not torch.allclose(merged, before, rtol=0.05, atol=0.05)
