"""Values that grids of several artefacts share, so that they share runs."""

from __future__ import annotations

from typing import Any

SEEDS = (0, 1, 2, 3, 4)
SMOKE: dict[str, Any] = {
    "model": "minilm-l6", "task": "rotten_tomatoes", "num_train": 24, "num_dev": 16, "num_test": 24,
    "epochs": 1,
}  # fmt: skip
"""The smallest that runs: the packaged encoder and reviews, three steps."""
LOCAL: dict[str, Any] = {
    "model": "smollm2-135m", "task": "rotten_tomatoes", "num_train": 320, "num_dev": 128,
    "num_test": 256, "epochs": 1,
}  # fmt: skip
"""The packaged language model: 40 steps, about half a minute a run."""
OPT: dict[str, Any] = {"model": "facebook/opt-125m", "task": "sst2", "targets": ("*.[qv]_proj",)}
"""Xu & Zhang 2024: 1000 training, 500 dev, 1000 test examples, 5 epochs of batches of 8."""


def separate(seeds: tuple[int, ...], offset: int = 100) -> list[tuple[int, int]]:
    """Return values of the axis ``seed+mask_seed``: every seed of the data has a mask of its own.

    >>> separate((0, 1))
    [(0, 100), (1, 101)]
    """
    return [(seed, seed + offset) for seed in seeds]
