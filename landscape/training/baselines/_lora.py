"""LoRA: low-rank updates of the target matrices, made by peft."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from landscape import checks
from landscape.models.targets import AUTO
from landscape.training.baselines.wrapping import peft_package, target_layers, wrapped


def lora(
    model: nn.Module,
    *,
    rank: int = 8,
    alpha: float = 16,
    targets: str | Sequence[str] = AUTO,
    seed: int = 0,
) -> nn.Module:
    """Add low-rank updates alpha / rank * B A to target matrices.

    Args:
        model: the model to wrap; it is changed in place.
        rank: r, the inner dimension of the factors: A has shape (r, inputs), B (outputs, r).
        alpha: the scale of the update; at the start B is zero, and so is the update.
        targets: shell patterns of the matrices, as for `random_mask`.
        seed: of A's initialisation.

    Returns:
        peft's model around it.

    Raises:
        UserError: peft is missing, rank is below 1, or targets match no matrix of a layer.

    Source: Hu et al. 2021.
    """
    rank = checks.whole("rank", rank, least=1)
    config = peft_package().LoraConfig(r=rank, lora_alpha=alpha, **target_layers(model, targets))
    return wrapped(model, config, seed)
