"""Training mode, with dropout by a seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def training_mode(model: nn.Module, seed: int) -> Iterator[None]:
    """Let dropout work inside, drawn from a seed; mode and generators are as before afterwards."""
    before = model.training
    model.train()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        model.train(before)
