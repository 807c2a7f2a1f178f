"""What masked linear regression predicts, measured on a network at its pretrained weights.

*Curvature*: the top eigenvalue of the Gauss-Newton matrix (the Hessian of the linear model) and of
the whole Hessian, for masks of several kinds and for all target weights at once. *Approaches*:
plain SGD and AdamW, on true and on shuffled labels, until the mean loss of a pass falls below one
level, so that distances are compared at equal loss and not after equal steps of a chosen size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from statistics import fmean
from typing import Any

import numpy as np
from torch import nn

from experiments.measurements.attached import attached
from experiments.measurements.descents import CEILING
from landscape.curvature import GGNOperator, HessianOperator, lanczos
from landscape.curvature.spectrum.result import EigenResult
from landscape.distances import distance
from landscape.masks import Mask, random_mask
from landscape.selection import select_mask, structured_mask
from landscape.subspace import trainable
from landscape.sweep.measurements import Measurement, Point
from landscape.sweep.measurements.curvature import batches_of, chosen
from landscape.tasks.batches import make_batches
from landscape.tasks.outputs.scoring import task_loss
from landscape.tasks.padding import Batch
from landscape.training import Loop, make_optimizer

MATRICES = {"hessian": HessianOperator, "gauss-newton": GGNOperator}
SEARCH: dict[str, Any] = {"examples": 64, "batch_size": 4, "tol": 1e-2, "max_matvecs": 60}
#: how many masks are drawn of the kinds that are drawn; the others are chosen, and are one each
DRAWN: dict[str, Any] = {"random": 5, "columns": 3}
CHOSEN = ("magnitude", "magnitude_smallest", "gradient")


def curvature(point: Point) -> dict[str, Any]:
    """Find the top eigenvalues inside the masks of a ratio, or without one in all targets.

    Options: ``ratio`` (None); how many masks are drawn: ``random`` (5), ``columns`` (3);
    ``examples`` (64) and ``batch_size`` (4) of the loss; ``tol`` (0.01), ``max_matvecs`` (60).

    Returns:
        ``masks``, a dict a mask and matrix; other masks than random ones have the Gauss-Newton
        matrix only.
    """
    asked = chosen(point, {"ratio": None} | DRAWN | SEARCH)
    batches, found = batches_of(point, asked), []
    for kind, ratio, seed in _masks(asked, point.config.seed):
        mask = _mask(point, batches, kind, ratio, seed)
        for matrix in MATRICES if kind in ("all", "random") else ("gauss-newton",):
            with attached(point.model, mask):
                top = _top(point.model, batches, matrix, asked)
            found.append({
                "matrix": matrix, "mask": kind, "ratio": ratio, "mask_seed": seed,
                "eigenvalue": float(top.eigenvalues[0]), "residual": float(top.residuals[0]),
                "products": top.num_matvecs, "converged": bool(top.converged),
                "count": mask.count, "density": mask.density,
            })  # fmt: skip
    return {"masks": found}


def _masks(asked: Mapping[str, Any], seed: int) -> Iterator[tuple[str, float, int]]:
    """List kinds of masks, each with its ratio and its seed; all target weights have neither."""
    if asked["ratio"] is None:
        yield "all", 0.0, 0
        return
    for kind in (*DRAWN, *CHOSEN):
        for mask_seed in range(seed, seed + asked.get(kind, 1)):
            yield kind, asked["ratio"], mask_seed


def _mask(point: Point, batches: Sequence[Batch], kind: str, ratio: float, seed: int) -> Mask:
    model, targets = point.model, list(point.config.targets)
    if kind == "all":
        return random_mask(model, density=1.0, targets=targets)
    if kind == "random":
        return random_mask(model, ratio=ratio, targets=targets, seed=seed)
    if kind == "columns":
        return structured_mask(
            model, granularity="columns", ratio=ratio, targets=targets, seed=seed
        )
    data = batches if kind == "gradient" else None
    return select_mask(model, score=kind, batches=data, ratio=ratio, targets=targets)


def _top(
    model: nn.Module, batches: Sequence[Batch], matrix: str, asked: Mapping[str, Any]
) -> EigenResult:
    return lanczos(
        MATRICES[matrix](model, batches), k=1, which="LA", tol=asked["tol"],
        max_matvecs=asked["max_matvecs"],
    )  # fmt: skip


def approaches(point: Point) -> dict[str, Any]:
    """Descend inside the random mask of a ratio from the pretrained weights to a target loss.

    Options: ``ratio``; rates of ``sgd``, in units of 2 / sharpness of the same mask, and of
    ``adamw``, over the ratio; the middle one is tried on shuffled labels too. ``train`` (64)
    examples in steps of ``step`` (8), at most ``max_steps`` (160) of them; ``target`` (0.3), the
    mean loss of a pass at which a descent stops; the sharpness has the options of `curvature`.

    Returns:
        ``descents``, a dict each.
    """
    asked = chosen(point, SEARCH | {
        "ratio": 1e-2, "sgd": (0.3, 1.0, 3.0), "adamw": (3e-7, 1e-6, 3e-6), "train": 64, "step": 8,
        "max_steps": 160, "target": 0.3,
    })  # fmt: skip
    ratio, seed = asked["ratio"], point.config.seed
    seen, mask = batches_of(point, asked), _mask(point, [], "random", ratio, seed)
    with attached(point.model, mask):
        unit = 2 / float(_top(point.model, seen, "hessian", asked).eigenvalues[0])
    found = []
    for optimizer, of in (("sgd", unit), ("adamw", 1 / ratio)):
        scales = asked[optimizer]
        for labels in ("true", "shuffled"):
            batches = _batches(point, asked, labels)
            for scale in scales if labels == "true" else (scales[len(scales) // 2],):
                with attached(point.model, mask):
                    made = _descend(point.model, batches, optimizer, scale * of, asked)
                    moved = distance(point.model)
                found.append({
                    "optimizer": optimizer, "labels": labels, "ratio": ratio, "scale": scale,
                    "rate": scale * of, "count": mask.count, **made, "distance": moved.l2,
                    "linf": moved.linf,
                })  # fmt: skip
    return {"descents": found}


def _batches(point: Point, asked: Mapping[str, Any], labels: str) -> list[Batch]:
    """Return the examples of the descents, with their own labels or with each other's."""
    examples = point.task.train[: asked["train"]]
    if labels == "shuffled":
        order = np.random.default_rng(point.config.seed).permutation(len(examples))
        examples = tuple(
            dataclasses.replace(example, label=examples[i].label)
            for example, i in zip(examples, order, strict=True)
        )
    return make_batches(examples, point.tokenizer, asked["step"], loss=point.task.loss)


def _descend(
    model: nn.Module, batches: list[Batch], optimizer: str, rate: float, asked: Mapping[str, Any]
) -> dict[str, Any]:
    """Step until a pass has a mean loss below the target, the steps end, or the loss explodes."""
    stepper = make_optimizer(optimizer, trainable(model).values(), lr=rate)  # type: ignore[arg-type]
    loop = Loop(model, stepper, task_loss, ceiling=CEILING)
    losses: list[float] = []
    reached = False
    for record in loop.over(islice(cycle(batches), asked["max_steps"])):
        losses.append(record["loss"])
        passed = len(losses) % len(batches) == 0 and not loop.diverged
        reached = passed and fmean(losses[-len(batches) :]) < asked["target"]
        if reached:
            break
    return {"reached": reached, "diverged": loop.diverged, "steps": len(losses), "losses": losses}


CURVATURE = Measurement("top eigenvalues inside masks of a ratio, by kind", before=curvature)
APPROACHES = Measurement("descents inside a mask to one loss", before=approaches)
