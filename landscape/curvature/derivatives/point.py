"""The point at which curvature is measured: how the model is called, and whether it has moved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape.curvature.derivatives.layers import composed_weight_norm, dense_embeddings
from landscape.errors import UserError
from landscape.models.modes import eval_mode

_BatchNorm = nn.modules.batchnorm._BatchNorm


@contextlib.contextmanager
def evaluating(model: nn.Module, *, batch_statistics: bool = False) -> Iterator[None]:
    """Put a model into evaluation mode, without autocast; restore every module's mode at the end.

    Without autocast, for torch keeps the narrow copies of weights that it made inside one, and
    would not notice that weights are written in place.

    Args:
        model: the model.
        batch_statistics: let batch normalisation use the mean and variance of its batch, as in
            training; running statistics stay what they were.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)] if batch_statistics else []
    tracked = [norm.track_running_stats for norm in norms]
    device = next((p.device.type for p in model.parameters()), "cpu")
    with torch.autocast(device, enabled=False), eval_mode(model):
        try:
            for norm in norms:
                norm.training, norm.track_running_stats = True, False
            yield
        finally:
            for norm, was_tracked in zip(norms, tracked, strict=True):
                norm.training, norm.track_running_stats = False, was_tracked


@contextlib.contextmanager
def twice_differentiable(model: nn.Module, *, batch_statistics: bool = False) -> Iterator[None]:
    """Put a model into the state in which its loss has a second derivative, and restore it after.

    Evaluation mode (no dropout), math attention (the fused kernels have no double backward),
    gradients on, autocast off, weight normalisation made of plain torch (the fused kernel has a
    wrong double backward), gradients of embeddings dense. Everything is restored, also after an
    exception.
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        evaluating(model, batch_statistics=batch_statistics),
        sdpa_kernel(SDPBackend.MATH),
        composed_weight_norm(model),
        dense_embeddings(model),
    ):
        yield


def refuse_batch_statistics(model: nn.Module, allowed: bool | None, num_batches: int) -> None:
    """Refuse a model whose loss couples the rows of a batch through batch normalisation.

    Args:
        model: the model.
        allowed: whether batch statistics are asked for; None where nobody has said.
        num_batches: how many batches there are.

    Raises:
        UserError: a BatchNorm is in train mode and nobody has said which statistics are meant; or
            batch statistics of several batches are asked for, or of running ones where there are
            none.
    """
    norms = {n: m for n, m in model.named_modules() if isinstance(m, _BatchNorm)}
    if allowed and norms and num_batches > 1:
        raise UserError(
            f"expected a single batch for batch_statistics=True, got {num_batches}: batch "
            "normalisation couples the rows of a batch; pass one whole batch, or False"
        )
    for name, module in norms.items() if not allowed else ():
        if module.running_mean is None:
            raise UserError(
                f"expected running statistics in {name}, got a BatchNorm without them, so that "
                "the loss of a row depends on its batch; pass one batch and batch_statistics=True, "
                "or build it with track_running_stats=True"
            )
        if module.training and allowed is None:
            raise UserError(
                f"expected {name} in evaluation mode, got a BatchNorm in train mode; call "
                "model.eval() to measure the model that is evaluated, or say which you mean: "
                "batch_statistics=False for that, True for the loss that is trained (one batch)"
            )


class Point:
    """Remember where a model stood, to tell whether it has moved since.

    Compares the version counters and addresses of all its parameters and buffers, and the values
    of the trainable ones. What it cannot see is a frozen tensor written through ``.data``;
    `health_check` can.

    Cost: one vector of the size of the trainable parameters.
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
