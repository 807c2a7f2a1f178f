"""Slices of the loss inside the mask: how much flatter a smaller mask is, and where training went.

Around each trained point two planes: of the two top eigenvectors, all ratios at one displacement,
and of the two principal directions of the training path, each at the path's own extent. At both
ends of training two lines, along the top eigenvector and along a random filter-normalised
direction, at the displacement of the planes. Each slice has its quadratic prediction beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import landscape as ls
from experiments.cell import load_pretrained
from experiments.harness import PACKAGED, Artefact, Store
from experiments.surfaces_report import check, render
from experiments.trained import ENDS, TrainedSetting, at_end, load_examples, train, train_key
from landscape.tensorfile import read_tensors, write_tensors

LINES = ("eigenvector", "random")
PLANES = ("eigenvectors", "path")


@dataclass(frozen=True)
class Config(TrainedSetting):
    """The masks and the training of paper 1's figure 4, and the grids of the slices."""

    #: trainable over all parameters
    ratios: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    #: training examples that loss and Hessian average over
    curvature_examples: int = 64
    #: examples in one pass through the model
    micro_batch: int = 8
    #: what the quadratic prediction of the sharpest mask rises by at the edge of the slices
    rise: float = 1.0
    #: points an axis of a plane, and of a line
    plane_points: int = 25
    line_points: int = 41
    #: points of the training path, beside its start
    path_points: int = 20
    #: relative residual at which Lanczos stops
    tolerance: float = 1e-2
    #: products after which Lanczos stops
    max_products: int = 80


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": PACKAGED | {
        "ratios": (1e-2, 1e-3), "rate_times_ratio": 1e-5, "epochs": 1, "num_train": 16,
        "num_dev": 8, "curvature_examples": 2, "plane_points": 3, "line_points": 3,
        "path_points": 2, "tolerance": 2e-1, "max_products": 10,
    },
    "local": PACKAGED | {
        "model": "minilm-l6", "targets": "*.self.[qv]*.weight", "rate_times_ratio": 3e-5,
        "epochs": 1, "num_train": 640, "num_dev": 200, "curvature_examples": 32,
        "micro_batch": 32, "plane_points": 13, "line_points": 15, "path_points": 10,
        "tolerance": 1e-1, "max_products": 40,
    },
    "paper": {},
}  # fmt: skip


def compute(config: Config, store: Store) -> None:
    """Train each mask and find its eigenvectors at both ends; then slice, all at one scale."""
    for seed in config.seeds:
        task = load_examples(config, seed)
        model, tokenizer = load_pretrained(config, task)
        batches = ls.make_batches(
            task.train[: config.curvature_examples], tokenizer, config.micro_batch, sort=True,
            loss=task.loss,
        )  # fmt: skip
        for ratio in config.ratios:
            _train_row(config, store, model, tokenizer, task, ratio, seed)
            for when in ENDS:
                _top_row(config, store, model, batches, ratio, seed, when)
        for ratio in config.ratios:
            for when in ENDS:
                for line in LINES:
                    _line_row(config, store, model, batches, ratio, seed, when, line)
            for plane in PLANES:
                _plane_row(config, store, model, batches, ratio, seed, plane)


def expected(config: Config) -> list[str]:
    """List the keys of all rows."""
    keys = []
    for seed in config.seeds:
        for ratio in config.ratios:
            name = _name(ratio, seed)
            keys.append(train_key(ratio, seed))
            keys += [f"top/{when}/{name}" for when in ENDS]
            keys += [f"line/{when}/{line}/{name}" for when in ENDS for line in LINES]
            keys += [f"plane/{plane}/{name}" for plane in PLANES]
    return keys


def common_span(config: Config, store: Store, seed: int) -> float:
    """Return the displacement at which the sharpest mask's a^2 lambda / 2 is `rise`."""
    tops = [
        store[f"top/{when}/{_name(ratio, seed)}"]["eigenvalues"][0]
        for ratio in config.ratios for when in ENDS
    ]  # fmt: skip
    return math.sqrt(2 * config.rise / max(tops))


