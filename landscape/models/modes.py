"""Modes of a model: evaluation for a while, and then every module's own again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode; restore every module's own mode at the end.

    A module that was in evaluation mode within a model that trains, such as a frozen batch
    normalisation, is so again.
    """
    training = [module for module in model.modules() if module.training]
    if training:
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
