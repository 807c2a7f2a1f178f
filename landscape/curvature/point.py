"""The point at which curvature is measured: how the model is called, and whether it has moved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape.errors import UserError

_BATCH_STATISTICS = nn.modules.batchnorm._BatchNorm


@contextlib.contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Put a model into the state in which its loss has a second derivative, and restore it after.

    Evaluation mode (no dropout), math attention (the fused kernels have no double backward),
    gradients on, autocast off. Everything is restored, also after an exception.
    """
    training = [module for module in model.modules() if module.training]
    device = next((p.device.type for p in model.parameters()), "cpu")
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device, enabled=False),
        sdpa_kernel(SDPBackend.MATH),
    ):
        try:
            if training:
                model.eval()
            yield
        finally:
            for module in training:
                module.training = True


def refuse_batch_statistics(model: nn.Module) -> None:
    """Refuse a model whose loss couples the rows of a batch through batch normalisation.

    Raises:
        UserError: a BatchNorm is in train mode, or keeps no running statistics.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BATCH_STATISTICS):
            if module.running_mean is None:
                raise UserError(
                    f"expected running statistics in {name}, got a BatchNorm without them, so that "
                    "the loss of a row depends on its batch; build it with track_running_stats=True"
                )
            if module.training:
                raise UserError(
                    f"expected {name} in evaluation mode, got a BatchNorm in train mode; "
                    "call model.eval() and measure the model that is evaluated"
                )


class Point:
    """Remember where a model stood, to tell whether it has moved since.

    Compares the version counters and addresses of all its parameters and buffers, and the values
    of the trainable ones. What it cannot see is a frozen tensor written through ``.data``;
    `health_check` can.

    Cost: one vector of the size of the trainable numbers.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[Tensor]) -> None:
        self._versions = _versions(model, parameters)
        self._values = [parameter.detach().clone() for parameter in parameters]

    def has_moved(self, model: nn.Module, parameters: Sequence[Tensor]) -> bool:
        """Tell whether a parameter or buffer changed since this point was remembered."""
        return _versions(model, parameters) != self._versions or not all(
            torch.equal(now.detach(), then)
            for now, then in zip(parameters, self._values, strict=True)
        )


def _versions(model: nn.Module, parameters: Sequence[Tensor]) -> list[tuple[int, int]]:
    tensors = [*parameters, *model.parameters(), *model.buffers()]
    return [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]