def _train_row(
    config: Config, store: Store, model: Any, tokenizer: Any, task: ls.Task, ratio: float, seed: int
) -> None:
    steps = config.epochs * -(-config.num_train // config.batch_size)
    trajectory = ls.Trajectory(every=max(1, steps // config.path_points))

    def conclude() -> dict[str, Any]:
        principal = trajectory.pca(model, 2)
        _save(_vectors(store, ratio, seed, "path"), principal.directions)
        return {
            "path": trajectory.coordinates(model, principal).tolist(),
            "path_steps": trajectory.steps, "path_length": trajectory.length,
            "explained": principal.explained.tolist(),
        }  # fmt: skip

    train(
        config, store, model, tokenizer, task, ratio, seed, probes=[trajectory], conclude=conclude
    )


def _top_row(
    config: Config, store: Store, model: Any, batches: list[Any], ratio: float, seed: int, when: str
) -> None:
    key = f"top/{when}/{_name(ratio, seed)}"

    def measure() -> dict[str, Any]:
        with at_end(config, store, model, ratio, seed, when):
            H = ls.HessianOperator(model, batches)
            found = ls.lanczos(
                H, k=2, tol=config.tolerance, max_matvecs=config.max_products, confirm=False
            )
            loss = H.loss()
            H.release()
        _save(_vectors(store, ratio, seed, when), found.eigenvectors)
        return {
            "kind": "top", "ratio": ratio, "seed": seed, "when": when, "loss": loss,
            "eigenvalues": found.eigenvalues.tolist(), "residuals": found.residuals.tolist(),
            "products": found.num_matvecs, "converged": found.converged,
        }  # fmt: skip

    if key not in store:
        store.say(key)
    store.compute(key, measure)


def _line_row(
    config: Config, store: Store, model: Any, batches: list[Any], ratio: float, seed: int,
    when: str, line: str,
) -> None:  # fmt: skip
    key = f"line/{when}/{line}/{_name(ratio, seed)}"

    def measure() -> dict[str, Any]:
        with at_end(config, store, model, ratio, seed, when):
            if line == "random":
                direction = ls.random_directions(model, 1, seed=seed)
            else:
                direction = _load(_vectors(store, ratio, seed, when))[:, :1]
            found = ls.surface_1d(
                model, batches, direction, span=common_span(config, store, seed),
                points=config.line_points, predict=True,
            )  # fmt: skip
        row = {"kind": "line", "ratio": ratio, "seed": seed, "when": when, "line": line}
        return row | found.to_dict()

    if key not in store:
        store.say(key)
    store.compute(key, measure)


def _plane_row(
    config: Config, store: Store, model: Any, batches: list[Any], ratio: float, seed: int,
    plane: str,
) -> None:  # fmt: skip
    key = f"plane/{plane}/{_name(ratio, seed)}"

    def measure() -> dict[str, Any]:
        if plane == "path":
            directions = _load(_vectors(store, ratio, seed, "path"))
            points = torch.tensor(store[train_key(ratio, seed)]["path"])
            span = 1.2 * float(points.abs().max())
        else:
            directions = _load(_vectors(store, ratio, seed, "after"))
            span = common_span(config, store, seed)
        with at_end(config, store, model, ratio, seed, "after"):
            found = ls.surface_2d(
                model, batches, directions, span=span, points=config.plane_points, predict=True,
                directory=store.folder / "runs" / key.replace("/", "_"),
            )  # fmt: skip
        row = {"kind": "plane", "ratio": ratio, "seed": seed, "plane": plane}
        return row | found.to_dict()

    if key not in store:
        store.say(key)
    store.compute(key, measure)


def _vectors(store: Store, ratio: float, seed: int, name: str) -> Path:
    return store.folder / "runs" / f"vectors_{name}_{_name(ratio, seed).replace('/', '_')}"


def _save(path: Path, columns: torch.Tensor) -> None:
    write_tensors(path, {"columns": columns.float()}, {})


def _load(path: Path) -> torch.Tensor:
    file = read_tensors(path, "eigenvectors", cure="start the run anew in another folder")
    if file.digest is not None:  # older runs have none
        file.check()
    return file.tensors["columns"]


def _name(ratio: float, seed: int) -> str:
    return f"ratio={ratio:g}/seed={seed}"


ARTEFACT = Artefact(
    name="surfaces",
    title="Slices of the loss inside the mask: eigenvectors, the training path, random directions",
    source="Li et al. 2018 (slices), inside the masks of Xu & Zhang 2024",
    config=Config,
    presets=PRESETS,
    rows=compute,
    render=render,
    check=check,
    expected=expected,
)
