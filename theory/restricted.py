"""One mask's regression in its k trainable coordinates, with everything in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from landscape import checks
from landscape.errors import UserError
from theory import given
from theory.factors import factor_of, positive
from theory.features import Array, Indices
from theory.spectra import gram_of


@dataclass(frozen=True, eq=False)
class Restricted:
    """Hold one mask's problem in its k trainable coordinates; the others never move.

    Args:
        indices: the kept features, sorted, (k,).
        columns: A = their columns as rows, (k, n), so that X M w = A^T w.
        y: targets (n,).

    Raises:
        UserError: columns or targets of other shapes, or targets that are not finite.
    """

    indices: Indices
    columns: Array
    y: Array

    def __post_init__(self) -> None:
        k, n = (given.array(name, getattr(self, name)).size for name in ("indices", "y"))
        given.vector("indices", self.indices, k)
        given.vector("y", self.y, n)
        found = given.array("columns", self.columns)
        if found.shape != (k, n) or found.dtype.kind not in "fiu":
            raise UserError(
                f"expected columns of shape {(k, n)}, a row for each index, got shape "
                f"{found.shape} of {found.dtype}; problem.restrict takes them"
            )

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
    def whole_svd(self) -> tuple[Array, Array, Array]:
        """Return W (k, q), s (q,), U (n, q) with A = W diag(s) U^T, q = min(k, n)."""
        w, s, u = np.linalg.svd(self.columns, full_matrices=False)
        return w, s, u.T

    @cached_property
    def svd(self) -> tuple[Array, Array, Array]:
        """Return W (k, rank), s (rank,), U (n, rank): ``whole_svd`` without what counts as zero.

        Zero means s <= 1e-14 s_1, the rounding of float64 (``theory.factors.FLOOR``).
        """
        w, s, u = self.whole_svd
        keep = positive(s)
        return w[:, keep], s[keep], u[:, keep]

    @cached_property
    def spectrum(self) -> tuple[Array, Array]:
        """Return s (rank,) and U (n, rank) of ``svd`` from the triangular factor, without W."""
        _, s, u = np.linalg.svd(factor_of(self.columns))
        keep = positive(s)
        return s[keep], u[keep].T

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
        residual = self.residual(self._point("w", w))
        return float(residual @ residual) / (2 * self.n)

    def gradient(self, w: Array) -> Array:
        """Return A (A^T w - y) / n, (k,)."""
        return self._slope(self._point("w", w))

    def _slope(self, w: Array) -> Array:
        return np.einsum("ji,i->j", self.columns, -self.residual(w) / self.n)

    def hessian(self) -> Array:
        """Return A A^T / n, (k, k); only for small k."""
        return self.columns @ self.columns.T / self.n

    def minimum_norm(self, y: Array | None = None) -> Array:
        """Return (X M)^+ y, (k,), the limit of gradient descent from 0."""
        y = None if y is None else given.vector("y", y, self.n)
        w, s, u = self.svd
        return w @ ((u.T @ (self.y if y is None else y)) / s)

    def closed_form(self, w0: Array, eta: float, steps: int) -> Array:
        """Return w_t of equation 3, (I - eta/n A A^T)^t (w_0 - A^+ y) + A^+ y.

        Along a singular vector that is w_0 + (1 - f) (u^T y / s - w_0) with f = (1 - eta s^2/n)^t,
        computed without dividing 1 - f by a small s; where s = 0 nothing moves.
        """
        w0 = self._point("w0", w0)
        basis, _, u = self.whole_svd
        missing = self._missing(eta, steps)
        start = basis.T @ w0
        return w0 + basis @ (self._per_s(missing) * (u.T @ self.y) - missing * start)

    def _missing(self, eta: float, steps: int) -> Array:
        """Return 1 - (1 - eta s^2/n)^t, (q,), to relative rounding where s is tiny."""
        eta, steps = _descent(eta, steps)
        x = eta / self.n * self.whole_svd[1] ** 2
        small = x < 0.5
        slow = -np.expm1(steps * np.log1p(-np.where(small, x, 0.0)))
        return np.where(small, slow, 1 - (1 - np.where(small, 0.0, x)) ** steps)

    def _per_s(self, values: Array) -> Array:
        """Return values / s, (q,), 0 where s = 0."""
        s = self.whole_svd[1]
        return np.where(s > 0, values / np.where(s > 0, s, 1.0), 0.0)

    def descend(self, w0: Array, eta: float, steps: int) -> Array:
        """Run gradient descent step by step; cost steps k n."""
        w, (eta, steps) = self._point("w0", w0).copy(), _descent(eta, steps)
        for _ in range(steps):
            w -= eta * self._slope(w)
        return w

    def filtered(self, eta: float, steps: int) -> tuple[float, float]:
        """Return loss and distance ||w_t|| after t steps from 0, by the spectral filter.

        L_t = (1/2n) (sum_i (1 - eta lambda_i/n)^(2t) (u_i^T y)^2 + ||y outside the range||^2),
        ||w_t||^2 = sum_i (1 - (1 - eta lambda_i/n)^t)^2 (u_i^T y)^2 / lambda_i.
        """
        _, _, u = self.whole_svd
        seen, missing = u.T @ self.y, self._missing(eta, steps)
        left = (1 - missing) * seen
        outside = float(np.square(self.y - u @ seen).sum())
        loss = (float(left @ left) + outside) / (2 * self.n)
        return loss, float(np.linalg.norm(self._per_s(missing) * seen))

    def _point(self, name: str, w: Array) -> Array:
        """Return w (k,); a descent that diverged may have left the finite numbers."""
        return given.vector(name, w, self.k, finite=False)


def _descent(eta: float, steps: int) -> tuple[float, int]:
    return checks.number("eta", eta), checks.whole("steps", steps)
