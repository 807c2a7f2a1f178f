"""Triangular factors of X M for many masks: singular values that a Gram matrix cannot hold.

A Gram matrix squares the condition number: in float64 its eigenvalues are lost below 1e-16 of the
largest, singular values below 1e-8. A factor R with R^T R = X M X^T, from the columns themselves
by QR, keeps singular values down to the rounding of X.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from theory.features import Array, Features, Indices, inside
from theory.spectra import SERIAL

FLOOR = 1e-14  # a singular value at or below FLOOR times the largest one counts as zero
RESOLVED = 1e-12  # one below RESOLVED times the largest has no two correct digits
BATCH = 32  # factors that are held at once


def factor_of(columns: Array) -> Array:
    """Return R (n, n), upper triangular, with R^T R = sum_j z_j z_j^T, of columns as rows (k, n).

    Tall matrices are divided into chunks whose factors are factored again, for the reason that
    ``gram_of`` gives. Cost: 2 k n^2.
    """
    n = columns.shape[1]
    chunk = max(64, 2 * n, SERIAL // n**2)
    while len(columns) > chunk:
        whole = len(columns) - len(columns) % chunk
        heads = np.asarray(np.linalg.qr(columns[:whole].reshape(-1, chunk, n), mode="r"))
        columns = np.concatenate([heads.reshape(-1, n), columns[whole:]])
    factor = np.asarray(np.linalg.qr(columns, mode="r"))
    return np.concatenate([factor, np.zeros((n - len(factor), n))])


def masked_factors(features: Features, masks: Sequence[Indices]) -> Array:
    """Compute R with R^T R = X M X^T for every mask.

    Args:
        masks: N arrays of sorted feature indices.

    Returns:
        (N, n, n). Cost 2 N p d n^2, and one pass over X when X is not stored.
    """
    if features.stored:
        columns = features.columns()
        return np.stack([factor_of(columns.take(mask, axis=0)) for mask in masks])
    factors = np.zeros((len(masks), features.n, features.n))
    for start, block in features.blocks():
        for i, mask in enumerate(masks):
            chosen = block.take(inside(mask, start, len(block)) - start, axis=0)
            factors[i] = factor_of(np.concatenate([factors[i], chosen]))
    return factors


def batches(masks: Sequence[Indices]) -> Iterator[Sequence[Indices]]:
    """Yield the masks in groups of ``BATCH``."""
    for start in range(0, len(masks), BATCH):
        yield masks[start : start + BATCH]


def positive(singular_values: Array) -> Array:
    """Return which singular values (..., q) count as positive: above ``FLOOR`` of the largest."""
    top = singular_values.max(axis=-1, keepdims=True, initial=0.0)
    return np.asarray((singular_values > 0) & (singular_values > FLOOR * top))


def rank(singular_values: Array) -> int:
    """Count the singular values (q,) that count as positive."""
    return int(positive(singular_values).sum())


def resolved(singular_values: Array) -> bool:
    """Whether none lies between ``FLOOR`` and ``RESOLVED`` of the largest: 1/s^2 has digits."""
    kept = singular_values[positive(singular_values)]
    return bool((kept >= RESOLVED * kept.max(initial=0.0)).all())


def rank_note(singular_values: Array) -> str:
    """Say in a sentence that the rank depends on what counts as zero, or nothing.

    >>> rank_note(np.array([1.0, 1e-7]))
    ''
    >>> rank_note(np.array([1.0, 1e-16])).rpartition(", ")[2]
    '1 truncated to 0'
    """
    top = singular_values.max(initial=0.0)
    small = int((singular_values < RESOLVED * top).sum())
    if small == 0:
        return ""
    truncated = singular_values.size - rank(singular_values)
    return (
        f"numerically rank-deficient: {small} of {singular_values.size} singular values below "
        f"{RESOLVED:g} of the largest, {truncated} truncated to 0"
    )
