"""Slices of the loss inside a mask at both ends of a run, and the path between them.

At both ends two lines, along the top eigenvector and along a random filter-normalised direction;
around the trained point two planes, of the two top eigenvectors and of the two principal directions
of the training path, the latter at the path's own extent. Each slice has its quadratic prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape.curvature import HessianOperator, lanczos
from landscape.subspace import trainable
from landscape.surface import Trajectory, random_directions, surface_1d, surface_2d
from landscape.sweep.measurements import Measurement, Point
from landscape.sweep.measurements.curvature import batches_of, chosen
from landscape.tasks.padding import Batch
from landscape.tensorfile import read_tensors, write_tensors

USUAL: dict[str, Any] = {
    "span": 1.0, "plane_points": 25, "line_points": 41, "path_points": 20, "examples": 64,
    "batch_size": 8, "tol": 1e-2, "max_matvecs": 80,
}  # fmt: skip


def before(point: Point) -> dict[str, Any]:
    """Slice the loss at the pretrained weights.

    Options: ``span`` (1), the displacement at the edge of lines and eigenvectors' planes, which
    runs that are compared share; ``line_points`` (41) and ``plane_points`` (25) an axis;
    ``path_points`` (20) of the path, beside its start; ``examples`` (64) and ``batch_size`` (8) of
    the loss; ``tol`` (0.01) and ``max_matvecs`` (80) of the eigenvectors.

    Returns:
        ``top``, the two largest eigenvalues with residuals, and ``lines`` by their names.
    """
    asked = chosen(point, USUAL)
    return _end(point, asked, batches_of(point, asked))[0]


def after(point: Point) -> dict[str, Any]:
    """Slice the loss at the chosen checkpoint, also along the path that led there.

    Returns:
        What `before` does, with ``planes`` by their names, and ``path``: its coordinates, steps,
        and the share of its squared length that each direction explains.
    """
    asked = chosen(point, USUAL)
    batches = batches_of(point, asked)
    found, eigenvectors = _end(point, asked, batches)
    trajectory = _replayed(point)
    principal = trajectory.pca(point.model, 2)
    path = trajectory.coordinates(point.model, principal)
    spans = {"eigenvectors": asked["span"], "path": 1.2 * float(path.abs().max())}
    vectors = {"eigenvectors": eigenvectors, "path": principal.directions}
    planes = {
        name: surface_2d(
            point.model, batches, vectors[name], span=spans[name], points=asked["plane_points"],
            predict=True,
        ).to_dict()
        for name in spans
    }  # fmt: skip
    return found | {
        "planes": planes,
        "path": {"path": path.tolist(), "path_steps": trajectory.steps,
                 "explained": principal.explained.tolist()},
    }  # fmt: skip


def _end(
    point: Point, asked: Mapping[str, Any], batches: Sequence[Batch]
) -> tuple[dict[str, Any], Tensor]:
    """Slice two lines, and return the two top eigenvectors as well."""
    model = point.model
    H = HessianOperator(model, batches)
    top = lanczos(H, k=2, tol=asked["tol"], max_matvecs=asked["max_matvecs"], confirm=False)
    loss = H.loss()
    H.release()
    directions = {
        "eigenvector": top.eigenvectors[:, :1],
        "random": random_directions(model, 1, seed=point.config.seed),
    }
    lines = {
        name: surface_1d(
            model, batches, direction, span=asked["span"], points=asked["line_points"], predict=True
        ).to_dict()
        for name, direction in directions.items()
    }
    values = {
        "loss": loss, "eigenvalues": top.eigenvalues.tolist(),
        "residuals": top.residuals.tolist(), "products": top.num_matvecs,
        "converged": bool(top.converged),
    }  # fmt: skip
    return {"top": values, "lines": lines}, top.eigenvectors


class PathProbe:
    """Keep the trainable weights in files every few steps; a step that is made again is the same.

    Args:
        folder: of the files, named by their steps.
        every: steps between two of them.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self._folder, self._every = folder, every

    def __call__(self, model: nn.Module, record: dict[str, Any]) -> None:
        """Keep the weights, if the step is due; nothing joins the record."""
        step = int(record["step"])
        if step % self._every == 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            values = {n: p.detach().cpu().clone() for n, p in trainable(model).items()}
            write_tensors(self._folder / f"{step:08}.safetensors", values, {})


def during(point: Point) -> PathProbe:
    """Follow the path of the training."""
    asked, config = chosen(point, USUAL), point.config
    rows = config.batch_size * int(config.settings.get("accumulate", 1))
    total = config.epochs * -(-len(point.task.train) // rows)
    return PathProbe(_path_of(point), max(1, total // asked["path_points"]))


def _path_of(point: Point) -> Path:
    assert point.folder is not None
    return point.folder / "path"


@torch.no_grad()
def _replayed(point: Point) -> Trajectory:
    """Return the path from the pretrained weights, where a mask's theta is 0, through the files."""
    here = trainable(point.model)
    kept = {n: p.detach().clone() for n, p in here.items()}
    places = [(0, {n: torch.zeros_like(p) for n, p in here.items()})]
    for path in sorted(_path_of(point).glob("*.safetensors")):
        places.append((int(path.stem), read_tensors(path, "weights of a path").tensors))
    trajectory = Trajectory(every=1)
    for step, values in [*places, (-1, kept)]:
        for name, p in here.items():
            p.copy_(values[name])
        if step >= 0:
            trajectory(point.model, {"step": step})
    return trajectory


SLICES = Measurement(
    "slices of the loss at both ends of a run, and along its path",
    before=before, during=during, after=after,
)  # fmt: skip
