"""The loss on a line or a grid through the present weights, cell by cell."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape.curvature import HessianOperator
from landscape.curvature.objective import Loss
from landscape.errors import UserError
from landscape.subspace import is_attached, synchronise, trainable
from landscape.surface.cells import Cells
from landscape.surface.directions import orthonormal


@dataclass(frozen=True, repr=False)
class Surface:
    """Hold the loss L(theta + a_1 u_1 + a_2 u_2) for orthonormal directions u."""

    axes: tuple[Tensor, ...]
    """One axis a direction: the true displacement in the Euclidean norm, 0 in the middle."""
    losses: Tensor
    """Mean losses as computed, NaN and infinity included; shape of the grid, float64."""
    centre: float
    """The model's own loss, which is the middle cell."""
    prediction: Tensor | None
    """L + g'a + a'Ha / 2 from the gradient and the curvature at the centre, if asked for."""
    curvature: Tensor | None
    """u'Hu, shape (d, d): the eigenvalues on its diagonal where the u are eigenvectors."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a result file."""
        some = {"prediction": self.prediction, "curvature": self.curvature}
        return {
            "axes": [axis.tolist() for axis in self.axes],
            "losses": self.losses.tolist(),
            "centre": self.centre,
        } | {name: None if t is None else t.tolist() for name, t in some.items()}

    def __repr__(self) -> str:
        shape = " x ".join(str(len(axis)) for axis in self.axes)
        bad = int((~torch.isfinite(self.losses)).sum())
        return f"surface {shape}, centre {self.centre:.6g}, {bad} cells not finite"


def surface_1d(
    model: nn.Module, batches: Iterable[Any], direction: Tensor, *, span: float, **options: Any
) -> Surface:
    """Compute the loss along one direction; see `surface_2d` for the options.

    Args:
        model: any module with trainable numbers.
        batches: what `loss` takes.
        direction: shape (size,) or (size, 1), any norm.
        span: the axis goes from -span to span, in the Euclidean norm of the displacement.
        options: as `surface_2d`.
    """
    columns = torch.as_tensor(direction)
    return _scan(model, batches, columns.reshape(columns.shape[0], -1), 1, span, **options)


