"""From masked linear regression to a network: predicted and measured sharpness, rate, distance.

Two kinds of rows. *Curvature*: the top eigenvalue of the Gauss-Newton matrix (the Hessian of the
linear model) and of the whole Hessian at the pretrained weights, for masks of several kinds and for
all target weights at once; a random principal submatrix of density q should have q times the full
one's. *Descent*: plain SGD and AdamW,
on true and on shuffled labels, until the mean loss of a pass falls below one level, so that
distances are compared at equal loss and not after equal steps of a size that we chose.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import fmean
from typing import TYPE_CHECKING, Any

import landscape as ls
from experiments.kit.artefact import Artefact
from experiments.kit.cells import Cell
from experiments.kit.cells import key as plain_key
from experiments.kit.measure import Setup, attached, load_setup
from experiments.kit.settings import PACKAGED, Setting, paper
from experiments.kit.store import Store
from experiments.random_masking.linear_report import KINDS, PAGE, check, draw, tables

if TYPE_CHECKING:
    from torch import nn

#: what is measured; other masks than random ones on the Gauss-Newton matrix only
MATRICES = ("hessian", "gauss-newton")


@dataclass(frozen=True)
class Config(Setting):
    """The setting of paper 1's figure 4, and what the comparison adds."""

    #: random masks measured at each ratio
    random_masks: int = 5
    #: structured masks measured at each ratio
    structured_masks: int = 3
    #: training examples that the curvature averages over
    curvature_examples: int = 64
    #: relative residual at which Lanczos stops
    tolerance: float = 1e-2
    #: matvecs after which Lanczos stops
    max_products: int = 60
    #: training examples of the descents
    num_train: int = 64
    #: examples a step
    batch_size: int = paper(8)
    #: steps after which a descent stops
    max_steps: int = 160
    #: mean loss of a pass over the examples at which a descent stops
    target_loss: float = 0.3
    #: rates tried with SGD, in units of 2 / sharpness of the same mask
    sgd_multiples: tuple[float, ...] = (0.3, 1.0, 3.0)
    #: rates tried with AdamW are each of these over the ratio
    rate_times_ratio: tuple[float, ...] = (3e-7, 1e-6, 3e-6)


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": PACKAGED | {
        "ratios": (1e-2, 1e-3), "seeds": (0,), "random_masks": 1, "structured_masks": 1,
        "curvature_examples": 4, "tolerance": 5e-2, "max_products": 16, "num_train": 16,
        "max_steps": 8, "sgd_multiples": (0.3,), "rate_times_ratio": (1e-5,),
    },
    "local": PACKAGED | {
        "ratios": (1e-2, 1e-3, 1e-4, 1e-5), "seeds": (0,), "random_masks": 3, "structured_masks": 1,
        "curvature_examples": 8, "tolerance": 2e-2, "max_products": 30, "num_train": 48,
        "max_steps": 48, "rate_times_ratio": (3e-6, 1e-5, 3e-5),
    },
    "paper": {},
}  # fmt: skip


