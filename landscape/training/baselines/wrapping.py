"""What the methods that peft makes have in common: the package, the layers, a seeded start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from landscape import seeds
from landscape.models.targets import target_shapes
from landscape.sources.carriers import optional


def peft_package() -> Any:
    """Import peft, an optional package.

    Raises:
        UserError: it is not installed.
    """
    return optional("peft")


def target_layers(model: nn.Module, targets: str | Sequence[str]) -> dict[str, Any]:
    """Return what a peft configuration says of its target layers.

    Raises:
        UserError: targets match nothing.
    """
    names = [name.rpartition(".")[0] for name in target_shapes(model, targets)]
    modules = dict(model.named_modules())
    transposed = any(isinstance(modules[name], Conv1D) for name in names)
    return {"target_modules": names, "fan_in_fan_out": transposed}


def wrapped(model: nn.Module, config: object, seed: int) -> nn.Module:
    """Wrap a model as a peft configuration says; what is drawn is a function of the seed alone."""
    with seeds.drawing(seed):
        made: nn.Module = peft_package().get_peft_model(model, config)
    return made
