"""Time and memory of masks: making one for OPT-13b's shapes, attaching many seeded deltas."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from statistics import median
from typing import Any

import torch
from torch import nn

from landscape.bench.memory import peak_memory
from landscape.errors import UserError
from landscape.folders import provenance
from landscape.masks import random_mask
from landscape.subspace import attach, detach, trainable

#: OPT-13b: 40 layers of width 5,120; its q and v hold 2.1e9 weights
LAYERS, HIDDEN, FFN, VOCABULARY = 40, 5_120, 20_480, 50_272
RATIO = 1e-5
#: attached deltas: layers, then (width, count); 16 times the weights, 16 times the count
DELTA_LAYERS = 12
DELTA_CELLS = ((256, 1_000), (1_024, 1_000), (1_024, 16_000))


def bench_masks(*, deltas: int = 1000) -> dict[str, Any]:
    """Measure making a mask of OPT-13b in a fresh process, and attaching deltas in turn.

    Args:
        deltas: seeded deltas attached one after another in each cell, at least 1: mask drawn,
            attached, theta filled, detached.

    Returns:
        `creation`: candidates, count, seconds, added_memory (peak over what the process held
        before, bytes); `attaching`: weights, count and median seconds a delta in each cell;
        `weights_ratio`: the time at 16 times the weights over that at equal count; provenance.

    Raises:
        UserError: deltas is below 1.
    """
    if deltas < 1:
        raise UserError(f"expected at least 1 delta, got {deltas}; give deltas=1 or more")
    command = [sys.executable, "-m", "landscape.bench.masks"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    cells = [_attach_in_turn(width, count, deltas) for width, count in DELTA_CELLS]
    return {
        "creation": json.loads(done.stdout.splitlines()[-1]),
        "deltas": deltas,
        "attaching": cells,
        "weights_ratio": cells[1]["seconds"] / cells[0]["seconds"],
        "provenance": provenance(),
    }


def _attach_in_turn(width: int, count: int, deltas: int) -> dict[str, Any]:
    """Attach deltas to a stack of q and v projections, each with its own seed."""
    model = nn.ModuleDict()
    for layer in range(DELTA_LAYERS):
        for name in ("q_proj", "v_proj"):
            model[f"{layer}_{name}"] = nn.Linear(width, width, bias=False)
    times = []
    for seed in range(deltas):
        start = time.perf_counter()
        mask = random_mask(model, count=count, targets="*_proj", seed=seed)
        attach(model, mask)
        with torch.no_grad():
            for theta in trainable(model).values():
                theta.fill_(1e-3)
        detach(model)
        times.append(time.perf_counter() - start)
    weights = sum(p.numel() for p in model.parameters())
    return {"weights": weights, "count": count, "seconds": median(times)}


def _make_mask() -> dict[str, Any]:
    """Draw a mask for OPT-13b's shapes, without weights, and measure it."""
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, word_embed_proj_dim=HIDDEN, ffn_dim=FFN,
        num_hidden_layers=LAYERS, num_attention_heads=40,
    )  # fmt: skip
    with torch.device("meta"):
        model = OPTForCausalLM(config)
    with peak_memory() as peak:
        start = time.perf_counter()
        mask = random_mask(model, ratio=RATIO, targets="*.[qv]_proj", seed=0)
        seconds = time.perf_counter() - start
    return {
        "candidates": mask.size,
        "count": mask.count,
        "seconds": seconds,
        "added_memory": max(0, peak["bytes"] - peak["before"]),
    }


if __name__ == "__main__":
    print(json.dumps(_make_mask()))
