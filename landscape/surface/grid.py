"""What every slice of the loss needs: moving the weights and back, a mean loss, the cells."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from landscape.curvature.derivatives.objective import refuse_other_sums, without_graph
from landscape.curvature.derivatives.point import evaluating
from landscape.errors import UserError
from landscape.losses import Loss, as_batches, as_loss, sum_and_count
from landscape.shown import card
from landscape.subspace import is_attached, synchronise
from landscape.surface.cells import Cells

Progress: TypeAlias = Callable[[int, int], object]
"""Called as progress(cells done, cells in all)."""


@dataclass(frozen=True, repr=False)
class Surface:
    """Hold the loss L(theta + a_1 u_1 + a_2 u_2) for orthonormal directions u."""

    axes: tuple[Tensor, ...]
    """One axis a direction: the true displacement in the Euclidean norm, 0 where theta is."""
    losses: Tensor
    """Mean losses as computed, NaN and infinity included; shape of the grid, float64."""
    centre: float
    """The loss at theta itself: the middle cell, or the first of an interpolation."""
    prediction: Tensor | None = None
    """L + g'a + a'Ha / 2 from the gradient and the curvature at theta, if asked for."""
    curvature: Tensor | None = None
    """u'Hu, shape (d, d): the eigenvalues on its diagonal where the u are eigenvectors."""

    @property
    def barrier(self) -> float:
        """Return how far a curve rises above the straight line between its ends, at least 0.

            max_a [L(a) - ((1 - t) L(first) + t L(last))],   t = (a - first) / (last - first)

        NaN where a cell is NaN or an end infinite.

        Raises:
            UserError: the surface has two axes.

        Source: Frankle et al. (2020), linear mode connectivity; Entezari et al. (2022).
        """
        if len(self.axes) != 1:
            raise UserError(
                "expected a curve to measure the barrier of, got a plane; use interpolate or "
                "surface_1d"
            )
        a = self.axes[0]
        t = (a - a[0]) / (a[-1] - a[0])
        above = self.losses - ((1 - t) * self.losses[0] + t * self.losses[-1])
        above[[0, -1]] *= 0.0  # their rounding; NaN stays
        return float(above.max())

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

    def _repr_html_(self) -> str:
        ends = [f"{float(a[0]):.4g} to {float(a[-1]):.4g}" for a in self.axes]
        known = self.losses[torch.isfinite(self.losses)]
        losses = f"{float(known.min()):.4g} to {float(known.max()):.4g}" if len(known) else "none"
        return card(repr(self), {f"axis {i}": e for i, e in enumerate(ends, 1)} | {"loss": losses})


def fill(
    axes: Sequence[Tensor],
    loss_at: Callable[[tuple[float, ...]], float],
    centre: float,
    cells: Cells,
    progress: Progress | None,
) -> Tensor:
    """Return the losses of a grid; those that are not known yet are computed, stored one by one.

    Args:
        axes: the grid; `loss_at` takes a point on it.
        centre: the loss at its zero, which is known.
    """
    shape = tuple(len(axis) for axis in axes)
    losses = torch.empty(shape, dtype=torch.float64)
    for done, at in enumerate(product(*map(range, shape)), start=1):
        known = cells.get(at)
        if known is None:
            offset = tuple(float(axis[i]) for axis, i in zip(axes, at))
            known = loss_at(offset) if any(offset) else centre
            cells.put(at, known)
        losses[at] = known
        if progress is not None:
            progress(done, losses.numel())
    return losses


@contextlib.contextmanager
def moving(model: nn.Module, parameters: Sequence[Tensor]) -> Iterator[Callable[[Tensor], None]]:
    """Yield a function that gives the trainable parameters flat values; restore all at the end.

    The model is in evaluation mode inside, without autocast.
    """
    start = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def move(values: Tensor) -> None:
        for p, piece in zip(parameters, values.split([p.numel() for p in start]), strict=True):
            p.copy_(piece.view_as(p))

    with evaluating(model):
        try:
            yield move
        finally:
            with torch.no_grad():
                for p, origin in zip(parameters, start, strict=True):
                    p.copy_(origin)
            if is_attached(model):
                synchronise(model)


class MeanLoss:
    """The mean loss over all terms of some batches, at a model's present weights.

    Args:
        model: the model, in evaluation mode when this is called.
        batches: what `loss` takes.
        loss: as `HessianOperator`.

    Raises:
        UserError: there is no batch; and when called, no loss term, or a loss that is not a sum
            over rows beside the number of its terms.
    """

    def __init__(
        self, model: nn.Module, batches: Iterable[object], loss: Loss | nn.Module | None
    ) -> None:
        self.batches = as_batches(batches)
        if not self.batches:
            raise UserError("expected at least one batch, got none; pass a list of batches")
        numbers = [p.dtype for p in model.parameters() if p.is_floating_point()]
        self.eps = max((torch.finfo(dtype).eps for dtype in numbers), default=2.0**-23)
        """Rounding error of the coarsest dtype among the model's parameters."""
        self._model, self._loss = model, as_loss(loss)
        self._evaluate = without_graph(self._one)
        self._checked = False

    def __call__(self) -> float:
        """Return the loss now."""
        if not self._checked:
            refuse_other_sums(self._loss, self._one, self.batches, eps=self.eps)
            self._checked = True
        total, terms = 0.0, 0.0
        for batch in self.batches:
            value, count = self._evaluate(batch)
            total, terms = total + float(value), terms + float(count)
        if not terms > 0:
            raise UserError("expected at least one loss term, got none; check the labels")
        return total / terms

    def _one(self, batch: object) -> tuple[Tensor, float]:
        return sum_and_count(self._loss(self._model, batch))
