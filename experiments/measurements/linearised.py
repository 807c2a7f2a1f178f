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

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from landscape import seeds
from landscape.errors import UserError
from landscape.masks import Mask, bernoulli, random_mask
from landscape.sweep.measurements import Measurement, Point
from landscape.sweep.measurements.curvature import chosen
from landscape.tasks import Example
from landscape.tasks.batches import make_batches
from theory.conditional import HeavyLight, divide, sharpness_interval
from theory.features import Array, Features
from theory.jacobian import Linearised, linearise
from theory.purposes import MASKS
from theory.signs import SignStep, sign_step
from theory.spectra import Moments, masked_grams, moments
from theory.statements.sgd import sgd_step

#: difference of scores that the squared loss asks for, as in `experiments.measurements.descents`
MARGIN = 4.0
#: rates of the search of SGD's threshold are whole powers of this
NOTCH = 2**0.25
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
    small = p * _pairs(linear, whole.moments.gram)
    law = {
        "sharpness": p * whole.moments.top / n, "rate": whole.step.rate(p),
        "distance": nearest(small, *_start(linear), asked["share"]),
        "bound": _bound(small), "crossover": whole.step.crossover,
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


def _bound(small: Array) -> float:
    """Return the rate below which SGD of one example a step is stable, of the squared loss."""
    return sgd_step(float(np.linalg.eigvalsh(small)[-1]) / (2 * len(small)),
                    float(small.diagonal().max()) / 2, 1)  # fmt: skip


def numbers(
    linear: Linearised, gram: Array, asked: Mapping[str, Any], order: Generator
) -> dict[str, float]:
    """Return the four numbers of one mask, and the bound on SGD's rate, from its Gram matrix.

    Args:
        linear: the network's linear model, of n rows.
        gram: of X M and the signs s of -g, (n + 1, n + 1).
        asked: the options.
        order: of the examples that SGD sees.
    """
    n = linear.features.n
    kernel, moved = gram[:n, :n], gram[:n, n]
    gaps, labels = _start(linear)
    small = _pairs(linear, kernel)
    bound = _bound(small)
    quadratic = float(linear.y @ moved) / float(moved @ moved)
    error, seen = (gaps - MARGIN * labels) / math.sqrt(2), order.integers(0, n, asked["steps"])
    return {
        "sharpness": float(np.linalg.eigvalsh(kernel)[-1]) / n,
        "rate": quadratic,
        "rate_softmax": quadratic
        * _softmax_rate(quadratic * moved * 2 * np.cosh(gaps / 2), gaps, labels),
        "distance": nearest(small, gaps, labels, asked["share"]),
        "sgd": threshold(lambda rate: _grown(small / 2, error, seen, rate), bound),
        "bound": bound,
    }


def _start(linear: Linearised) -> tuple[Array, Array]:
    """Return the differences of the scores z_1 - z_0, and the labels as 1 and -1."""
    z = np.concatenate([one.reshape(1, 2) for one in linear.outputs])
    return z[:, 1] - z[:, 0], np.sign(linear.y)


def _pairs(linear: Linearised, gram: Array) -> Array:
    """Return the Gram matrix of the gradients of z_1 - z_0, from that of X."""
    gaps, _ = _start(linear)
    weights = 1 / (2 * np.cosh(gaps / 2))  # sqrt(pi (1 - pi))
    return np.asarray(gram / np.outer(weights, weights))


def nearest(gram: Array, gaps: Array, labels: Array, share: float) -> float:
    """Return the least norm of w at which linear scores have a share of the first cross-entropy.

    min ||w|| such that mean log(1 + exp(-l (z + B w))) = share of that at 0, along the path of
    min reg ||w||^2 / 2 + loss: w = B' a, reg a = l sigmoid(-l (z + B B' a)) / n, by Newton.

    Args:
        gram: B B' (n, n).
        gaps: z (n,).
        labels: l, 1 or -1 (n,).
        share: of the loss at w = 0, in (0, 1).

    Returns:
        The distance; infinite where no w reaches it.
    """
    n, a = len(gaps), np.zeros(len(gaps))
    target = share * float(np.logaddexp(0, -labels * gaps).mean())
    high = 1e6 * float(np.trace(gram)) / n
    low = 1e-15 * high
    for _ in range(40):
        reg = math.sqrt(low * high)
        a = _regularised(gram, gaps, labels, reg, a)
        loss = float(np.logaddexp(0, -labels * (gaps + gram @ a)).mean())
        low, high = (reg, high) if loss < target else (low, reg)
    reached = loss <= 1.01 * target
    return math.sqrt(max(0.0, float(a @ gram @ a))) if reached else math.inf


def _softmax_rate(step: Array, gaps: Array, labels: Array) -> float:
    """Return the multiple of a step of linear scores at which their cross-entropy is lowest.

    Where the step improves every example there is none, and the multiple is infinite.
    """

    def falling(scale: float) -> bool:
        margins = np.clip(labels * (gaps + scale * step), -500, 500)
        return float((labels * step / (1 + np.exp(margins))).sum()) > 0

    low, high = 0.0, 1.0
    while falling(high):
        if high > 1e6:
            return math.inf
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) else (low, middle)
    return high


def _regularised(gram: Array, gaps: Array, labels: Array, reg: float, a: Array) -> Array:
    n = len(gaps)

    def slope(a: Array) -> tuple[Array, Array]:
        wrong = 1 / (1 + np.exp(np.clip(labels * (gaps + gram @ a), -500, 500)))
        return reg * a - labels * wrong / n, wrong * (1 - wrong) / n

    now, curve = slope(a)
    for _ in range(50):
        step, size = np.linalg.solve(reg * np.eye(n) + curve[:, None] * gram, now), 1.0
        while True:
            new, bent = slope(a - size * step)
            if size < 1e-3 or np.linalg.norm(new) < np.linalg.norm(now):
                break
            size /= 2
        a, now, curve = a - size * step, new, bent
        if np.linalg.norm(now) < 1e-9 * reg * (1 + np.linalg.norm(a)):
            break
    return a


def threshold(grown: Callable[[float], bool], guess: float) -> float:
    """Return the smallest power of 2^(1/4) at which something grows: doubling, then bisection.

    >>> threshold(lambda rate: rate > 1.3, 0.4) == NOTCH**2
    True
    """
    k = math.floor(math.log(guess, NOTCH))
    if grown(NOTCH**k):
        while grown(NOTCH ** (k - 4)):
            k -= 4
        low, high = k - 4, k
    else:
        while not grown(NOTCH ** (k + 4)):
            k += 4
        low, high = k, k + 4
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if grown(NOTCH**middle) else (middle, high)
    return float(NOTCH**high)


def _grown(gram: Array, error: Array, seen: Array, rate: float) -> bool:
    """Whether the mean squared error of a linear model is larger after SGD's steps than before."""
    e = error.copy()
    for i in seen:
        e -= rate * e[i] * gram[:, i]
        if not float(np.abs(e).max()) < 1e6 * float(np.abs(error).max()):
            return True
    return float(e @ e) > float(error @ error)


def _digits(value: float) -> float:
    """Round for a row; JSON has no infinity, and 1e30 stands for it."""
    return min(1e30, float(f"{value:.5g}"))


PREDICTED = Measurement("what the linear model predicts for random masks", before=predicted)
