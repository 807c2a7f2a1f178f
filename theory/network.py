"""The same regression as a torch module, on which the engine and its curvature run unchanged."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from landscape import checks
from landscape.errors import UserError
from landscape.masks import Mask
from theory.features import Indices
from theory.problems import MaskedRegression
from theory.restricted import Restricted

Batch = tuple[Tensor, Tensor]
TARGET = "linear"  # name of the module whose weight is w, for the masks' ``targets``


class LinearNetwork(nn.Module):
    """Predict x w with a linear layer that starts at w_0 = 0, in float64.

    Args:
        d: number of features; the weight is (1, d), so its flat index is the feature's.

    >>> LinearNetwork(3)(torch.ones(2, 3, dtype=torch.float64)).tolist()
    [0.0, 0.0]
    """

    def __init__(self, d: int) -> None:
        super().__init__()
        d = checks.whole("d", d, least=1)
        self.linear = nn.Linear(d, 1, bias=False, dtype=torch.float64)
        nn.init.zeros_(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the predictions (b,) for samples x (b, d)."""
        prediction: Tensor = self.linear(x).squeeze(-1)
        return prediction


def squared_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
    """Return (sum over the batch of (y - x w)^2 / 2, number of samples).

    The mean over all samples is L(w) = ||y - X M w||^2 / (2n), so the engine's Hessian on a mask
    is M X^T X M / n in its k coordinates.

    Args:
        batch: samples x (b, d) and targets y (b,).

    Raises:
        UserError: predictions and targets of different shapes, which torch would broadcast.
    """
    x, y = batch
    predicted = model(x)
    if predicted.shape != y.shape:
        raise UserError(
            f"expected a target for each prediction, got targets of shape {tuple(y.shape)} for "
            f"predictions of shape {tuple(predicted.shape)}; give x (b, d) and y (b,)"
        )
    return 0.5 * (predicted - y).square().sum(), len(y)


def batches(problem: MaskedRegression, size: int | None = None) -> Iterator[Batch]:
    """Yield the samples of a problem as tensors (b, d) and (b,); cost n d numbers in memory.

    Args:
        size: samples a batch; None gives one batch of all n.
    """
    x = torch.from_numpy(problem.features.columns().T.copy())
    y = torch.from_numpy(problem.y)
    size = problem.n if size is None else size
    yield from zip(x.split(size), y.split(size), strict=True)


def restrict(problem: MaskedRegression, mask: Mask) -> Restricted:
    """Restrict the closed forms to the features that a mask of ``LinearNetwork`` keeps."""
    indices: Indices = mask.indices[f"{TARGET}.weight"].numpy()
    return problem.restrict(indices)
