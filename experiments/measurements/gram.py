"""What the Gram matrix of the gradients inside one mask says: the linear model's numbers.

With two classes everything is told by the differences z_1 - z_0 of an example's scores, which a
linear model moves by B w, B the gradients of the differences inside the mask, w the change of the
weights. B B' (n, n) is all that is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.random import Generator

from experiments.measurements.descents import MARGIN
from theory.features import Array
from theory.jacobian import Linearised
from theory.statements.sgd import sgd_step

#: rates of the search of SGD's threshold are whole powers of this
NOTCH = 2**0.25
#: times the mean of the first squared errors that ends a search's steps as grown, in both models
FAR = 1e6


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
    gaps, labels = scores(linear)
    small = pairs(linear, kernel)
    bound = stable(small)
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


def stable(small: Array) -> float:
    """Return the rate below which SGD of one example a step is stable, of the squared loss."""
    return sgd_step(float(np.linalg.eigvalsh(small)[-1]) / (2 * len(small)),
                    float(small.diagonal().max()) / 2, 1)  # fmt: skip


def scores(linear: Linearised) -> tuple[Array, Array]:
    """Return the differences of the scores z_1 - z_0, and the labels as 1 and -1."""
    z = np.concatenate([one.reshape(1, 2) for one in linear.outputs])
    return z[:, 1] - z[:, 0], np.sign(linear.y)


def pairs(linear: Linearised, gram: Array) -> Array:
    """Return the Gram matrix of the gradients of z_1 - z_0, from that of X."""
    gaps, _ = scores(linear)
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


def beyond(square: float, mean: float) -> bool:
    """Whether a squared error has left what it began with, a mean, for good, or is not finite."""
    return not square < FAR * mean


def _grown(gram: Array, error: Array, seen: Array, rate: float) -> bool:
    """Whether the mean squared error of a linear model is larger after SGD's steps than before.

    As in the network, of which a step sees one example, the error of that one may end the steps.
    """
    e, mean = error.copy(), float(np.square(error).mean())
    for i in seen:
        if beyond(float(e[i]) ** 2, mean):
            return True
        e -= rate * e[i] * gram[:, i]
    return not float(e @ e) <= float(error @ error)
