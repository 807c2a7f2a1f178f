"""Time and memory of selecting a mask by a score, against one gradient step on the same data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import OPTConfig, OPTForCausalLM

from landscape.bench.interleaved import interleaved, refuse_rounds
from landscape.bench.memory import peak_memory
from landscape.bench.variants import BATCH, RATIO, TARGETS, TOKENS
from landscape.folders import provenance
from landscape.models.targets import target_shapes
from landscape.selection import select_mask

#: score -> its options
SCORES: dict[str, dict[str, Any]] = {
    "gradient": {},
    "id3": {"eps": 1e-3, "exp": 2.0},
    "fisher": {},
}


def bench_scoring(*, rounds: int = 5, seed: int = 0, memory: bool = True) -> dict[str, Any]:
    """Time a selection and a gradient step in turn, on an OPT-125m shape.

    A gradient step is the forward and backward of the same batch that leaves the gradients of the
    same target weights. The output head runs on the scored position only, as in the toolkit's
    tasks.

    Args:
        rounds: timed rounds after one warm-up, at least 1.
        seed: of the random weights and tokens.
        memory: whether to measure memory, each case in a process of its own.

    Returns:
        `cells`: layers, score, weights in the targets, seconds of the selection and of the step,
        `over_step`, the median ratio of a round, and `memory`, bytes at the peak over those of a
        forward and backward of the frozen model, the model itself left out of both; `provenance`.

    Raises:
        UserError: rounds is below 1.
    """
    refuse_rounds(rounds)
    cells = []
    for layers in tqdm(TARGETS, leave=False, disable=None):
        for score in SCORES:
            cell = _cell(layers, score, rounds, seed)
            if memory:
                floor = _peak_of(layers, score, "floor", seed)
                cell["memory"] = _peak_of(layers, score, "select", seed) - floor
            cells.append(cell)
    return {"rounds": rounds, "cells": cells, "provenance": provenance()}


def _cell(layers: str, score: str, rounds: int, seed: int) -> dict[str, Any]:
    model, select, step = build(layers, score, seed)
    times = interleaved({"select": select, "step": step}, rounds)
    weights = sum(torch.Size(s).numel() for s in target_shapes(model, _patterns(layers)).values())
    return {
        "layers": layers, "score": score, "weights": weights,
        "seconds": {name: median(seconds) for name, seconds in times.wall.items()},
        "over_step": times.over("select", "step")["wall"],
    }  # fmt: skip


def build(layers: str, score: str, seed: int) -> tuple[Any, Callable[[], Any], Callable[[], None]]:
    """Build a model, a function that selects a mask, and one that makes a gradient step."""
    torch.manual_seed(seed)
    model: Any = OPTForCausalLM(OPTConfig()).eval()
    tokens = torch.randint(4, 50_000, (BATCH, TOKENS))
    batch = {"input_ids": tokens, "labels": tokens[:, -1]}
    names = target_shapes(model, _patterns(layers))
    parameters = dict(model.named_parameters())

    def select() -> Any:
        return select_mask(
            model, score=score, batches=[batch], loss=_loss, ratio=RATIO,
            targets=_patterns(layers), **SCORES[score],
        )  # fmt: skip

    def step() -> None:
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in names)
        _loss(model, batch)[0].backward()
        model.zero_grad(set_to_none=True)

    return model, select, step


def _loss(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
    """Predict the last token."""
    logits = model(input_ids=batch["input_ids"], logits_to_keep=2, use_cache=False).logits[:, 0]
    loss = torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="sum")
    return loss, len(batch["labels"])


def _patterns(layers: str) -> list[str]:
    return [f"*.{name}" for name in TARGETS[layers]]


def _peak_of(layers: str, score: str, what: str, seed: int) -> int:
    """Return the memory that work adds to a model, in bytes, in a fresh process."""
    arguments = [layers, score, what, str(seed)]
    command = [sys.executable, "-m", "landscape.bench.scoring", *arguments]
    # large tensors that are freed go back to the system at once: holes are not the method's
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 18)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return int(json.loads(done.stdout.splitlines()[-1])["added"])


def _measure(layers: str, score: str, what: str, seed: str) -> None:
    """Measure this process: select twice, or carry gradients through the frozen model twice."""
    model, select, _ = build(layers, score, int(seed))
    tokens = torch.randint(4, 50_000, (BATCH, TOKENS))
    batch = {"input_ids": tokens, "labels": tokens[:, -1]}
    if what == "floor":
        model.requires_grad_(False)
        embedding = model.get_input_embeddings()
        embedding.register_forward_hook(lambda _m, _i, out: out.requires_grad_(True))
    with peak_memory() as peak:
        for _ in range(2):
            if what == "floor":
                _loss(model, batch)[0].backward()
            else:
                select()
    print(json.dumps({"added": peak["bytes"] - peak["before"]}))


if __name__ == "__main__":
    _measure(*sys.argv[1:])
