"""The loss on a line or a grid through the present weights, cell by cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from landscape import checks
from landscape.curvature import HessianOperator
from landscape.errors import UserError
from landscape.losses import Loss
from landscape.subspace import trainable
from landscape.surface.cells import Cells, tensors_of
from landscape.surface.directions import Directions, columns, flat, orthonormal
from landscape.surface.grid import MeanLoss, Progress, Surface, fill, moving

Span: TypeAlias = float | Sequence[float]
"""How far an axis goes to both sides, in the Euclidean norm; one for all axes or one for each."""


def surface_1d(
    model: nn.Module,
    batches: Iterable[object],
    direction: Directions,
    *,
    span: Span,
    **options: Any,
) -> Surface:
    """Compute the loss along one direction; see `surface_2d` for the options.

    Args:
        model: any module with trainable parameters.
        batches: what `loss` takes.
        direction: shape (size,) or (size, 1), any norm; or a result, whose first direction counts.
        span: the axis goes from -span to span, in the Euclidean norm of the displacement.
        options: as `surface_2d`.
    """
    return _scan(model, batches, columns(direction, 1), span, **options)


def surface_2d(
    model: nn.Module,
    batches: Iterable[object],
    directions: Directions,
    *,
    span: Span,
    points: int = 21,
    loss: Loss | nn.Module | None = None,
    predict: bool = False,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> Surface:
    """Compute the loss on a plane through the present weights.

    The second direction is made orthogonal to the first and both are made unit vectors, so that
    the axes are true displacements. The middle cell is the model itself. Losses are kept as they
    come. The model is in evaluation mode meanwhile, without autocast; mode and weights are
    restored bit for bit, also after an exception.

    Args:
        model: any module with trainable parameters: masked, LoRA, or full.
        batches: what `loss` takes; the loss is the mean over all loss terms.
        directions: shape (size, 2), or two of shape (size,), such as `random_directions` and
            `displacement`; or the result of `lanczos` or `Trajectory.pca`, whose first two count.
        span: an axis goes from -span to span, in the Euclidean norm of the displacement; one
            number, or one for each axis.
        points: points an axis, odd, at least 3.
        loss: (model, batch) -> (sum, number of terms), or a criterion; default and checks as
            `HessianOperator`. One that differentiates inside is evaluated with its graph.
        predict: also compute the quadratic prediction: a gradient and a matvec a direction.
        folder: a folder for the cells; each is stored when it is computed, and the same call
            with the same folder goes on where it was stopped, also with another number of threads:
            directions that differ by less than 1 % are the same, and the folder's are used.
        progress: called as progress(cells done, cells in all).

    Returns:
        The surface.

    Raises:
        UserError: an argument out of its range, directions that are zero, not finite or parallel,
            or a folder of another surface.

    Cost: points^2 passes over the batches, one copy of the trainable parameters and the directions.
    Source: Goodfellow et al. (2015); Li et al. (2018).
    """
    return _scan(
        model, batches, columns(directions, 2), span, points=points, loss=loss, predict=predict,
        folder=folder, progress=progress,
    )  # fmt: skip


def _scan(
    model: nn.Module,
    batches: Iterable[object],
    directions: Tensor,
    span: Span,
    *,
    points: int = 21,
    loss: Loss | nn.Module | None = None,
    predict: bool = False,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> Surface:
    checks.model(model)
    points = checks.whole("points", points, least=None)
    if progress is not None:
        checks.has("progress", progress, "a function", "__call__", do="give progress(done, total)")
    if folder is not None:
        folder = checks.path("folder", folder)
    if points < 3 or points % 2 == 0:
        raise UserError(
            f"expected an odd number of points, at least 3, got {points}; "
            "the middle one is the model itself"
        )
    parameters = list(trainable(model).values())
    start = flat(parameters)
    units = orthonormal(directions, len(start))
    half = torch.arange(-(points // 2), points // 2 + 1, dtype=torch.float64) / (points // 2)
    axes = tuple(half * s for s in _spans(span, len(units)))
    evaluate = MeanLoss(model, batches, loss)
    with moving(model, parameters) as move:
        centre = evaluate()
        cells = Cells(
            folder, tensors_of(model), evaluate.batches, torch.stack(units), axes, centre,
            eps=evaluate.eps,
        )  # fmt: skip

        def loss_at(offset: tuple[float, ...]) -> float:
            move(sum((a * u for a, u in zip(offset, cells.units)), start))
            return evaluate()

        losses = fill(cells.axes, loss_at, cells.centre, cells, progress)
    prediction = curvature = None
    if predict:
        H = HessianOperator(model, evaluate.batches, loss=loss, batch_statistics=False)
        prediction, curvature = _quadratic(H, list(cells.units), cells.axes)
    return Surface(cells.axes, losses, cells.centre, prediction, curvature)


def _spans(span: Span, dimensions: int) -> list[float]:
    given = [*span] if isinstance(span, Sequence) else [span] * dimensions
    spans = [checks.number("each span", one, infinite=True) for one in given]
    if len(spans) != dimensions or not all(0 < s < float("inf") for s in spans):
        raise UserError(
            f"expected a positive span, or {dimensions} of them, got {span}; "
            "it is a Euclidean norm of the displacement"
        )
    return spans


def _quadratic(
    hessian: HessianOperator, units: Sequence[Tensor], axes: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return L + g'a + a'Ha / 2 on the grid, and the matrix of curvatures u_i'Hu_j."""
    U = torch.stack(list(units), dim=1)
    slope = hessian.gradient().double().cpu() @ U
    products = torch.stack([hessian.matvec(u).double().cpu() for u in units], dim=1)
    curvature = U.t() @ products
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    bent = 0.5 * torch.einsum("...i,ij,...j->...", points, curvature, points)
    return hessian.loss() + points @ slope + bent, curvature
