"""What the linear model of a network predicts for its random masks: four numbers with intervals.

The linear model is the network's own, by its Jacobian at the pretrained weights
(`theory.linearise`). Were the network linear, a mask that the engine draws and masks that the
theory draws would be exchangeable: with 79 of those, the second smallest and the second
largest value enclose a new mask's with probability 0.95, whatever the distribution (the orders
of SGD's examples are shared by the first few).
What no mask reaches is 1e30.

The numbers: ``sharpness``, lambda_1 of the Gauss-Newton matrix; ``rate`` at which the first step
along the signs of the gradient has the lowest loss, to second order, and ``rate_softmax`` where the
linear scores have their own cross-entropy; ``distance``, the least at which the linear
scores have a given share of the first cross-entropy; ``sgd``, the smallest rate at which a squared
loss has grown after steps on one example each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.measurements.gram import nearest, numbers, pairs, scores, stable
from landscape import seeds
from landscape.errors import UserError
from landscape.masks import Mask, bernoulli, random_mask
from landscape.sweep.measurements import Measurement, Point
from landscape.sweep.measurements.curvature import chosen
from landscape.tasks import Example
from landscape.tasks.batches import make_batches
from theory import HeavyLight, divide, sharpness_interval
from theory.features import Array, Features
from theory.jacobian import Linearised, linearise
from theory.purposes import MASKS
from theory.signs import SignStep, sign_step
from theory.spectra import Moments, masked_grams, moments

BATCH = 40  # masks of one pass over X
ORDERS = 20  # purpose of a seed: the order of the examples that SGD sees

USUAL: dict[str, Any] = {
    "ratios": (1e-2,), "masks": 5, "examples": 16, "draws": 79, "heavy": 1000, "delta": 0.05,
    "share": 0.5, "steps": 60,
}  # fmt: skip


def predicted(point: Point) -> dict[str, Any]:
    """Predict the four numbers for random masks of some ratios.

    Options: ``ratios`` ((0.01,)); ``masks`` (5), the engine's of seeds 0, 1, ..; ``examples`` (16),
    the shortest of the training split; ``draws`` (79), masks that the theory draws; ``heavy``
    (1000) columns and ``delta`` (0.05) of the certified intervals; ``share`` (0.5) of the first
    loss; ``steps`` (60) of SGD.

    Returns:
        ``ratios``, a dict each: ``ratio``, ``density``; ``law``, the closed forms; ``draws``, the
        values of each number over the theory's masks; ``masks``, those of each of the engine's,
        with certified intervals; ``seconds`` of processor time.
    """
    began, asked = time.process_time(), chosen(point, USUAL)
    linear = _linear(point, asked["examples"])
    slope = np.concatenate(
        [-block @ linear.y / linear.features.n for _, block in linear.features.blocks()]
    )
    whole = Whole(
        linear, _with_signs(linear), sign_step(linear.features, slope),
        divide(linear.features, min(asked["heavy"], linear.features.d)), moments(linear.features),
    )  # fmt: skip
    found = [_at(point, whole, ratio, asked) for ratio in asked["ratios"]]
    return {"ratios": found, "seconds": spent(began)}


def spent(began: float) -> float:
    """Return the seconds of processor time since an instant of `time.process_time`."""
    return round(time.process_time() - began, 1)


@dataclass(frozen=True)
class Whole:
    """Hold what is summed over all columns once, whatever the ratio."""

    linear: Linearised
    signed: Features
    step: SignStep
    parts: HeavyLight
    moments: Moments


def _at(point: Point, whole: Whole, ratio: float, asked: Mapping[str, Any]) -> dict[str, Any]:
    linear, targets = whole.linear, list(point.config.targets)
    masks = [random_mask(point.model, ratio=ratio, targets=targets, seed=seed)
             for seed in range(asked["masks"])]  # fmt: skip
    density = float(masks[0].rule["density"])
    found: dict[str, list[float]] = {}
    for gram in _grams(whole.signed, density, asked["draws"]):
        order = seeds.numbered(len(found.get("rate", ())), ORDERS)
        for name, value in numbers(linear, gram, asked, order).items():
            found.setdefault(name, []).append(_digits(value))
    grams = masked_grams(whole.signed, [linear.indices(mask) for mask in masks])
    return {
        "ratio": ratio, "density": density,
        "draws": {name: sorted(values) for name, values in found.items()},
    } | _closed(whole, masks, grams, density, asked)  # fmt: skip


def shortest(point: Point, count: int) -> list[Example]:
    """Return the shortest examples of the training split, the first of equal ones first."""
    some = [example for example in point.task.train if isinstance(example, Example)]
    return sorted(some, key=lambda example: len(example.prompt))[:count]


def _linear(point: Point, examples: int) -> Linearised:
    some = shortest(point, examples)
    batches = make_batches(some, point.tokenizer, 1, loss=point.task.loss)
    linear = linearise(point.model, batches, targets=list(point.config.targets))
    sizes = {z.size for z in linear.outputs}
    if sizes != {2} or linear.features.exponent:
        raise UserError(
            f"expected examples of two classes, got outputs of sizes {sorted(sizes)}; choose a "
            "task of two classes"
        )
    return linear


def _with_signs(linear: Linearised) -> Features:
    """Return the features with one more row, the signs of -g: Grams then hold X M s as well."""
    x, y = linear.features, linear.y

    def read(start: int, stop: int) -> Array:
        block = x.read(start, stop)
        return np.concatenate([block, np.sign(block @ y)[:, None]], axis=1)

    return Features(x.name, x.n + 1, x.d, read)


def _grams(features: Features, density: float, count: int) -> Iterator[Array]:
    """Yield X M X' of random masks of the theory's own, from one pass over X for some at once."""
    rng = seeds.numbered(0, MASKS)
    for start in range(0, count, BATCH):
        drawn = [bernoulli(rng, features.d, density) for _ in range(min(BATCH, count - start))]
        yield from masked_grams(features, drawn)


def _closed(
    whole: Whole, masks: Sequence[Mask], grams: Array, p: float, asked: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the closed forms, and the engine's masks with their certified intervals."""
    linear, delta, n = whole.linear, asked["delta"], whole.linear.features.n
    small = p * pairs(linear, whole.moments.gram)
    law = {
        "sharpness": p * whole.moments.top / n, "rate": whole.step.rate(p),
        "distance": nearest(small, *scores(linear), asked["share"]),
        "bound": stable(small), "crossover": whole.step.crossover,
    }  # fmt: skip
    rate = whole.step.interval(p, delta, whole.moments)
    rows = []
    for seed, (mask, gram) in enumerate(zip(masks, grams, strict=True)):
        certified = sharpness_interval(whole.parts, linear.indices(mask), p, delta=delta)
        values = numbers(linear, gram, asked, seeds.numbered(seed, ORDERS))
        rows.append({
            "seed": seed, "count": mask.count, **{n: _digits(v) for n, v in values.items()},
            "certified_sharpness": [_digits(certified.low), _digits(certified.high)],
            "certified_rate": [_digits(rate[0]), _digits(rate[1])],
        })  # fmt: skip
    return {"law": {name: _digits(value) for name, value in law.items()}, "masks": rows}


def _digits(value: float) -> float:
    """Round for a row; JSON has no infinity, and 1e30 stands for it."""
    return min(1e30, float(f"{value:.5g}"))


PREDICTED = Measurement("what the linear model predicts for random masks", before=predicted)
