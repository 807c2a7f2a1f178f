"""An operator on the trainable parameters of a model: which tensors its vectors stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from landscape.curvature.derivatives.space import Space
from landscape.curvature.operators.linear import LinearOperator


class ModelOperator(LinearOperator):
    """A matrix whose vectors are trainable parameters, flattened and concatenated in order.

    Args:
        model: any module with trainable parameters.
        parameters: tensors of any shape with ``requires_grad``; default `trainable(model)`.

    Raises:
        UserError: nothing trainable, or parameters that are frozen or complex.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[Tensor] | None) -> None:
        self._model = model
        self._space = Space(model, parameters)
        self._dtype = self._space.dtype

    @property
    @final
    def parameters(self) -> tuple[Tensor, ...]:
        """The tensors whose entries the vectors are."""
        return self._space.parameters

    @property
    @final
    def names(self) -> tuple[str, ...]:
        """The tensor names of `parameters`, in order; a position where the model has no name."""
        return self._space.names

    @property
    @final
    def size(self) -> int:
        return sum(self._space.sizes)

    @property
    @final
    def dtype(self) -> torch.dtype:
        return self._dtype

    @property
    @final
    def device(self) -> torch.device:
        return self._space.device
