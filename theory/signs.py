"""A step along the signs of a gradient, which AdamW's first step is, on a random mask.

AdamW's first step is lr g / (|g| + eps), so w - eta M s with s = sign g up to eps / |g|.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from theory import bounds
from theory.features import Array, Features, Indices, inside
from theory.spectra import Moments


@dataclass(frozen=True)
class SignStep:
    """Hold what a step along s = sign g needs of gradient and curvature: sums over the columns.

    Args:
        size: |g|_1 = sum_j |g_j|.
        along: s^T H s = ||X s||^2 / n.
        trace: sum_j s_j^2 H_jj, which is tr H where no g_j is 0.
        size2: sum_j g_j^2.
        largest: max_j |g_j|.
        products: sum_j a_j^2, sum_j a_j b_j and sum_j b_j^2 of a_j = s_j (H s)_j, b_j = s_j^2 H_jj.

    >>> SignStep(2.0, 9.0, 5.0, 2.0, 1.0, (45.0, 27.0, 17.0)).rate(0.5)  # X = (1, 2), g = (1, 1)
    0.2857142857142857
    """

    size: float
    along: float
    trace: float
    size2: float
    largest: float
    products: tuple[float, float, float]

    @property
    def crossover(self) -> float:
        """Return p_x = tr H / s^T H s: the best rate falls like 1/p above it and is flat below."""
        return self.trace / self.along if self.along > 0 else math.inf

    def curvature(self, p: float) -> float:
        """Return E_M s^T M H M s = p^2 s^T H s + p (1-p) tr H."""
        return p * (p * self.along + (1 - p) * self.trace)

    def change(self, p: float, eta: float) -> float:
        """Return E_M L(-eta M s) - L(0) = -eta p |g|_1 + eta^2 E_M s^T M H M s / 2."""
        return -eta * p * self.size + eta**2 * self.curvature(p) / 2

    def rate(self, p: float) -> float:
        """Return eta*(p) = |g|_1 / (p s^T H s + (1-p) tr H), the rate of the lowest mean loss.

        The mean loss is below L(0) for rates below twice this one.
        """
        return self.size / (p * self.along + (1 - p) * self.trace)

    def spread(self, p: float, moments: Moments) -> tuple[float, float]:
        """Return the standard deviations over masks of |g_S|_1 and of s_S^T H s_S.

        The second is exact where no g_j is 0 and at least the true one otherwise (NOTES).

        Args:
            moments: of the features that the step was summed over.
        """
        q, n = p * (1 - p), len(moments.gram)
        aa, ab, bb = self.products
        single = q * (4 * p**2 * aa + 4 * p * (1 - 2 * p) * ab + (1 - 2 * p) ** 2 * bb)
        pairs = 2 * q**2 * (float((moments.gram**2).sum()) - moments.sum_norm4) / n**2
        return math.sqrt(q * self.size2), math.sqrt(max(single, 0.0) + max(pairs, 0.0))

    def interval(self, p: float, delta: float, moments: Moments) -> tuple[float, float]:
        """Return an interval that holds a mask's best rate |g_S|_1 / s_S^T H s_S.

        With probability >= 1 - delta over masks: scalar Bernstein for |g_S|_1, Cantelli's
        inequality for s_S^T H s_S, or scalar Bernstein along X s where that says more from below;
        each end at delta/4. An end that says nothing is 0 or infinite.
        """
        q, mean, larger = p * (1 - p), p * self.size, max(p, 1 - p)
        room = bounds.scalar_bernstein(q * self.size2, larger * self.largest, delta / 4)
        wide = math.sqrt(4 / delta - 1) * self.spread(p, moments)[1]
        middle = self.curvature(p)
        longest = larger * math.sqrt(moments.max_norm2 / len(moments.gram))
        variance = q * self.products[0] / self.along if self.along > 0 else 0.0
        short = p * math.sqrt(self.along) - bounds.scalar_bernstein(variance, longest, delta / 4)
        least = max(middle - wide, max(short, 0.0) ** 2)
        low = max(0.0, mean - room) / (middle + wide)
        return low, (mean + room) / least if least > 0 else math.inf


def sign_step(features: Features, gradient: Array) -> SignStep:
    """Sum over the columns of X what a step along the signs of a gradient needs; H = X^T X / n.

    Args:
        features: X (n, d), or the Jacobian J of a network, whose Gauss-Newton matrix is J^T J / n.
        gradient: g (d,) of the mean loss where the step starts; a weight with g_j = 0 stays.

    Returns:
        The sums; two passes over X, cost 4 d n.
    """
    n, total = features.n, np.zeros(features.n)
    for start, block in features.blocks():
        total += np.einsum("j,ji->i", np.sign(gradient[start : start + len(block)]), block)
    trace, products = 0.0, np.zeros(3)
    for start, block in features.blocks():
        s = np.sign(gradient[start : start + len(block)])
        b = np.einsum("ji,ji->j", block, block) * np.abs(s) / n
        a = np.einsum("ji,i->j", block, total) * s / n
        trace += float(b.sum())
        products += a @ a, a @ b, b @ b
    size = np.abs(gradient)
    aa, ab, bb = products.tolist()
    return SignStep(
        float(size.sum()),
        float(total @ total) / n,
        trace,
        float(size @ size),
        float(size.max(initial=0.0)),
        (aa, ab, bb),
    )


def masked_steps(features: Features, gradient: Array, masks: Sequence[Indices]) -> Array:
    """Return |g_S|_1 and s_S^T H s_S of every mask S, (N, 2); their ratio is its best rate.

    Args:
        masks: N arrays of sorted feature indices.
    """
    signs, n = np.sign(gradient), features.n
    moved = np.zeros((len(masks), n))
    if features.stored:
        columns = features.columns()
        for total, mask in zip(moved, masks, strict=True):
            total += np.einsum("j,ji->i", signs[mask], columns.take(mask, axis=0))
    else:
        for start, block in features.blocks():
            for total, mask in zip(moved, masks, strict=True):
                some = inside(mask, start, len(block))
                total += np.einsum("j,ji->i", signs[some], block.take(some - start, axis=0))
    sizes = [float(np.abs(gradient[mask]).sum()) for mask in masks]
    return np.stack([np.array(sizes), np.square(moved).sum(1) / n], axis=1)
