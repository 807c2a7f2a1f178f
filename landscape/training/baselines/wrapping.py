"""What the methods that peft makes have in common: the package, the layers, a seeded start."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from landscape import seeds
from landscape.errors import UserError
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
        UserError: targets match nothing, or what is no matrix of a layer.
    """
    shapes = target_shapes(model, targets)
    for name, shape in shapes.items():
        if len(shape) < 2 or not name.endswith(".weight"):
            raise UserError(
                f"expected targets that are matrices of layers, got {name} of shape "
                f"{tuple(shape)}, to which no low-rank update is added; name linear layers, as "
                "'*.q_proj'"
            )
    names = [name.rpartition(".")[0] for name in shapes]
    modules = dict(model.named_modules())
    transposed = any(isinstance(modules[name], Conv1D) for name in names)
    return {"target_modules": names, "fan_in_fan_out": transposed}


def wrapped(model: nn.Module, config: object, seed: int) -> nn.Module:
    """Wrap a model as a peft configuration says; what is drawn is a function of the seed alone.

    Raises:
        UserError: peft adapts no layer of a kind that was targeted.
    """
    with seeds.drawing(seed), warnings.catch_warnings():
        # peft asks transformers by a name that is going to be another
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        try:
            made: nn.Module = peft_package().get_peft_model(model, config)
        except ValueError as error:
            said = str(error).partition("\n")[0]
            raise UserError(
                f"expected layers that peft can adapt, got: {said}; name linear ones with targets, "
                "and load the model again"
            ) from error
    return made
