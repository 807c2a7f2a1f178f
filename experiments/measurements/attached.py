"""What measurements of the pretrained model attach to it, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from landscape.masks import Mask, random_mask
from landscape.subspace import attach, detach
from landscape.sweep.measurements import Point
from landscape.sweep.methods import drawn_by


@contextmanager
def attached(model: nn.Module, mask: Mask) -> Iterator[None]:
    """Attach a mask, and detach it whatever happens."""
    attach(model, mask)
    try:
        yield
    finally:
        detach(model)


def random(point: Point, ratio: float) -> Mask:
    """Draw the random mask of a ratio as a run of the same seed would."""
    seed = drawn_by(point.config)
    return random_mask(point.model, ratio=ratio, targets=list(point.config.targets), seed=seed)
