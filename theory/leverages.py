"""How much of D^2 masks keep: the share c of the spare features, from the leverages of X.

The leverage tau_j = z_j^T (X X^T)^-1 z_j in [0, 1] says how much of column j no other column can
replace; sum_j tau_j = n.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from theory.features import Array
from theory.problems import MaskedRegression


def whitened(problem: MaskedRegression) -> Iterator[Array]:
    """Yield (X X^T)^-1/2 z_j block by block, as rows; X must have rank n. Cost: d n^2."""
    _, s, vectors = np.linalg.svd(problem.factor)
    whiten = vectors.T / s @ vectors
    return (block @ whiten for _, block in problem.features.blocks())


def leverages(problem: MaskedRegression) -> Array:
    """Return tau_j = z_j^T (X X^T)^-1 z_j, (d,); X must have rank n. Cost: d n^2."""
    return np.concatenate([np.square(block).sum(1) for block in whitened(problem)])


def equal_share(n: int, d: int, p: float) -> float:
    """Return q = (p - n/d) / (1 - n/d): of d - n spare features, the share that masks keep.

    ``effective_share`` where all leverages are n/d. At p d <= n it is not positive and no law in
    1/q applies.

    >>> equal_share(10, 110, 0.5)
    0.45
    """
    return (p * d - n) / (d - n)


def effective_share(leverages: Array, p: float) -> float:
    """Return c in [0, 1] with p sum_j tau_j / (tau_j + c (1 - tau_j)) = n, 0 where there is none.

    (X M X^T)^-1 is about (X X^T)^-1 / c: a column of leverage tau that is kept takes up
    tau / (tau + c (1 - tau)) of the n dimensions (all of one at tau = 1). No solution means that
    masks keep too few columns for rank n: p sum_{tau > 0} 1 <= n.

    >>> round(effective_share(np.full(110, 10 / 110), 0.5), 12)  # equal leverages: q
    0.45
    """
    tau = leverages[leverages > 0]
    n = float(tau.sum())

    def surplus(c: float) -> float:
        return p * float((tau / (tau + c * (1 - tau))).sum()) - n

    low, high = 0.0, 1.0
    if surplus(low) <= 0:
        return 0.0
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if surplus(middle) > 0 else (low, middle)
    return low


def fewest_columns(problem: MaskedRegression, taken: Array, share: float) -> float:
    """Return the effective number of kept columns that the worst-off sample sees.

    min_i 1 / (p sum_j v_ij^4), v_j = (X X^T)^-1/2 z_j / sqrt(tau_j + c (1 - tau_j)): the columns as
    they count in the law, for which p sum_j v_j v_j^T has trace n. Where it is small, what a mask
    keeps of one sample fluctuates and the law of the mean is off.

    Args:
        taken: leverages tau_j, (d,).
        share: c.
    """
    total, start = np.zeros(problem.n), 0
    for block in whitened(problem):
        tau = taken[start : start + len(block), None]
        total += np.square(np.square(block) / (tau + share * (1 - tau))).sum(0)
        start += len(block)
    return float(1 / (problem.p * total.max()))
