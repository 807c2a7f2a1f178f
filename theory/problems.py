"""Masked linear regression with everything about it in closed form, in float64."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from landscape.errors import UserError
from theory.features import Array, Features, Indices, draw, from_array
from theory.spectra import RANK, Moments, draw_mask, gram_of, masked_grams, moments


@dataclass(frozen=True, eq=False)
class MaskedRegression:
    """Pose L(w) = ||y - X M w||^2 / (2n), M = diag of i.i.d. Bernoulli(p), y = X w* + sigma eps.

    Args:
        features: X, n samples by d features.
        p: probability that a feature is trainable, in [0, 1].
        delta: failure probability that probability claims are tested at, in (0, 1).
        sigma: standard deviation of the noise in y, at least 0.
        r: declare that all entries are in [0, r]; None takes r = max |x_ij| from X.
        seed: seed of w* (entries N(0, 1/d)) and of the noise.
        target: y (n,) in place of the generated one; the noise is then unknown and sigma a guess.

    Raises:
        UserError: p, delta or sigma out of range, an entry outside [0, r], a target of wrong shape.
    """

    features: Features
    p: float
    delta: float = 0.05
    sigma: float = 1.0
    r: float | None = None
    seed: int = 0
    target: Array | None = None
    _grams: dict[tuple[int, int], Array] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise UserError(f"expected p in [0, 1], got {self.p}; p is the share of kept features")
        if not 0 < self.delta < 1:
            raise UserError(f"expected delta in (0, 1), got {self.delta}; try 0.05")
        if not 0 <= self.sigma < np.inf:
            raise UserError(f"expected sigma >= 0 and finite, got {self.sigma}; try 1.0")
        if self.target is not None:
            shape, want = np.shape(self.target), (self.n,)
            if shape != want or not np.isfinite(self.target).all():
                raise UserError(
                    f"expected a finite target of shape {want}, got shape {shape}; "
                    "give one number for each row of X"
                )
        if self.r is not None:
            low, high = self.moments.low, self.moments.high
            if low < 0 or high > self.r:
                raise UserError(
                    f"expected all entries of X in [0, r={self.r}], got entries from {low:.6g} to "
                    f"{high:.6g}; rescale X, or leave r out to use r = max |x|"
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
        rng = np.random.default_rng([self.seed, 1])
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
        rng = np.random.default_rng([self.seed, 2])
        return self.signal + self.sigma * rng.standard_normal(self.n)

    def grams(self, count: int, seed: int = 0) -> Array:
        """Return X M X^T (count, n, n) for masks drawn from the seed; kept for the next claim."""
        if (count, seed) not in self._grams:
            rng = np.random.default_rng([seed, 3])
            masks = [draw_mask(rng, self.d, self.p) for _ in range(count)]
            self._grams[count, seed] = masked_grams(self.features, masks)
        return self._grams[count, seed]

    def draw(self, seed: int = 0, *, p: float | None = None) -> Restricted:
        """Draw a mask, at another p if given, and restrict the problem to it."""
        share = self.p if p is None else p
        return self.restrict(draw_mask(np.random.default_rng([seed, 4]), self.d, share))

    def restrict(self, indices: Indices) -> Restricted:
        """Restrict the problem to the features at sorted indices (k,)."""
        return Restricted(indices, self.features.take(indices), self.y)


@dataclass(frozen=True, eq=False)
class Restricted:
    """Hold one mask's problem in its k trainable coordinates; the others never move.

    Args:
        indices: the kept features, sorted, (k,).
        columns: A = their columns as rows, (k, n), so that X M w = A^T w.
        y: targets (n,).
    """

    indices: Indices
    columns: Array
    y: Array

    @property
    def k(self) -> int:
        """Return the number of trainable weights."""
        return len(self.columns)

    @property
    def n(self) -> int:
        """Return the number of samples."""
        return len(self.y)

    @cached_property
    def gram(self) -> Array:
        """Return X M X^T = A^T A, (n, n)."""
        return gram_of(self.columns)

    @cached_property
    def svd(self) -> tuple[Array, Array, Array]:
        """Return W (k, q), s (q,), U (n, q) with A = W diag(s) U^T, zero singular values left out.

        Zero means s^2 <= RANK s_1^2.
        """
        w, s, u = np.linalg.svd(self.columns, full_matrices=False)
        keep = (s > 0) & (s**2 > RANK * s.max(initial=0.0) ** 2)
        return w[:, keep], s[keep], u[keep].T

    @property
    def eigenvalues(self) -> Array:
        """Return the positive eigenvalues of M X^T X M, largest first, (rank,)."""
        return self.svd[1] ** 2

    @property
    def top(self) -> float:
        """Return lambda_1, 0 for an empty mask."""
        return float(self.eigenvalues.max(initial=0.0))

    def residual(self, w: Array) -> Array:
        """Return y - X M w = y - A^T w at w (k,), shape (n,)."""
        return self.y - np.einsum("j,ji->i", w, self.columns)

    def loss(self, w: Array) -> float:
        """Return L(w) = ||y - A^T w||^2 / (2n) at w (k,)."""
        residual = self.residual(w)
        return float(residual @ residual) / (2 * self.n)

    def gradient(self, w: Array) -> Array:
        """Return A (A^T w - y) / n, (k,)."""
        return np.einsum("ji,i->j", self.columns, -self.residual(w) / self.n)

    def hessian(self) -> Array:
        """Return A A^T / n, (k, k); only for small k."""
        return self.columns @ self.columns.T / self.n

    def minimum_norm(self, y: Array | None = None) -> Array:
        """Return (X M)^+ y, (k,), the limit of gradient descent from 0."""
        w, s, u = self.svd
        return w @ ((u.T @ (self.y if y is None else y)) / s)

    def closed_form(self, w0: Array, eta: float, steps: int) -> Array:
        """Return w_t of equation 3, (I - eta/n A A^T)^t (w_0 - A^+ y) + A^+ y."""
        basis, s, _ = self.svd
        limit = self.minimum_norm()
        start = w0 - limit
        shrink = (1 - eta / self.n * s**2) ** steps - 1
        return start + basis @ (shrink * (basis.T @ start)) + limit

    def descend(self, w0: Array, eta: float, steps: int) -> Array:
        """Run gradient descent step by step; cost steps k n."""
        w = w0.copy()
        for _ in range(steps):
            w -= eta * self.gradient(w)
        return w

    def filtered(self, eta: float, steps: int) -> tuple[float, float]:
        """Return loss and distance ||w_t|| after t steps from 0, by the spectral filter.

        L_t = (1/2n) (sum_i (1 - eta lambda_i/n)^(2t) (u_i^T y)^2 + ||y outside the range||^2),
        ||w_t||^2 = sum_i (1 - (1 - eta lambda_i/n)^t)^2 (u_i^T y)^2 / lambda_i.
        """
        _, s, u = self.svd
        seen = u.T @ self.y
        decay = (1 - eta / self.n * s**2) ** steps
        outside = float(self.y @ self.y - seen @ seen)
        loss = (float((decay * seen) @ (decay * seen)) + max(outside, 0.0)) / (2 * self.n)
        return loss, float(np.linalg.norm((1 - decay) * seen / s))


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
        features: a name of ``theory.features.DISTRIBUTIONS``, or X.
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
