"""Training mode, with dropout by a seed and batch norms as they were pretrained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def training_mode(model: nn.Module, seed: int) -> Iterator[None]:
    """Let dropout work inside, drawn from a seed; modes and generators are as before afterwards.

    Batch norms that keep statistics stay in eval mode: they would change what a delta is a change
    of, and make the loss of an example depend on its batch.
    """
    before = [(module, module.training) for module in model.modules()]
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats:
            module.eval()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        for module, training in before:
            module.training = training
