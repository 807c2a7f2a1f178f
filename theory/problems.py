"""Masked linear regression with everything about it in closed form, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from landscape import checks, seeds
from landscape.errors import UserError
from theory import given, purposes
from theory.distributions import draw
from theory.factors import BATCH, factor_of, masked_factors
from theory.features import BLOCK, STORED_BYTES, Array, Features, Indices, from_array
from theory.memory import require_bytes
from theory.restricted import Restricted
from theory.spectra import Moments, draw_mask, masked_grams, moments

KEPT_BYTES = 1 << 28  # Gram matrices and factors up to this size are kept for the next claim
Compute = Callable[[Features, Sequence[Indices]], Array]


@dataclass(frozen=True, eq=False)
class MaskedRegression:
    """Pose L(w) = ||y - X M w||^2 / (2n), M = diag of i.i.d. Bernoulli(p), y = X w* + sigma eps.

    Args:
        features: X, n samples by d features.
        p: probability that a feature is trainable, in [0, 1].
        delta: failure probability that probability claims are tested at, in (0, 1).
        sigma: standard deviation of the noise in y, at least 0.
        r: declare that |x_ij| <= r for all entries; None takes r = max |x_ij| from X.
        seed: seed of w* (entries N(0, 1/d)) and of the noise.
        target: y (n,) in place of the generated one; the noise is then unknown and sigma a guess.

    Where the features were divided by a power of two (``Features.exponent``), sigma, r and target
    are divided with them: distances, steps in units of 2n/lambda_1 and verdicts do not change.

    Raises:
        UserError: p, delta, sigma, r or seed out of range, an entry above r, a target that is no
            n finite numbers.
    """

    features: Features
    p: float
    delta: float = 0.05
    sigma: float = 1.0
    r: float | None = None
    seed: int = 0
    target: Array | None = None
    _kept: dict[tuple[str, int], list[Array]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        checks.instance("features", self.features, Features, "from_array makes it of a matrix")
        given.probabilities(self.p, self.delta)
        checks.number("sigma", self.sigma, least=0)
        checks.whole("seed", self.seed)
        if self.r is not None:
            checks.number("r", self.r, least=0)
        if self.target is not None:
            given.vector("target", self.target, self.n)
        for name in ("sigma", "r", "target"):
            value = getattr(self, name)
            if self.features.exponent and value is not None:
                object.__setattr__(self, name, np.ldexp(value, -self.features.exponent))
        if self.r is not None:
            self.require_memory()  # moments are n x n
        if self.r is not None and not self.moments.max_abs <= self.r:
            raise UserError(
                f"expected all |x| <= r={self.r:g}, got an entry of size "
                f"{self.moments.max_abs:.6g}; rescale X, or leave r out to use r = max |x|"
            )

    @property
    def n(self) -> int:
        """Return the number of samples."""
        return self.features.n

    @property
    def d(self) -> int:
        """Return the number of features."""
        return self.features.d

    @property
    def name(self) -> str:
        """Return one phrase that identifies the instance."""
        return f"{self.features.name} n={self.n} d={self.d} p={self.p:g}"

    @cached_property
    def moments(self) -> Moments:
        """Return X X^T and the sums that the bounds need; one pass over X."""
        return moments(self.features)

    @cached_property
    def bound(self) -> float:
        """Return r: the declared one, or max |x_ij|."""
        return self.moments.max_abs if self.r is None else float(self.r)

    @cached_property
    def truth(self) -> Array:
        """Return w* (d,), independent N(0, 1/d) entries."""
        rng = seeds.numbered(self.seed, purposes.TRUTH)
        return rng.standard_normal(self.d) / np.sqrt(self.d)

    @cached_property
    def signal(self) -> Array:
        """Return X w* (n,)."""
        total = np.zeros(self.n)
        for start, block in self.features.blocks():
            total += np.einsum("j,ji->i", self.truth[start : start + len(block)], block)
        return total

    @cached_property
    def y(self) -> Array:
        """Return the targets (n,)."""
        if self.target is not None:
            return np.asarray(self.target, dtype=np.float64)
        rng = seeds.numbered(self.seed, purposes.NOISE)
        return self.signal + self.sigma * rng.standard_normal(self.n)

    @cached_property
    def factor(self) -> Array:
        """Return R (n, n) with R^T R = X X^T, whose singular values are those of X."""
        factor = np.zeros((self.n, self.n))
        for _, block in self.features.blocks():
            factor = factor_of(np.concatenate([factor, block]))
        return factor

    def masks(self, count: int, seed: int = 0) -> Iterator[list[Indices]]:
        """Draw masks from the seed, ``BATCH`` at a time; fewer masks are the first of more."""
        count, seed = checks.whole("count", count), checks.whole("seed", seed)
        rng = seeds.numbered(seed, purposes.MASKS)
        for start in range(0, count, BATCH):
            yield [draw_mask(rng, self.d, self.p) for _ in range(min(BATCH, count - start))]

    def grams(self, count: int, seed: int = 0) -> Iterator[Array]:
        """Yield X M X^T (b, n, n) of the masks of ``masks``; the first ones stay in memory."""
        return self._each(masked_grams, count, seed)

    def factors(self, count: int, seed: int = 0) -> Iterator[Array]:
        """Yield factors R (b, n, n), R^T R = X M X^T, of the masks of ``grams``; kept like them."""
        return self._each(masked_factors, count, seed)

    def _each(self, compute: Compute, count: int, seed: int) -> Iterator[Array]:
        count, seed = checks.whole("count", count), checks.whole("seed", seed)
        kept = self._kept.setdefault((compute.__name__, seed), [])
        if sum(map(len, kept)) >= count:  # without drawing a mask
            for start, batch in zip(range(0, count, BATCH), kept):
                yield batch[: count - start]
            return
        for i, some in enumerate(self.masks(count, seed)):
            if i < len(kept) and len(kept[i]) >= len(some):
                yield kept[i][: len(some)]
                continue
            batch = compute(self.features, some)
            if (i + 1) * batch.nbytes <= KEPT_BYTES // 2:
                kept[i:] = [batch]
            yield batch

    def require_memory(self) -> None:
        """Refuse an instance whose verification does not fit into memory, by an estimate.

        Raises:
            UserError: it needs more than is free.
        """
        require_bytes(lambda n: needed_bytes(n, self.d, self.p), self.n, self.name)

    def draw(self, seed: int = 0, *, p: float | None = None) -> Restricted:
        """Draw a mask, at another p if given, and restrict the problem to it."""
        share = self.p if p is None else checks.number("p", p, least=0, most=1)
        rng = seeds.numbered(checks.whole("seed", seed), purposes.MASK)
        return self.restrict(draw_mask(rng, self.d, share))

    def restrict(self, indices: Indices) -> Restricted:
        """Restrict the problem to the features at sorted indices (k,)."""
        return Restricted(indices, self.features.take(indices), self.y)


def needed_bytes(n: int, d: int, p: float) -> int:
    """Return about what a verification needs: columns of X, one mask, factors of many, Grams."""
    stored = n * d * 8 <= STORED_BYTES
    columns = 2 * n * d if stored else 3 * n * min(BLOCK, d)
    one_mask = 4 * n * p * d + 50 * n**2  # its SVD, and update maps of 2n x 2n
    batches = 4 * BATCH * n**2  # factors and their SVD
    return int(8 * (columns + one_mask + batches)) + KEPT_BYTES


def make_problem(
    features: str | Features | npt.ArrayLike = "uniform",
    *,
    n: int = 16,
    d: int = 4096,
    p: float = 0.1,
    delta: float = 0.05,
    sigma: float = 1.0,
    r: float | None = None,
    seed: int = 0,
) -> MaskedRegression:
    """Pose a masked regression on named features, on ``Features``, or on one's own X (n, d).

    Args:
        features: a name of ``theory.DISTRIBUTIONS``, or X.
        n: samples, only for named features.
        d: features, only for named features.

    Other arguments as in ``MaskedRegression``.

    >>> make_problem([[3.0, 4.0]], p=1.0).draw().top
    25.0
    """
    if isinstance(features, str):
        features = draw(features, n, d, seed=seed)
    elif not isinstance(features, Features):
        features = from_array(features)
    return MaskedRegression(features, p, delta, sigma, r, seed)
