"""Eigenvalues of X M X^T for many masks, from the selected columns only; nothing is d x d."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator

from theory.features import Array, Features, Indices, inside

SERIAL = 1 << 18  # BLAS runs products of at most this many multiplications on one thread
DENSE = 0.2  # share of kept features from which drawing all d is faster than drawing gaps
SPREAD = 6  # standard deviations of the count for which gaps are drawn at once
ENUMERATED = 10  # columns of the sub-problem whose masks are all enumerated


@dataclass(frozen=True)
class Moments:
    """Hold what the bounds need of X, from one pass over its columns.

    Args:
        gram: X X^T = sum_j z_j z_j^T, (n, n).
        weighted: sum_j ||z_j||^2 z_j z_j^T, (n, n).
        max_norm2: max_j ||z_j||^2.
        sum_norm4: sum_j ||z_j||^4.
        sum_norm8: sum_j ||z_j||^8.
        low: smallest entry of X.
        high: largest entry of X.
    """

    gram: Array
    weighted: Array
    max_norm2: float
    sum_norm4: float
    sum_norm8: float
    low: float
    high: float

    @cached_property
    def eigenvalues(self) -> Array:
        """Return the n eigenvalues of X X^T, largest first."""
        return descending(self.gram)

    @property
    def top(self) -> float:
        """Return lambda_1(X X^T) = lambda_1(X^T X)."""
        return float(self.eigenvalues[0])

    @property
    def max_abs(self) -> float:
        """Return max |x_ij|, the smallest r that bounds every entry."""
        return max(abs(self.low), abs(self.high))


def moments(features: Features) -> Moments:
    """Compute the ``Moments`` of X in one pass; cost d n^2, memory one block."""
    n = features.n
    gram, weighted = np.zeros((n, n)), np.zeros((n, n))
    largest = fourth = eighth = 0.0
    low, high = np.inf, -np.inf
    for _, block in features.blocks():
        norm2 = np.einsum("ji,ji->j", block, block)
        gram += gram_of(block)
        weighted += gram_of(block * np.sqrt(norm2)[:, None])
        largest = max(largest, float(norm2.max()))
        fourth += float((norm2**2).sum())
        eighth += float((norm2**4).sum())
        low, high = min(low, float(block.min())), max(high, float(block.max()))
    return Moments(gram, weighted, largest, fourth, eighth, low, high)


def gram_of(columns: Array) -> Array:
    """Return sum_j z_j z_j^T, (n, n), of columns given as rows (k, n).

    Tall products are divided into chunks that BLAS does not spread over threads: on a busy machine
    its threads wait for each other and such a product takes hundreds of times longer.
    """
    k, n = columns.shape
    chunk = max(64, SERIAL // n**2)
    whole = k - k % chunk
    body = columns[:whole].reshape(-1, chunk, n)
    rest = columns[whole:]
    return np.asarray(np.matmul(body.transpose(0, 2, 1), body).sum(axis=0) + rest.T @ rest)


def draw_mask(rng: Generator, d: int, p: float) -> Indices:
    """Draw the kept features of an i.i.d. Bernoulli(p) mask, sorted; cost O(p d) random numbers.

    Gaps between kept features are Geometric(p), independent, so their sums are the mask in order;
    above p = ``DENSE`` one uniform number a feature is faster.
    """
    if p >= DENSE:
        return np.flatnonzero(rng.random(d) < p).astype(np.int64, copy=False)
    last, parts = -1, [np.empty(0, dtype=np.int64)]
    size = 1 + int(d * p + SPREAD * math.sqrt(d * p))
    while p > 0 and last < d:
        parts.append(last + rng.geometric(p, size).cumsum())
        last = int(parts[-1][-1])
    kept = np.concatenate(parts)
    return kept[: np.searchsorted(kept, d)]


def masked_grams(features: Features, masks: Sequence[Indices]) -> Array:
    """Compute X M X^T = sum_{j in mask} z_j z_j^T for every mask.

    Args:
        masks: N arrays of sorted feature indices.

    Returns:
        (N, n, n). Cost N p d n^2, and one pass over X when X is not stored.
    """
    grams = np.zeros((len(masks), features.n, features.n))
    if features.stored:
        columns = features.columns()
        for gram, mask in zip(grams, masks, strict=True):
            gram += gram_of(columns.take(mask, axis=0))
        return grams
    for start, block in features.blocks():
        for gram, mask in zip(grams, masks, strict=True):
            gram += gram_of(block.take(inside(mask, start, len(block)) - start, axis=0))
    return grams


def every_mask(columns: Array, p: float) -> tuple[Array, Array]:
    """Return the probability (2^k,) and the masked columns (2^k, k, n) of all masks of k columns.

    Args:
        columns: a few columns as rows, (k, n); memory 2^k k n.
    """
    k = len(columns)
    masks = (np.arange(2**k)[:, None] >> np.arange(k)) & 1
    weights = np.prod(np.where(masks == 1, p, 1 - p), axis=1)
    return weights, columns * masks[:, :, None]


def masked_eigenvalues(
    features: Features, p: float, count: int, *, seed: int = 0, batch: int = 256
) -> Array:
    """Draw masks and compute the eigenvalues of X M X^T (those of M X^T X M that may be positive).

    Args:
        p: probability to keep a feature.
        count: number of masks N.
        batch: masks whose Gram matrices are held at once.

    Returns:
        (N, n), largest first. Cost N p d n^2 + N n^3.
    """
    rng = np.random.default_rng(seed)
    values = np.empty((count, features.n))
    for start in range(0, count, batch):
        masks = [draw_mask(rng, features.d, p) for _ in range(min(batch, count - start))]
        values[start : start + batch] = descending(masked_grams(features, masks))
    return values


def descending(matrices: Array) -> Array:
    """Return the eigenvalues of symmetric matrices (..., n, n), largest first."""
    return np.asarray(np.linalg.eigvalsh(matrices)[..., ::-1])
