"""BitFit: the biases alone are trained."""

from __future__ import annotations

from torch import nn
from transformers.pytorch_utils import Conv1D

from landscape.errors import UserError


def bitfit(model: nn.Module, *, norms: bool = True) -> nn.Module:
    """Train the biases alone.

    Args:
        model: changed in place.
        norms: with the biases of LayerNorms, as the papers train it; False leaves the biases of
            linear layers, as table 5 of Xu & Zhang 2024 counts them.

    Returns:
        The model.

    Raises:
        UserError: the model has no such bias.

    Source: Ben Zaken et al. 2021.
    """
    kinds = (nn.Linear, Conv1D, nn.LayerNorm) if norms else (nn.Linear, Conv1D)
    biases = [m.bias for m in model.modules() if isinstance(m, kinds) and m.bias is not None]
    if not biases:
        raise UserError(
            f"expected a model with biases for bitfit, got {type(model).__name__} without any; "
            "use a mask or lora"
        )
    model.requires_grad_(False)
    for bias in biases:
        bias.requires_grad_(True)
    return model
