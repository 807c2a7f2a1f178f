"""What is measured: models with random weights, masks, batches of random tokens, a made-up task."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import OPTConfig, OPTForCausalLM

from landscape import seeds
from landscape.masks import random_mask
from landscape.models import tiny_model
from landscape.subspace import attach
from landscape.tasks import Example, Task
from landscape.tasks.outputs.scoring import task_loss

LOSSES = ("classification", "language modelling")

#: a large shape has the first mask with the first loss, and the second with the second
MASKS: dict[str, dict[str, Any]] = {
    "1 % of all": {"ratio": 1e-2},
    "0.1 % in q, v": {"ratio": 1e-3, "targets": "*.[qv]_proj"},
}
SHAPES = ("tiny", "opt-125m")

Batch = dict[str, Tensor]


def make_model(shape: str, seed: int) -> Any:
    """Build a model of one of SHAPES with random weights, in evaluation mode."""
    if shape == "tiny":
        return tiny_model("opt", seed=seed)
    with seeds.drawing(seed):
        return OPTForCausalLM(OPTConfig()).eval()


def make_batch(rows: int, tokens: int, seed: int, loss: str = "classification") -> Batch:
    """Make a batch of random tokens that every shape has, as `collate` does.

    Classification between two candidates at the last position, or a next token at every one.
    """
    generator = seeds.generator(seed)
    ids, targets = torch.randint(4, 260, (2, rows, tokens), generator=generator)
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.randint(0, 2, (rows,), generator=generator),
    }
    if loss == "language modelling":
        return batch | {"targets": targets, "target_mask": torch.ones_like(ids, dtype=torch.bool)}
    return batch | {
        "candidate_ids": torch.tensor([[10, 20]]).expand(rows, 2),
        "candidate_mask": torch.ones(rows, 2, dtype=torch.bool),
    }


def make_large(shape: str, seed: int) -> tuple[nn.Module, Batch]:
    """Build the model under a mask of 1 % and a batch of 8 x 64 tokens."""
    model = make_model(shape, seed)
    attach(model, random_mask(model, ratio=1e-2, seed=seed))
    return model, make_batch(8, 64, seed)


def take_gradient(model: nn.Module, batch: Batch) -> None:
    """Make the forward and backward of the mean loss of a batch."""
    value, count = task_loss(model, batch)
    (value / count).backward()


def make_task(count: int) -> Task:
    """Make a task of two labels with so many examples to train on."""
    examples = tuple(
        Example(f"film {i} was seen by nobody so", (" terrible", " great"), i % 2)
        for i in range(count + 8)
    )
    return Task(
        name="made up", train=examples[:count], dev=examples[count:-4], test=examples[-4:],
        metric="accuracy", loss="classification", source={"kind": "benchmark"},
    )  # fmt: skip
