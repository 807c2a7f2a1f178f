"""How much of D^2 masks keep: the share c of the spare features, from the leverages of X.

The leverage tau_j = z_j^T (X X^T)^-1 z_j in [0, 1] says how much of column j no other column can
replace; sum_j tau_j = n.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from theory.features import Array
from theory.problems import MaskedRegression
from theory.spectra import gram_of

ROUNDS, NEAR = 60, 1e-4  # of the fixed point; where a round changes its trace by less, it ends


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


def equivalent_growth(problem: MaskedRegression) -> float:
    """Return tr S^-1 over tr (X X^T)^-1, S = sum_j a_j z_j z_j^T the equivalent of X M X^T.

    With g_j = z_j^T S^-1 z_j, x_j the positive root of x (1 + (1-p) x) / (1 + x) = g_j and
    a_j = p / (1 + (1-p) x_j): a fixed point in all of S, where ``effective_share`` solves for one
    number, S = c X X^T, from which this starts. At p = 1, S = X X^T.

    Args:
        problem: 0 < p < 1; X must have rank n.

    Returns:
        The growth, to about 1e-3; infinite where masks keep too few columns for rank n, or so few
        that the rounds do not settle. Cost: a pass of 3 d n^2 a round: one where leverages are
        equal, about twenty where they are not.
    """
    p, share = problem.p, effective_share(leverages(problem), problem.p)
    if share <= 0:
        return math.inf
    _, s, vectors = np.linalg.svd(problem.factor)
    half, whole = vectors.T / s @ vectors, float((s**-2.0).sum())
    middle, grown = share * np.eye(problem.n), [math.inf]
    for _ in range(ROUNDS):
        try:
            inverse = np.linalg.inv(middle)
        except np.linalg.LinAlgError:
            return math.inf
        grown.append(float(np.trace(half @ inverse @ half)) / whole)
        if not math.isfinite(grown[-1]):
            return math.inf
        if abs(grown[-1] / grown[-2] - 1) < NEAR:
            return grown[-1]
        middle = np.zeros_like(middle)
        for block in whitened(problem):
            g = np.einsum("ji,ji->j", block @ inverse, block)
            x = 2 * g / (1 - g + np.sqrt((1 - g) ** 2 + 4 * (1 - p) * g))
            middle += gram_of(block * np.sqrt(p / (1 + (1 - p) * x))[:, None])
    return math.inf


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
