"""The loss on the straight line between two deltas of one base model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from landscape.adapters import read_delta
from landscape.curvature.objective import Loss
from landscape.deltas import Delta, apply_delta, delta
from landscape.errors import UserError
from landscape.subspace import detach, is_attached, trainable
from landscape.surface.cells import Cells
from landscape.surface.grid import Progress, Surface, fill, mean_loss, moving


def interpolate(
    model: nn.Module,
    batches: Iterable[Any],
    start: Delta | str | Path,
    end: Delta | str | Path,
    *,
    points: int = 21,
    loss: Loss | None = None,
    directory: str | Path | None = None,
    progress: Progress | None = None,
) -> Surface:
    """Compute the loss on the way from one delta to another, (1 - t) start + t end.

    The masks may differ: the line lies in their union. Its ends are the two models to the last
    bit; 0.0 * end is the pretrained model as a start. Afterwards the model is as it was, also
    after an exception: its mask and values, or none. (theta is then a new parameter: an optimizer
    of a mask that was attached must be made again.)

    Args:
        model: the base model that both were made on, with or without a mask.
        batches: what `loss` takes; the loss is the mean over all loss terms.
        start, end: deltas, or files of `save_delta`.
        points: points on the line with both ends, at least 2.
        loss, directory, progress: as `surface_2d`.

    Returns:
        The curve; its axis is the Euclidean distance to the start, its `barrier` the height of
        the loss above the straight line between the ends.

    Raises:
        UserError: the deltas are equal or of another base model, or an argument is out of range.

    Cost: `points` passes over the batches; O(k) memory.
    Source: Frankle et al. (2020), linear mode connectivity and the lottery ticket hypothesis.
    """
    if points < 2:
        raise UserError(f"expected at least 2 points, got {points}; both ends are among them")
    pair = [d if isinstance(d, Delta) else read_delta(model, d) for d in (start, end)]
    first, last = pair[0] + 0.0 * pair[1], 0.0 * pair[0] + pair[1]  # both on the union
    before = delta(model) if is_attached(model) else None
    evaluate = mean_loss(model, batches, loss)
    apply_delta(model, first)
    try:
        theta = trainable(model)
        s, e = (torch.cat([d.values[n].double().cpu() for n in theta]) for d in (first, last))
        length = float((e - s).norm())
        if not 0 < length < float("inf"):
            raise UserError(f"expected two deltas at a finite distance, got {length} between them")
        axis = torch.linspace(0, length, points, dtype=torch.float64)
        with moving(model, list(theta.values())) as move:
            centre = evaluate()
            cells = Cells(directory, [s, e], [], [axis], centre)

            def loss_at(offset: tuple[float, ...]) -> float:
                t = offset[0] / length
                move((1 - t) * s + t * e)
                return evaluate()

            return Surface((axis,), fill([axis], loss_at, centre, cells, progress), centre)
    finally:
        detach(model)
        if before is not None:
            apply_delta(model, before)
