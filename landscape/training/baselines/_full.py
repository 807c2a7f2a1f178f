"""Full fine-tuning: every parameter is trained."""

from __future__ import annotations

from torch import nn


def full(model: nn.Module) -> nn.Module:
    """Train every parameter.

    Args:
        model: changed in place.

    Returns:
        The model.
    """
    return model.requires_grad_(True)