def surface_2d(
    model: nn.Module,
    batches: Iterable[Any],
    directions: Tensor | Sequence[Tensor],
    *,
    span: float,
    points: int = 21,
    loss: Loss | None = None,
    predict: bool = False,
    directory: str | Path | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Surface:
    """Compute the loss on a plane through the present weights.

    The second direction is made orthogonal to the first and both are made unit vectors, so that
    the axes are true displacements. The middle cell is the model itself. Losses are kept as they
    come. The model is in evaluation mode meanwhile; mode and weights are restored bit for bit,
    also after an exception.

    Args:
        model: any module with trainable numbers: masked, LoRA, or full.
        batches: what `loss` takes; the loss is the mean over all loss terms.
        directions: shape (size, 2), or two of shape (size,): eigenvectors of `lanczos`,
            `random_directions`, `displacement`.
        span: both axes go from -span to span, in the Euclidean norm of the displacement.
        points: points an axis, odd, at least 3.
        loss: (model, batch) -> (sum, number of terms); default `landscape.task_loss`.
        predict: also compute the quadratic prediction: a gradient and a product a direction.
        directory: a folder for the cells; each is stored when it is computed, and the same call
            with the same folder goes on where it was stopped.
        progress: called with (cells done, cells) after each cell.

    Returns:
        The surface.

    Raises:
        UserError: an argument out of its range, directions that are zero, not finite or parallel,
            or a folder of another surface.

    Cost: points^2 passes over the batches, one copy of the trainable numbers and the directions.
    """
    columns = directions if isinstance(directions, Tensor) else torch.stack([*directions], dim=1)
    return _scan(
        model, batches, columns, 2, span, points=points, loss=loss, predict=predict,
        directory=directory, progress=progress,
    )  # fmt: skip


def _scan(
    model: nn.Module,
    batches: Iterable[Any],
    directions: Tensor,
    dimensions: int,
    span: float,
    *,
    points: int = 21,
    loss: Loss | None = None,
    predict: bool = False,
    directory: str | Path | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Surface:
    if points < 3 or points % 2 == 0:
        raise UserError(
            f"expected an odd number of points, at least 3, got {points}; "
            "the middle one is the model itself"
        )
    if not 0 < span < float("inf"):
        raise UserError(f"expected a positive span, got {span}; it is a Euclidean norm")
    parameters = list(trainable(model).values())
    units = orthonormal(directions, sum(p.numel() for p in parameters), dimensions)
    half = points // 2
    axis = torch.arange(-half, half + 1, dtype=torch.float64) * (span / half)
    evaluate = _loss_at(model, [batches] if isinstance(batches, dict) else list(batches), loss)
    with _moving(model, parameters) as move:
        centre = evaluate()
        cells = Cells(directory, parameters, units, axis, centre)
        losses = torch.empty((points,) * dimensions, dtype=torch.float64)
        grid = list(product(range(points), repeat=dimensions))
        for done, at in enumerate(grid, start=1):
            known = cells.get(at)
            if known is None:
                offset = [float(axis[i]) for i in at]
                move(sum(a * u for a, u in zip(offset, units)) if any(offset) else None)
                known = evaluate()
                cells.put(at, known)
            losses[at] = known
            if progress is not None:
                progress(done, len(grid))
    prediction = curvature = None
    if predict:
        H = HessianOperator(model, batches, loss=loss)
        prediction, curvature = _quadratic(H, units, axis)
    return Surface((axis,) * dimensions, losses, centre, prediction, curvature)


@contextlib.contextmanager
def _moving(
    model: nn.Module, parameters: Sequence[Tensor]
) -> Iterator[Callable[[Tensor | int | None], None]]:
    """Yield a function that puts the trainable numbers at an offset; restore all at the end."""
    start = [p.detach().clone() for p in parameters]
    training = {module: module.training for module in model.modules()}

    @torch.no_grad()
    def move(offset: Tensor | int | None) -> None:
        pieces: Sequence[Tensor | None] = [None] * len(start)
        if isinstance(offset, Tensor):
            pieces = offset.split([p.numel() for p in start])
        for p, origin, piece in zip(parameters, start, pieces, strict=True):
            if piece is None:
                p.copy_(origin)
            else:
                p.copy_(origin.double() + piece.view_as(origin).to(origin.device))

    try:
        model.eval()
        yield move
    finally:
        move(None)
        if is_attached(model):
            synchronise(model)
        for module, was_training in training.items():
            module.training = was_training


def _loss_at(model: nn.Module, batches: list[Any], loss: Loss | None) -> Callable[[], float]:
    from landscape.scoring import task_loss

    function: Loss = task_loss if loss is None else loss
    if not batches:
        raise UserError("expected at least one batch, got none; pass a list of batches")

    @torch.no_grad()
    def evaluate() -> float:
        total, terms = 0.0, 0.0
        for batch in batches:
            value, count = function(model, batch)
            total, terms = total + float(value), terms + float(count)
        if not terms > 0:
            raise UserError("expected at least one loss term, got none; check the labels")
        return total / terms

    return evaluate


def _quadratic(
    hessian: HessianOperator, units: Sequence[Tensor], axis: Tensor
) -> tuple[Tensor, Tensor]:
    """Return L + g'a + a'Ha / 2 on the grid, and the matrix of curvatures u_i'Hu_j."""
    U = torch.stack(list(units), dim=1)
    slope = hessian.gradient().double().cpu() @ U
    products = torch.stack([hessian.matvec(u).double().cpu() for u in units], dim=1)
    curvature = U.t() @ products
    points = torch.stack(torch.meshgrid(*[axis] * len(units), indexing="ij"), dim=-1)
    bent = 0.5 * torch.einsum("...i,ij,...j->...", points, curvature, points)
    return hessian.loss() + points @ slope + bent, curvature
