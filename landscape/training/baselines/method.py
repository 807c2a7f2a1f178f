"""What training has to do for a method besides updating its trainable parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from landscape.training.baselines._adalora import AdaLora


class Method(Protocol):
    """What a training loop asks of the method that a model was made with."""

    def penalty(self) -> Tensor | float:
        """Return what is added to the mean loss of a batch before the backward: a scalar."""

    def step(self, step: int) -> None:
        """Do what follows the optimizer's update number `step`, counted from 0."""

    def state_dict(self) -> dict[str, Tensor]:
        """Copy what the method holds between steps beside parameters and the optimizer's state."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a state, on a model that was made as the first one was."""


class Stateless:
    """A method that is its trainable parameters and nothing else: most of them."""

    def penalty(self) -> float:
        """Return 0: nothing is added to the loss."""
        return 0.0

    def step(self, step: int) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take nothing."""


def method_of(model: nn.Module) -> Method:
    """Return the method that a model was made with, as its modules and peft's settings show it.

    Args:
        model: a model; of `baselines`, of peft, with a mask, or plain.

    Returns:
        The method; a `Stateless` one for full fine-tuning, BitFit, a mask, adapters and LoRA.
    """
    config = AdaLora.config_of(model)
    return Stateless() if config is None else AdaLora(model, config)
