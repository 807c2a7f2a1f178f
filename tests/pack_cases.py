"""Packs of tiny models in float64, and the solo runs that they stand for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from samples import tiny_task
from torch import nn

import landscape as ls

TOKENIZER = ls.tiny_tokenizer()
Prepare = Callable[[int, nn.Module], None]


def masked(architecture: str, **config) -> tuple[nn.Module, list[ls.Lane], Prepare]:
    """A language model, with three lanes that differ in all that lanes may differ in."""
    model = ls.tiny_model(architecture, vocab_size=len(TOKENIZER), **config).double()
    targets = "*.c_attn" if architecture == "gpt2" else "*.[qv]_proj"
    masks = [
        ls.random_mask(model, ratio=1e-2, seed=1, targets=targets),
        ls.structured_mask(model, ratio=5e-2, seed=2, targets=targets),
        ls.random_mask(model, ratio=2e-3, seed=3, targets=targets),
    ]
    settings = [
        {"lr": 1e-1, "epochs": 2, "batch_size": 5},
        {"lr": 1e-2, "epochs": 3, "batch_size": 4, "lr_schedule": "linear", "warmup": 2},
        {"lr": 3e-2, "epochs": 2, "batch_size": 3, "accumulate": 2, "max_gradient_norm": 0.05},
    ]
    lanes = [
        ls.Lane(tiny_task(16 + 2 * i), mask=mask, seed=i, **own)
        for i, (mask, own) in enumerate(zip(masks, settings, strict=True))
    ]
    return model, lanes, lambda i, solo: ls.attach(solo, masks[i])


def headed(architecture: str = "bert", **config) -> tuple[nn.Module, list[ls.Lane], Prepare]:
    """A classifier, with lanes that have heads of their own: fitted, trained, or the model's."""
    model = ls.tiny_model(architecture, **config).double()
    tasks = [texts(count) for count in (18, 20, 15, 18)]

    def prepare(i: int, solo: nn.Module) -> None:
        if i != 2:
            ls.fit_head(solo, ls.make_batches(tasks[i].train, TOKENIZER, 4))
        if i == 2:
            ls.baselines.bitfit(solo)
            return
        if i == 3:
            solo.requires_grad_(False)
            for name, p in solo.named_parameters():
                p.requires_grad_("LayerNorm" in name)
            return
        targets = ["*.query", "*.value"]
        mask = ls.random_mask(solo, ratio=1e-2, seed=i, targets=targets)
        ls.attach(solo, mask, dense="classifier*" if i else ())

    settings = [
        {"lr": 1e-1, "epochs": 2, "batch_size": 5},
        {"lr": 1e-2, "epochs": 2, "batch_size": 5, "dense_lr": 1e-3},
        {"lr": 1e-2, "epochs": 2, "batch_size": 6, "optimizer": "sgd", "momentum": 0.9},
        {"lr": 1e-2, "epochs": 1, "batch_size": 2, "accumulate": 3, "loss_average": "batches"},
    ]
    lanes = []
    for i, own in enumerate(settings):
        solo = copy.deepcopy(model)
        prepare(i, solo)
        lanes.append(ls.lane_of(model, solo, tasks[i], seed=i, **own))
    return model, lanes, prepare


def texts(count: int) -> ls.Task:
    """Texts with a label, whose lengths differ."""
    words = ("bad", "good")
    examples = tuple(
        ls.TextExample(
            texts=(f"film {i % 5} is {words[i % 2]}" + " and" * ((i * count) % 7),),
            label=i % 2, classes=("no", "yes"),
        )
        for i in range(count)
    )  # fmt: skip
    return ls.Task("texts", examples, tuple(examples[:8]), tuple(examples[:9]))


def solo_runs(
    model: nn.Module, lanes: Sequence[ls.Lane], prepare: Prepare, tokenizer: Any = TOKENIZER
) -> list[tuple[ls.Run, dict[str, torch.Tensor]]]:
    """What `finetune` makes of each lane's model: the run, and what is trained at its end."""
    found = []
    for i, lane in enumerate(lanes):
        solo = copy.deepcopy(model)
        prepare(i, solo)
        run = ls.finetune(solo, tokenizer, lane.task, **vars(lane.settings))
        found.append((run, {n: p.detach().clone() for n, p in ls.trainable(solo).items()}))
    return found
