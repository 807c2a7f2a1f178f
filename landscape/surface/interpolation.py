"""The loss on the straight line between two deltas of one base model, or two states of a model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from landscape import checks
from landscape.curvature.derivatives.point import evaluating
from landscape.deltas.algebra import Delta
from landscape.deltas.files import read_delta
from landscape.deltas.switching import apply_delta, delta
from landscape.errors import UserError
from landscape.losses import Loss
from landscape.subspace import detach, is_attached, trainable
from landscape.surface.cells import Cells, tensors_of
from landscape.surface.grid import MeanLoss, Progress, Surface, fill, moving

End: TypeAlias = Delta | str | Path | Mapping[str, Tensor]
"""A delta, a file of one, or a whole state dict."""


@dataclass(frozen=True)
class _Line:
    """A way through models between two ends: go to a share t of it, from 0 to 1."""

    ends: Mapping[str, Tensor]
    length: float
    go: Callable[[float], None]


def interpolate(
    model: nn.Module,
    batches: Iterable[object],
    start: End,
    end: End,
    *,
    points: int = 21,
    loss: Loss | nn.Module | None = None,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> Surface:
    """Compute the loss on the way from one delta or state to another, (1 - t) start + t end.

    The masks may differ: the line lies in their union. Its ends are the two models to the last
    bit; 0.0 * end is the pretrained model as a start. Afterwards the model is as it was, also
    after an exception: its mask and values, or none. (theta is then a new parameter: an optimizer
    of a mask that was attached must be made again.)

    Args:
        model: the base model that both were made on, with or without a mask; for state dicts any
            module that they load onto, without a mask.
        batches: what `loss` takes; the loss is the mean over all loss terms.
        start, end: deltas, or files of `save_delta`; or two state dicts, whose parameters and
            floating-point buffers are interpolated, while whole numbers are those of the nearer.
        points: points on the line with both ends, at least 2.
        loss, folder, progress: as `surface_2d`.

    Returns:
        The curve; its axis is the Euclidean distance to the start (between states that of all
        parameters), its `barrier` the height of the loss above the straight line between the ends.

    Raises:
        UserError: the ends are equal, of another model or not of one kind, or an argument is out
            of range.

    Cost: `points` passes over the batches; O(k) memory, for states that of a copy of the model.
    Source: Frankle et al. (2020), linear mode connectivity and the lottery ticket hypothesis.
    """
    checks.model(model)
    points = checks.whole("points", points, least=2)  # both ends are among them
    if folder is not None:
        folder = checks.path("folder", folder)
    evaluate = MeanLoss(model, batches, loss)
    kinds = [isinstance(d, Mapping) for d in (start, end)]
    if any(kinds) and not all(kinds):
        raise UserError(
            "expected two deltas or two state dicts, got one of each; the pretrained model is the "
            "delta 0.0 * end, or its state dict before it was changed"
        )
    line = _between_states if all(kinds) else _between_deltas
    with line(model, start, end) as way:  # type: ignore[arg-type]
        if not 0 < way.length < float("inf"):
            raise UserError(
                f"expected two ends at a finite distance above 0, got {way.length} between them; "
                "give two different ends"
            )
        axis = torch.linspace(0, way.length, points, dtype=torch.float64)
        way.go(0.0)
        centre = evaluate()
        cells = Cells(
            folder, [*tensors_of(model), *way.ends.items()], evaluate.batches,
            torch.empty(0, 0), [axis], centre, eps=evaluate.eps,
        )  # fmt: skip

        def loss_at(offset: tuple[float, ...]) -> float:
            way.go(offset[0] / way.length)
            return evaluate()

        losses = fill(cells.axes, loss_at, cells.centre, cells, progress)
        return Surface(cells.axes, losses, cells.centre)


@contextlib.contextmanager
def _between_deltas(
    model: nn.Module, start: Delta | str | Path, end: Delta | str | Path
) -> Iterator[_Line]:
    pair = [d if isinstance(d, Delta) else read_delta(model, d) for d in (start, end)]
    first, last = pair[0] + 0.0 * pair[1], 0.0 * pair[0] + pair[1]  # both on the union
    before = delta(model) if is_attached(model) else None
    apply_delta(model, first)
    try:
        theta = trainable(model)
        s, e = (torch.cat([d.parameter(n).double().cpu() for n in theta]) for d in (first, last))
        with moving(model, list(theta.values())) as move:
            ends = {"start": s, "end": e}
            yield _Line(ends, float((e - s).norm()), lambda t: move((1 - t) * s + t * e))
    finally:
        detach(model)
        if before is not None:
            apply_delta(model, before)


@contextlib.contextmanager
def _between_states(
    model: nn.Module, start: Mapping[str, Tensor], end: Mapping[str, Tensor]
) -> Iterator[_Line]:
    if is_attached(model):
        raise UserError("expected a model without a mask for state dicts, got one; detach it first")
    live = dict(model.state_dict(keep_vars=True))
    for given in (start, end):
        _refuse_other_state(live, given)
    before = {name: t.detach().clone() for name, t in live.items()}

    @torch.no_grad()
    def go(t: float) -> None:
        for name, tensor in live.items():
            a, b = (d[name].to(tensor.device) for d in (start, end))
            if t in (0.0, 1.0) or not tensor.is_floating_point():
                tensor.copy_(a if t < 0.5 else b)
            else:
                tensor.copy_((1 - t) * a.double() + t * b.double())

    own = {id(p): name for name, p in live.items() if isinstance(p, nn.Parameter)}  # tied once
    squares = [float((end[n].double() - start[n].double()).square().sum()) for n in own.values()]
    with evaluating(model):
        try:
            yield _Line(end, sum(squares) ** 0.5, go)
        finally:
            with torch.no_grad():
                for name, tensor in live.items():
                    tensor.copy_(before[name])


def _refuse_other_state(live: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    differing = sorted(live.keys() ^ given.keys())
    if not differing:
        differing = [n for n, t in live.items() if tuple(given[n].shape) != tuple(t.shape)]
    if differing:
        raise UserError(
            f"expected the state dicts of this model, got one that differs in {differing[0]} and "
            f"{len(differing) - 1} more names or shapes; build the model that they were saved from"
        )
    odd = next((n for n, t in live.items() if t.is_complex()), None)
    if odd is not None:
        raise UserError(f"expected real weights, got complex ones in {odd}; interpolate real ones")
