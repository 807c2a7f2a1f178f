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
from typing import Any

import numpy as np

import landscape as ls
from experiments.harness import PACKAGED, Artefact, Setting, Store
from experiments.linear_report import check, render
from experiments.settings import paper
from landscape.training import Loop, make_optimizer

KINDS = ("random", "columns", "magnitude", "magnitude_smallest", "gradient")
MATRICES: dict[str, Any] = {"hessian": ls.HessianOperator, "gauss-newton": ls.GGNOperator}


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
    #: products after which Lanczos stops
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


def compute(config: Config, store: Store) -> None:
    """Measure the curvature of every mask, then descend with each optimiser, labels and rate."""
    model, tokenizer = ls.load_model(config.model)
    for seed in config.seeds:
        task = ls.load_task(
            config.task, source=config.source or None, num_test=8, num_dev=8, seed=seed,
            num_train=max(config.num_train, config.curvature_examples),
        )  # fmt: skip
        batches = ls.make_batches(
            task.train[: config.curvature_examples], tokenizer, 4, sort=True, loss=task.loss
        )
        for name, kind, ratio, mask_seed in masks(config, seed):
            for matrix in matrices(kind):
                row = {"matrix": matrix, "mask": kind, "ratio": ratio, "mask_seed": mask_seed}
                key = f"curvature/{matrix}/{name}/seed={seed}"
                _curvature_row(config, store, model, batches, key, row | {"seed": seed})
        for case in descents(config, store, seed):
            _descent_row(config, store, model, tokenizer, task, case)


def masks(config: Config, seed: int) -> Iterator[tuple[str, str, float, int]]:
    """List (name, kind, ratio, seed of the mask); ratio 0 stands for all target weights."""
    yield "all", "all", 0.0, 0
    for ratio in config.ratios:
        for kind in KINDS:
            draws = {"random": config.random_masks, "columns": config.structured_masks}.get(kind, 1)
            for draw in range(seed, seed + draws):
                yield f"{kind}/ratio={ratio:g}/mask={draw}", kind, ratio, draw


def matrices(kind: str) -> list[str]:
    """List what is measured: other masks than random ones on the Gauss-Newton matrix only."""
    return list(MATRICES) if kind in ("all", "random") else ["gauss-newton"]


def descents(config: Config, store: Store, seed: int) -> Iterator[dict[str, Any]]:
    """List the descents: every rate on true labels, the middle rate on shuffled ones."""
    for ratio in config.ratios:
        key = f"curvature/hessian/random/ratio={ratio:g}/mask={seed}/seed={seed}"
        stable = 2 / store[key]["eigenvalue"]
        for optimizer, scales, unit in (
            ("sgd", config.sgd_multiples, stable),
            ("adamw", config.rate_times_ratio, 1 / ratio),
        ):
            for labels in ("true", "shuffled"):
                middle = scales[len(scales) // 2]
                for scale in scales if labels == "true" else (middle,):
                    yield {"optimizer": optimizer, "labels": labels, "ratio": ratio,
                           "scale": scale, "rate": scale * unit, "seed": seed}  # fmt: skip


def expected(config: Config) -> list[str]:
    """List the keys of all rows."""
    keys = []
    for seed in config.seeds:
        for name, kind, *_ in masks(config, seed):
            keys += [f"curvature/{matrix}/{name}/seed={seed}" for matrix in matrices(kind)]
        for ratio in config.ratios:
            for optimizer in ("sgd", "adamw"):
                scales = config.sgd_multiples if optimizer == "sgd" else config.rate_times_ratio
                cases = [("true", s) for s in scales] + [("shuffled", scales[len(scales) // 2])]
                keys += [_key(optimizer, labels, ratio, s, seed) for labels, s in cases]
    return keys


def _key(optimizer: str, labels: str, ratio: float, scale: float, seed: int) -> str:
    return f"descent/{optimizer}/{labels}/ratio={ratio:g}/scale={scale:g}/seed={seed}"


def _mask(config: Config, model: Any, batches: Any, kind: str, ratio: float, seed: int) -> ls.Mask:
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


def _curvature_row(
    config: Config, store: Store, model: Any, batches: Any, key: str, row: dict[str, Any]
) -> None:
    def measure() -> dict[str, Any]:
        mask = _mask(config, model, batches, row["mask"], row["ratio"], row["mask_seed"])
        ls.attach(model, mask)
        try:
            operator = MATRICES[row["matrix"]](model, batches)
            top = ls.lanczos(
                operator, k=1, which="LA", tol=config.tolerance, max_matvecs=config.max_products
            )
        finally:
            ls.detach(model)
        return row | {
            "kind": "curvature", "eigenvalue": float(top.eigenvalues[0]),
            "residual": float(top.residuals[0]), "products": top.num_matvecs,
            "converged": top.converged, "count": mask.count, "density": mask.density,
        }  # fmt: skip

    if key not in store:
        store.say(key)
    store.compute(key, measure)


def _descent_row(
    config: Config, store: Store, model: Any, tokenizer: Any, task: ls.Task, case: dict[str, Any]
) -> None:
    def descend() -> dict[str, Any]:
        examples = task.train[: config.num_train]
        if case["labels"] == "shuffled":
            order = np.random.default_rng(case["seed"]).permutation(len(examples))
            examples = tuple(
                dataclasses.replace(example, label=examples[i].label)
                for example, i in zip(examples, order, strict=True)
            )
        batches = ls.make_batches(examples, tokenizer, config.batch_size, loss=task.loss)
        mask = _mask(config, model, None, "random", case["ratio"], case["seed"])
        ls.attach(model, mask)
        try:
            found = _descend(config, model, batches, case["optimizer"], case["rate"])
            moved = ls.distance(model)
        finally:
            ls.detach(model)
        return case | found | {
            "kind": "descent", "count": mask.count, "distance": moved.l2, "linf": moved.linf
        }  # fmt: skip

    key = _key(case["optimizer"], case["labels"], case["ratio"], case["scale"], case["seed"])
    if key not in store:
        store.say(key)
    store.compute(key, descend)


def _descend(
    config: Config, model: Any, batches: Any, optimizer: str, rate: float
) -> dict[str, Any]:
    """Step until a pass has a mean loss below the target, the steps end, or the loss explodes."""
    rule: Any = optimizer
    loop = Loop(
        model, make_optimizer(rule, ls.trainable(model).values(), lr=rate), ls.task_loss, ceiling=20
    )
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
    config=Config,
    presets=PRESETS,
    rows=compute,
    render=render,
    check=check,
    expected=expected,
)
