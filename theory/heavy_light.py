"""X divided into a few heavy columns, kept one by one, and the sums of its many light ones.

The division is made from X alone, before any mask is drawn: what ``conditional`` proves needs that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from landscape import checks
from landscape.errors import UserError
from theory import given
from theory.factors import factor_of, rank
from theory.features import Array, Features, Indices, inside
from theory.spectra import Moments, gram_of, moments


@dataclass(frozen=True, eq=False)
class HeavyLight:
    """Hold X divided into a few heavy columns, kept one by one, and the sums of all light ones.

    Args:
        features: X, n samples by d features.
        heavy: the set H, sorted, (h,).
        columns: the heavy columns as rows, (h, n).
        light: the moments of all other columns.
    """

    features: Features
    heavy: Indices
    columns: Array
    light: Moments

    def centre(self, mask: Indices, p: float) -> Array:
        """Return C = sum_{j in H and mask} z_j z_j^T + p sum_{j not in H} z_j z_j^T, (n, n).

        The mean of X M X^T given the mask on H. Cost: |H and mask| n^2.

        Args:
            mask: the kept features, sorted; only those in H are looked at.
            p: probability to keep a feature.

        Raises:
            UserError: a mask that is not sorted indices below d, p outside [0, 1].
        """
        checks.number("p", p, least=0, most=1)
        return self.kept_gram(mask) + p * self.light.gram

    def kept_gram(self, mask: Indices) -> Array:
        """Return sum_{j in H and mask} z_j z_j^T, (n, n).

        Raises:
            UserError: a mask that is not sorted indices below d.
        """
        mask = given.columns("mask", mask, self.features.d)
        return gram_of(self.columns[np.isin(self.heavy, mask, assume_unique=True)])

    def light_blocks(self) -> Iterator[Array]:
        """Yield the light columns block by block, as rows."""
        for start, block in self.features.blocks():
            hidden = inside(self.heavy, start, len(block)) - start
            yield np.delete(block, hidden, axis=0) if len(hidden) else block


def divide(features: Features, heavy: int | Indices) -> HeavyLight:
    """Divide X into heavy and light columns, without regard to any mask.

    Args:
        features: X.
        heavy: how many columns of largest norm are heavy, 0 to d; or the set H itself, sorted,
            chosen from X alone (``largest_leverages`` for distances).

    Raises:
        UserError: a count outside 0 to d, or a set that is not sorted indices below d.

    Cost: two passes over X, d n^2; memory one block and h n.
    """
    _require(features)
    if given.array("heavy", heavy).ndim == 0:
        heavy = largest_norms(features, _count("heavy", heavy, features.d))
    heavy = given.columns("heavy", heavy, features.d)
    light = moments(_without(features, heavy))
    return HeavyLight(features, heavy, features.take(heavy), light)


def _without(features: Features, hidden: Indices) -> Features:
    """Return X with some columns set to 0, which adds nothing to any sum."""

    def read(start: int, stop: int) -> Array:
        block = features.columns()[start:stop] if features.stored else features.read(start, stop)
        some = inside(hidden, start, len(block)) - start
        if len(some) == 0:
            return block
        block = block.copy()
        block[some] = 0.0
        return block

    return Features(features.name, features.n, features.d, read)


def largest_norms(features: Features, count: int) -> Indices:
    """Return the sorted indices of the columns of largest norm; one pass, d n."""
    norms = [np.einsum("ji,ji->j", block, block) for _, block in features.blocks()]
    return _largest(np.concatenate(norms), count)


def largest_leverages(features: Features, count: int) -> Indices:
    """Return the sorted indices of the columns of largest z_j^T (X X^T)^-1 z_j; cost 3 d n^2.

    Raises:
        UserError: a count outside 0 to d, or X has no rank n, so that no leverage is defined.
    """
    _require(features)
    count = _count("count", count, features.d)
    factor = np.zeros((features.n, features.n))
    for _, block in features.blocks():
        factor = factor_of(np.concatenate([factor, block]))
    _, s, vectors = np.linalg.svd(factor)
    if rank(s) < features.n:
        raise UserError(
            f"expected X of rank n = {features.n}, got rank {rank(s)}; leave out rows that others "
            "determine"
        )
    sizes = [np.square(block @ (vectors.T / s)).sum(1) for _, block in features.blocks()]
    return _largest(np.concatenate(sizes), count)


def _largest(sizes: Array, count: int) -> Indices:
    order = np.argsort(-sizes, kind="stable")[:count]
    return np.sort(order).astype(np.int64)


def _require(features: object) -> None:
    checks.instance("features", features, Features, "from_array makes it of a matrix")


def _count(name: str, count: object, d: int) -> int:
    """Return how many of d columns; a few hundred are usually enough."""
    return checks.whole(name, count, least=0, most=d)
