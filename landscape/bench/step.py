"""Time one training step of each method on an OPT-125m shape, interleaved, and its memory."""

from __future__ import annotations

import contextlib
from statistics import median
from typing import Any

import numpy as np
from tqdm import tqdm

from landscape.bench.apart import Apart
from landscape.bench.interleaved import refuse_rounds
from landscape.bench.variants import BATCH, OPT_125M, RATIO, TOKENS, VARIANTS, Shape, Variant
from landscape.folders import provenance
from landscape.sources.carriers import require

#: (layers, ratio) -> a variant whose peak memory is compared with the floor's
MEMORY = {
    ("q_v", 1e-4): Variant("masked", ratio=1e-4),
    ("q_v", 1e-3): VARIANTS["masked_full_head"],
    ("q_v", 9.9e-3): Variant("masked", ratio=9.9e-3),
    ("all", 1e-4): Variant("masked", layers="all", ratio=1e-4),
    ("all", 1e-3): VARIANTS["masked_all"],
    ("all", 9.9e-3): Variant("masked", layers="all", ratio=9.9e-3),
}
RATIOS = {
    "masked_over_floor": ("masked_full_head", "floor"),
    "masked_over_lora": ("masked", "lora"),
    "masked_over_lora_same_head": ("masked_full_head", "lora"),
    "masked_scored_over_lora_scored": ("masked", "lora_scored_head"),
    "masked_over_shira": ("masked", "shira"),
    "masked_over_shira_same_head": ("masked_full_head", "shira"),
    "masked_over_full": ("masked", "full"),
    "masked_over_full_same_head": ("masked_full_head", "full"),
    "masked_all_over_floor": ("masked_all", "floor"),
    "masked_all_over_lora_all": ("masked_all", "lora_all"),
    "floor_over_lora": ("floor", "lora"),
    "floor_over_shira": ("floor", "shira"),
    "floor_over_lora_all": ("floor", "lora_all"),
}
"""What the floor takes of a method's time is the least that a masked step could take of it."""


def bench_step(*, rounds: int = 9, seed: int = 0, shape: Shape = OPT_125M) -> dict[str, Any]:
    """Measure every variant once a round, in turn, and take medians of the pairwise ratios.

    Each variant lives in a process of its own, as a user's training does: what one of them leaves
    in the allocator would otherwise make the next one faster or slower.

    Args:
        rounds: timed rounds after one warm-up round, at least 1.
        seed: seed of the random weights and tokens.
        shape: sizes of the model and the batch.

    Returns:
        `seconds` (median by variant), the ratios, the `quartiles` of each over the rounds (what
        the machine's noise leaves of it), `peak_memory` in bytes by variant and
        `peak_memory_over_floor`, layers -> mask's ratio -> a masked step's peak over the floor's,
        provenance.

    Raises:
        UserError: rounds is below 1 or peft is missing.
    """
    refuse_rounds(rounds)
    require("this benchmark", "peft")
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with contextlib.ExitStack() as stack:
        steps = {n: stack.enter_context(Apart(v, seed, shape)) for n, v in VARIANTS.items()}
        for turn in tqdm(range(rounds + 1), desc="rounds", leave=False, disable=None):
            for name, step in steps.items():
                taken = step()
                if turn:
                    seconds[name].append(taken)
        peaks = {name: step.peak() for name, step in steps.items()}
    result: dict[str, Any] = {
        "shape": f"OPT-125m, batch {BATCH} x {TOKENS} tokens, AdamW, masked ratio {RATIO} on q, v",
        "rounds": rounds,
        "seconds": {name: median(times) for name, times in seconds.items()},
    }
    pairs = {
        key: [a / b for a, b in zip(seconds[over], seconds[under], strict=True)]
        for key, (over, under) in RATIOS.items()
    }
    result |= {key: median(ratios) for key, ratios in pairs.items()}
    result["quartiles"] = {key: np.quantile(r, [0.25, 0.75]).tolist() for key, r in pairs.items()}
    return result | _memory(peaks, seed, shape) | {"provenance": provenance()}


def _memory(peaks: dict[str, int], seed: int, shape: Shape) -> dict[str, Any]:
    """Compare the peaks of `MEMORY` with the floor's; what was not timed steps three times."""
    known = {variant: peaks[name] for name, variant in VARIANTS.items()}
    over: dict[str, dict[str, float]] = {layers: {} for layers, _ in MEMORY}
    for (layers, ratio), variant in MEMORY.items():
        if variant not in known:
            with Apart(variant, seed, shape) as step:
                for _ in range(3):
                    step()
                known[variant] = step.peak()
        over[layers][f"{ratio:g}"] = known[variant] / peaks["floor"]
    return {
        "peak_memory": peaks,
        "peak_memory_masked_over_floor": peaks["masked_full_head"] / peaks["floor"],
        "peak_memory_over_floor": over,
    }
