"""The path that training took: its length, its principal directions, its place in a plane."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import TrainerCallback

from landscape import checks
from landscape.errors import UserError
from landscape.subspace import trainable
from landscape.surface.directions import Directions, PrincipalDirections, columns, orthonormal
from landscape.surface.points import (
    RunPoint,
    check_point,
    cpu_copy,
    distance_between,
    mask_indices,
    on_mask,
    point_now,
    same_indices,
)
from landscape.tensorfile import read_tensors, write_tensors
from landscape.training.adamw import AdamW
from landscape.training.callbacks import ProbeCallback

_FORMAT, _OLDER = "landscape-trajectory-2", "landscape-trajectory-1"
"""The older one has no digest."""
_CHUNK = 1 << 16
"""Coordinates of all points that are widened to float64 at a time."""


@final
class Trajectory:
    """Record the trainable parameters while `finetune` runs, and the length of their path.

    Pass it to ``finetune(probes=[trajectory])``, or call ``trajectory.start(optimizer)`` once and
    ``trajectory(model, record)`` after every step of a loop of your own. It draws no random
    number and changes nothing: training with it ends bit for bit like training without it. Every
    step's record gets ``path_length``, sum_t ||theta_t - theta_(t-1)||. A mask may move: a weight
    that leaves it goes back to its pretrained value, and that is a part of the path.

    The first point is where training started, `steps[0]` is 0; in a run that was resumed, both
    are where it was resumed.

    Args:
        every: steps between points that are kept, beside the first; None keeps no other.

    Raises:
        UserError: `every` is below 1.

    Cost: O(k) time a step; O(k) memory on the CPU a point, and for the last step.
    """

    def __init__(self, *, every: int | None = 1) -> None:
        if every is not None:
            every = checks.whole("every", every, least=1)
        self.length = 0.0
        """Sum of the Euclidean lengths of all steps so far, those without a point included."""
        self._every = every
        self._points: list[RunPoint] = []
        self._last: RunPoint | None = None
        self._initial: dict[int, Tensor] = {}
        self._may_move = False

    def __repr__(self) -> str:
        span = f", steps {self.steps[0]} to {self.steps[-1]}" if self._points else ""
        return f"trajectory of {len(self._points)} points{span}, length {self.length:.4g}"

    @property
    def steps(self) -> list[int]:
        """The step after which each point was taken, 0 for the start."""
        return [point.step for point in self._points]

    @torch.no_grad()
    def start(self, optimizer: Optimizer) -> None:
        """Begin a run at the optimizer's present parameters, and forget any before it."""
        self.length, self._points, self._last = 0.0, [], None
        held = [p for group in optimizer.param_groups for p in group["params"]]
        self._initial = {id(p): cpu_copy(p) for p in held}
        self._may_move = isinstance(optimizer, AdamW)

    @torch.no_grad()
    def __call__(self, model: nn.Module, record: dict[str, Any]) -> None:
        """Take the step that the model has just made; write path_length into its record."""
        step = int(record.get("step", self._last.step + 1 if self._last else 1))
        now = point_now(model, step, self._last)
        if self._last is None:
            self._last, self._initial = self._first(model, now), {}
            self._points.append(self._last)
        self.length += distance_between(self._last, now)
        record["path_length"] = self.length
        self._last = now
        if self._every is not None and step % self._every == 0 and step > self._points[-1].step:
            self._points.append(now)

    def as_callback(self) -> TrainerCallback:
        """Return this recorder for ``transformers.Trainer(callbacks=..)``; it logs path_length."""
        return ProbeCallback(self)

    @torch.no_grad()
    def pca(self, model: nn.Module, count: int = 2) -> PrincipalDirections:
        """Return the directions in which the points extend most, seen from the present weights.

        With M the rows theta_t - theta, the right singular vectors of M; a share explained is
        sigma_i^2 / sum sigma^2. The start lies on the negative side of each.

        Args:
            model: the model after training, whose weights theta are the origin.
            count: of directions, at least 1.

        Raises:
            UserError: the points span fewer dimensions or are not finite, or the mask has moved
                so that the present trainable parameters do not hold them.

        Cost: O(points^2 k) time. Source: Li et al. (2018), section 7.2.
        """
        rows = self._about(model)
        gram = torch.zeros(len(rows), len(rows), dtype=torch.float64)
        for part in rows.split(_CHUNK, dim=1):
            gram += part.double() @ part.double().t()
        if not bool(torch.isfinite(gram).all()):
            raise UserError(
                "expected a trajectory of finite points, got NaN or infinity; training has "
                "diverged: lower its learning rate"
            )
        squares, left = torch.linalg.eigh(gram)
        squares, left = squares.flip(0).clamp(min=0), left.flip(1)
        rank = int((squares > 1e-12 * squares.sum()).sum())
        if not 1 <= count <= rank:
            raise UserError(
                f"expected between 1 and {rank} directions, which is what {len(rows)} points span "
                f"about the present weights, got {count}; keep more points, or ask for fewer"
            )
        left = left[:, :count] * torch.where(left[:1, :count] > 0, -1.0, 1.0)
        right = torch.cat([part.double().t() @ left for part in rows.split(_CHUNK, dim=1)])
        units = orthonormal(right, rows.shape[1])
        return PrincipalDirections(torch.stack(units, 1), squares[:count] / squares.sum())

    @torch.no_grad()
    def coordinates(
        self, model: nn.Module, directions: Directions, dimensions: int = 2
    ) -> Float64[Tensor, "points dimensions"]:
        """Return where the points lie in a plane through the present weights, to be drawn on it.

            a_t = U'(theta_t - theta),    U the directions made orthonormal, as in `surface_2d`

        What a point has outside the plane is left out: (0, 0) is the present model.

        Args:
            model: the model after training, whose weights theta are the origin.
            directions: those of the surface, see `surface_2d`.
            dimensions: of the plane; 1 for the line of `surface_1d`.

        Returns:
            Shape (points, dimensions), float64, in the units of the surface's axes: Euclidean
            distances.

        Raises:
            UserError: as `pca`, or directions that `surface_2d` would refuse.
        """
        rows = self._about(model)
        units = torch.stack(orthonormal(columns(directions, dimensions), rows.shape[1]), dim=1)
        return torch.stack([row.double() @ units for row in rows])

    def save(self, path: str | Path) -> Path:
        """Write the points and the length into a safetensors file, whole or not at all."""
        tensors: dict[str, Tensor] = {}
        before: Mapping[str, Tensor] | None = None
        for number, point in enumerate(self._points):
            tensors |= {f"{number}/{n}": v.contiguous() for n, v in point.values.items()}
            if point.indices is not None and not same_indices(point.indices, before):
                tensors |= {f"{number}/{n}.indices": i.cpu() for n, i in point.indices.items()}
            before = point.indices
        header = {"format": _FORMAT, "steps": self.steps, "length": self.length.hex()}
        return write_tensors(path, tensors, header | {"masked": before is not None})

    @classmethod
    def load(cls, path: str | Path) -> Trajectory:
        """Read a file of `save`.

        Raises:
            UserError: there is no file, or it is no trajectory.
        """
        file = read_tensors(path, "a trajectory")
        header, stored = file.header, file.tensors
        if header.get("format") not in (_FORMAT, _OLDER):
            raise UserError(
                f"expected a trajectory in {path}, got another file; `Trajectory.save` and "
                "`landscape finetune --trajectory` write them"
            )
        try:
            found = cls()._filled(header, stored)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UserError(
                f"expected the points of a trajectory in {path}, got others ({error!r}); the file "
                "is damaged, record it again"
            ) from error
        if header["format"] == _FORMAT:
            file.check()
        return found

    def _filled(self, header: Mapping[str, Any], stored: Mapping[str, Tensor]) -> Trajectory:
        """Take the points of a file; raises what the first strange field happens to raise."""
        steps, masked, indices = header["steps"], header["masked"], None
        whole = all(type(step) is int and step >= 0 for step in steps)
        if type(masked) is not bool or not whole or sorted(set(steps)) != steps:
            raise ValueError("steps or masked")
        points: list[dict[str, Tensor]] = [{} for _ in steps]
        for key, tensor in stored.items():
            number, _, name = key.partition("/")
            points[range(len(points)).index(int(number))][name] = tensor
        for step, own in zip(steps, points, strict=True):
            values = {n: v for n, v in own.items() if not n.endswith(".indices")}
            if masked and (indices is None or len(own) > len(values)):
                masks = [n for n in values if f"{n}.indices" in own]
                indices = {n: own.pop(f"{n}.indices") for n in masks}
            if own.keys() != values.keys():
                raise ValueError(f"tensors of step {step}")
            check_point(values, indices, {*(self._points[0].values if self._points else values)})
            self._points.append(RunPoint(step, values, indices))
        self.length = float.fromhex(header["length"])
        return self

    def _first(self, model: nn.Module, now: RunPoint) -> RunPoint:
        """Return the point before the first step, or that step where nothing else is known.

        A mask may have moved in that step, and where it was nobody tells: of entries that were all
        zero it is the pretrained model, of others (a resumed run) it is not known.
        """
        if not self._initial:
            return now
        values = {n: self._initial.get(id(p), now.values[n]) for n, p in trainable(model).items()}
        for name in (now.indices or {}) if self._may_move else ():
            if bool(values[name].any()):
                return now
            values[name] = torch.zeros_like(now.values[name])
        return RunPoint(now.step - 1, values, now.indices)

    def _about(self, model: nn.Module) -> Tensor:
        """Return the points minus the present trainable parameters, one a row."""
        if not self._points:
            raise UserError(
                "expected a recorded trajectory, got none; pass it to finetune(probes=)"
            )
        here = trainable(model)
        indices = mask_indices(model)
        rows = []
        for point in self._points:
            kinds = [None if held is None else held.keys() for held in (indices, point.indices)]
            if point.values.keys() != here.keys() or kinds[0] != kinds[1]:
                raise UserError(
                    "expected the model that was trained, got one with other trainable tensors; "
                    "attach the mask that the trajectory was recorded with"
                )
            values, outside = on_mask(point, indices)
            if outside > 0:
                raise UserError(
                    "expected a mask that holds the whole trajectory, got a part of norm "
                    f"{outside**0.5:.3g} at step {point.step} outside the present mask; a mask "
                    "that gives weights up has a path length but no plane"
                )
            rows.append(torch.cat([(values[n] - cpu_copy(p)).reshape(-1) for n, p in here.items()]))
        return torch.stack(rows)
