"""Slices of the loss inside the mask: how much flatter a smaller mask is, and where training went.

Around each trained point two planes: of the two top eigenvectors, all ratios at one displacement,
and of the two principal directions of the training path, each at the path's own extent. At both
ends of training two lines, along the top eigenvector and along a random filter-normalised
direction, at the displacement of the planes. Each slice has its quadratic prediction beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import landscape as ls
from experiments.kit.artefact import Artefact
from experiments.kit.cells import Cell, key
from experiments.kit.measure import (
    ENDS,
    Setup,
    at_end,
    attached,
    file_of,
    load_setup,
    train_cell,
    trained_once,
)
from experiments.kit.settings import TRAINED_LOCAL, TRAINED_SMOKE, Trained
from experiments.ours.surfaces_report import PAGE, check, draw, tables

if TYPE_CHECKING:
    from torch import Tensor

LINES = ("eigenvector", "random")
PLANES = ("eigenvectors", "path")


@dataclass(frozen=True)
class Config(Trained):
    """The masks and the training of paper 1's figure 4, and how finely slices are sampled."""

    #: what the quadratic prediction of the sharpest mask rises by at the edge of the slices
    rise: float = 1.0
    #: points an axis of a plane, and of a line
    plane_points: int = 25
    line_points: int = 41
    #: points of the training path, beside its start
    path_points: int = 20
    #: matvecs after which Lanczos stops
    max_products: int = 80


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": TRAINED_SMOKE | {
        "ratios": (1e-2, 1e-3), "plane_points": 3, "line_points": 3, "path_points": 2,
        "tolerance": 2e-1, "max_products": 10,
    },
    "local": TRAINED_LOCAL | {
        "plane_points": 13, "line_points": 15, "path_points": 10,
        "tolerance": 1e-1, "max_products": 40,
    },
    "paper": {},
}  # fmt: skip


def cells(config: Config) -> Iterator[Cell]:
    """List each mask's training and eigenvectors at both ends; then the slices, at one scale."""
    for seed in config.seeds:
        for ratio in config.ratios:
            yield train_cell(ratio, seed)
            yield from (top_cell(when, ratio, seed) for when in ENDS)
        for ratio in config.ratios:
            place = {"ratio": ratio, "seed": seed}
            for when in ENDS:
                for line in LINES:
                    yield {"kind": "line", "when": when, "line": line, **place}
            for plane in PLANES:
                yield {"kind": "plane", "plane": plane, **place}


def top_cell(when: str, ratio: float, seed: int) -> Cell:
    """Return the cell of the eigenvectors at one end of training."""
    return {"kind": "top", "when": when, "ratio": ratio, "seed": seed}


def common_span(setup: Setup, seed: int) -> float:
    """Return the displacement at which the sharpest mask's a^2 lambda / 2 is `rise`."""
    config, store = setup.config, setup.store
    tops = [
        store[key(top_cell(when, ratio, seed))]["eigenvalues"][0]
        for ratio in config.ratios for when in ENDS
    ]  # fmt: skip
    return math.sqrt(2 * config.rise / max(tops))


def sliced(setup: Setup) -> list[Any]:
    """Return the examples whose loss is sliced, in batches."""
    return setup.batches(setup.config.curvature_examples, setup.config.micro_batch)


def train(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Train a mask and record its path, in the plane of its two principal directions."""
    config, model = setup.config, setup.model
    steps = config.epochs * -(-config.num_train // config.batch_size)
    trajectory = ls.Trajectory(every=max(1, steps // config.path_points))

    def conclude() -> dict[str, Any]:
        principal = trajectory.pca(model, 2)
        _save(_vectors(setup, cell, "path"), principal.directions)
        return {
            "path": trajectory.coordinates(model, principal).tolist(),
            "path_steps": trajectory.steps, "path_length": trajectory.length,
            "explained": principal.explained.tolist(),
        }  # fmt: skip

    return trained_once(setup, cell, probes=[trajectory], conclude=conclude)


def top(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Find the two top eigenvectors before or after training."""
    config, model = setup.config, setup.model
    with attached(model, at_end(setup, cell, cell["when"])):
        H = ls.HessianOperator(model, sliced(setup))
        found = ls.lanczos(
            H, k=2, tol=config.tolerance, max_matvecs=config.max_products, confirm=False
        )
        loss = H.loss()
        H.release()
    _save(_vectors(setup, cell, cell["when"]), found.eigenvectors)
    return {
        "loss": loss, "eigenvalues": found.eigenvalues.tolist(),
        "residuals": found.residuals.tolist(), "products": found.num_matvecs,
        "converged": found.converged,
    }  # fmt: skip


def line(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Slice the loss along the top eigenvector or a random direction."""
    config, model, seed = setup.config, setup.model, cell["seed"]
    with attached(model, at_end(setup, cell, cell["when"])):
        if cell["line"] == "random":
            direction = ls.random_directions(model, 1, seed=seed)
        else:
            direction = _load(_vectors(setup, cell, cell["when"]))[:, :1]
        return ls.surface_1d(
            model, sliced(setup), direction, span=common_span(setup, seed),
            points=config.line_points, predict=True,
        ).to_dict()  # fmt: skip


def plane(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Slice the loss along two eigenvectors, or the two principal directions of the path."""
    import torch

    config, model, seed, path = setup.config, setup.model, cell["seed"], cell["plane"] == "path"
    span = common_span(setup, seed)
    if path:
        points = torch.tensor(setup.store[key(train_cell(cell["ratio"], seed))]["path"])
        span = 1.2 * float(points.abs().max())
    directions = _load(_vectors(setup, cell, "path" if path else "after"))
    with attached(model, at_end(setup, cell, "after")):
        return ls.surface_2d(
            model, sliced(setup), directions, span=span, points=config.plane_points,
            predict=True, directory=setup.store.folder / "runs" / file_of(cell),
        ).to_dict()  # fmt: skip


def _vectors(setup: Setup, cell: Cell, name: str) -> Path:
    place = f"ratio={cell['ratio']:g}_seed={cell['seed']}"
    return setup.store.folder / "runs" / f"vectors_{name}_{place}"


def _save(path: Path, columns: Tensor) -> None:
    from landscape.tensorfile import write_tensors

    write_tensors(path, {"columns": columns.float()}, {})


def _load(path: Path) -> Tensor:
    from landscape.tensorfile import read_tensors

    file = read_tensors(path, "eigenvectors", cure="start the run anew in another folder")
    if file.digest is not None:  # older runs have none
        file.check()
    return file.tensors["columns"]


ARTEFACT = Artefact(
    name="surfaces",
    title="Slices of the loss inside the mask: eigenvectors, the training path, random directions",
    source="Li et al. 2018 (slices), inside the masks of Xu & Zhang 2024",
    config=Config, presets=PRESETS, cells=cells, setup=load_setup,
    measures={"train": train, "top": top, "line": line, "plane": plane},
    check=check, tables=tables, draw=draw,
    page=PAGE,
)  # fmt: skip