def cells(config: Config) -> Iterator[Cell]:
    """List the curvature of every mask, then the descents: the middle rate on shuffled labels."""
    for seed in config.seeds:
        for mask, place in masks(config, seed):
            for matrix in MATRICES if mask in ("all", "random") else MATRICES[1:]:
                coordinates = {"matrix": matrix, "mask": mask, **place}
                yield {"kind": "curvature", **coordinates, "seed": seed}
        for ratio in config.ratios:
            for optimizer, scales in scales_of(config).items():
                for labels in ("true", "shuffled"):
                    middle = scales[len(scales) // 2]
                    for scale in scales if labels == "true" else (middle,):
                        yield {"kind": "descent", "optimizer": optimizer, "labels": labels,
                               "ratio": ratio, "scale": scale, "seed": seed}  # fmt: skip


def masks(config: Config, seed: int) -> Iterator[tuple[str, Cell]]:
    """List kinds of masks, each with its ratio and its seed; all target weights have neither."""
    yield "all", {}
    for ratio in config.ratios:
        for kind in KINDS:
            draws = {"random": config.random_masks, "columns": config.structured_masks}.get(kind, 1)
            for mask_seed in range(seed, seed + draws):
                yield kind, {"ratio": ratio, "mask_seed": mask_seed}


def scales_of(config: Config) -> dict[str, tuple[float, ...]]:
    """Return the rates tried with each optimizer, in its own unit."""
    return {"sgd": config.sgd_multiples, "adamw": config.rate_times_ratio}


def key(cell: Cell) -> str:
    """Return the key of a cell's row, where the seed of a mask is called the mask."""
    return plain_key(cell).replace("/mask_seed=", "/mask=")


def load(config: Config, store: Store, cell: Cell) -> Setup:
    """Load the model and as many examples as curvature and descents need."""
    most = max(config.num_train, config.curvature_examples)
    return load_setup(config, store, cell, num_train=most)


def curvature(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Measure the top eigenvalue of a matrix inside a mask, at the pretrained weights."""
    config, model = setup.config, setup.model
    batches = setup.batches(config.curvature_examples, 4)
    ratio, seed = cell.get("ratio", 0.0), cell.get("mask_seed", 0)
    mask = _mask(config, model, batches, cell["mask"], ratio, seed)
    kind = ls.HessianOperator if cell["matrix"] == "hessian" else ls.GGNOperator
    with attached(model, mask):
        top = ls.lanczos(
            kind(model, batches), k=1, which="LA", tol=config.tolerance,
            max_matvecs=config.max_products,
        )  # fmt: skip
    return {
        "ratio": ratio, "mask_seed": seed, "eigenvalue": float(top.eigenvalues[0]),
        "residual": float(top.residuals[0]), "products": top.num_matvecs,
        "converged": top.converged, "count": mask.count, "density": mask.density,
    }  # fmt: skip


def descent(setup: Setup, cell: Cell) -> dict[str, Any]:
    """Descend inside a random mask from the pretrained weights to the target loss."""
    import numpy as np

    config, model, task = setup.config, setup.model, setup.task
    ratio, seed = cell["ratio"], cell["seed"]
    unit = 1 / ratio
    if cell["optimizer"] == "sgd":
        start = {"kind": "curvature", "matrix": "hessian", "mask": "random", "ratio": ratio}
        sharpest = setup.store[key(start | {"mask_seed": seed, "seed": seed})]["eigenvalue"]
        unit = 2 / sharpest
    examples = task.train[: config.num_train]
    if cell["labels"] == "shuffled":
        order = np.random.default_rng(seed).permutation(len(examples))
        examples = tuple(
            dataclasses.replace(example, label=examples[i].label)
            for example, i in zip(examples, order, strict=True)
        )
    batches = ls.make_batches(examples, setup.tokenizer, config.batch_size, loss=task.loss)
    mask, rate = _mask(config, model, None, "random", ratio, seed), cell["scale"] * unit
    with attached(model, mask):
        found = _descend(config, model, batches, cell["optimizer"], rate)
        moved = ls.distance(model)
    return found | {
        "rate": rate, "count": mask.count, "distance": moved.l2, "linf": moved.linf
    }  # fmt: skip


def _mask(
    config: Config, model: nn.Module, batches: Any, kind: str, ratio: float, seed: int
) -> ls.Mask:
    targets = config.targets
    if kind == "all":
        return ls.random_mask(model, density=1.0, targets=targets)
    if kind == "random":
        return ls.random_mask(model, ratio=ratio, targets=targets, seed=seed)
    if kind == "columns":
        return ls.structured_mask(
            model, granularity="columns", ratio=ratio, targets=targets, seed=seed
        )
    data = batches if kind == "gradient" else None
    return ls.select_mask(model, score=kind, batches=data, ratio=ratio, targets=targets)


def _descend(
    config: Config, model: Any, batches: Any, optimizer: str, rate: float
) -> dict[str, Any]:
    """Step until a pass has a mean loss below the target, the steps end, or the loss explodes."""
    rule: Any = optimizer
    stepper = ls.training.make_optimizer(rule, ls.trainable(model).values(), lr=rate)
    loop = ls.training.Loop(model, stepper, ls.task_loss, ceiling=20)
    losses: list[float] = []
    reached = False
    for record in loop.over(islice(cycle(batches), config.max_steps)):
        losses.append(record["loss"])
        passed = len(losses) % len(batches) == 0 and not loop.diverged
        reached = passed and fmean(losses[-len(batches) :]) < config.target_loss
        if reached:
            break
    return {"reached": reached, "diverged": loop.diverged, "steps": len(losses), "losses": losses}


ARTEFACT = Artefact(
    name="linear",
    title="What masked linear regression predicts for a network: sharpness, rate, distance",
    source="Xu & Zhang 2024, section 5, against their section 4",
    config=Config, presets=PRESETS, cells=cells, setup=load,
    measures={"curvature": curvature, "descent": descent},
    key=key,
    check=check, tables=tables, draw=draw,
    page=PAGE,
)  # fmt: skip
