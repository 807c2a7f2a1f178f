"""An orthonormal basis that grows by products: what a Lanczos run knows, at any block size."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from landscape.curvature.eigen import (
    Which,
    allowed_residual,
    checked_product,
    inner,
    random_unit,
    score,
)
from landscape.curvature.operators import LinearOperator

_CHUNK = 1 << 18
"""Entries of each vector that are rotated at a time, so that a restart needs no second basis."""

_DOUBT = 0.01
"""Probability that a confirmation may miss an eigenvalue."""


class Krylov:
    """Hold an orthonormal basis Q (rows), T = Q A Q', and its eigenpairs, the most wanted first.

    T is (block) tridiagonal up to rounding, an arrow beside it after a restart; it is kept whole,
    in float64, from the coefficients of the orthogonalisation, so that no case needs its own code.
    """

    def __init__(self, operator: LinearOperator, which: Which, capacity: int) -> None:
        self._operator, self._which, self.capacity = operator, which, capacity
        self._rows = torch.empty(
            capacity, operator.size, dtype=operator.dtype, device=operator.device
        )
        self._projected = torch.zeros(capacity, capacity, dtype=torch.float64)
        self.count = 0
        self.norm = 0.0
        self.following = self._rows[:0]
        self._steps = 0  # since the last fresh random direction
        self._exhausted = False  # the space of that direction is invariant

    @property
    def is_whole_space(self) -> bool:
        """Whether nothing is left outside the basis."""
        return self.count == self._operator.size

    def extend(self) -> int:
        """Add the following directions to the basis, and return their number: the products."""
        b = len(self.following)
        m = self.count = self.count + b
        self._steps += 1
        self._rows[m - b : m] = self.following
        products = checked_product(self._operator, self.following.t()).t()
        self.norm = max(self.norm, *products.double().norm(dim=1).tolist())
        rest, coefficients = self._remove_basis(products.clone())
        self._projected[:m, m - b : m] = coefficients
        self._projected[m - b : m, :m] = coefficients.t()
        noise = 10 * torch.finfo(rest.dtype).eps * self.norm
        self.following, coupling = self.orthonormal(rest, noise)
        self._exhausted = self.is_whole_space or not len(self.following)
        corner = self._projected[m - b : m, m - b : m]
        corner.copy_((corner + corner.t()) / 2)
        values, weights = torch.linalg.eigh(self._projected[:m, :m])
        order = torch.argsort(score(values, self._which), descending=True, stable=True)
        self.values, self._weights = values[order], weights[:, order]
        # ||A y - lambda y|| of y = Q'w is ||coupling w_last||
        self._estimates = (coupling @ self._weights[-b:]).norm(dim=0)
        if self.is_whole_space:
            self.following, self._estimates = self._rows[:0], 0 * self._estimates
        return b

    def has_converged(self, k: int, tol: float) -> bool:
        """Tell whether the residuals of the k most wanted pairs are small by estimate."""
        if self.count < k:
            return False
        allowed = allowed_residual(self.values[:k], tol, self.norm, self._operator.dtype)
        return bool((self._estimates[:k] <= allowed).all())

    def is_complement_settled(self, k: int, tol: float) -> bool:
        """Tell whether the sweep from a fresh vector has seen all that it could find.

        After s steps from a random vector the largest Ritz value is within eps of the spread of
        the largest eigenvalue, eps = (ln(1.648 sqrt(n) / doubt) / (2 s - 1))^2 (Kuczynski &
        Wozniakowski 1992, theorem 4.2). The spread is the Ritz values' own, half as much again.
        """
        if self._exhausted:
            return True
        if self.count <= k:
            return False
        root = math.log(1.648 * self._operator.size**0.5 / _DOUBT) / (2 * self._steps - 1)
        if root**2 >= 0.5:
            return False
        others = self.values[k:]
        spread = 1.5 * float(others.max() - others.min())
        scores = score(self.values, self._which)
        bound = float(scores[k]) + root**2 / (1 - root**2) * spread
        allowed = allowed_residual(others[:1], tol, self.norm, self._operator.dtype)
        return bound <= float(scores[k - 1]) or bool(self._estimates[k] <= allowed)

    def agrees_with(self, values: Tensor, tol: float) -> bool:
        """Tell whether the most wanted values are still these, to the tolerance."""
        allowed = allowed_residual(values, tol, self.norm, self._operator.dtype)
        return bool(((self.values[: len(values)] - values).abs() <= allowed).all())

    def ritz_vectors(self, k: int) -> list[Tensor]:
        """Return the k most wanted approximate eigenvectors."""
        weights = self._weights[:, :k].t().to(self._rows)
        return [_unit(row) for row in weights @ self._rows[: self.count]]

    def worst_residual(
        self, vectors: list[Tensor], products: list[Tensor], tol: float
    ) -> tuple[Tensor, bool]:
        """Return the residual vector farthest above its tolerance, and whether all are below."""
        values = [float(inner(y[None], w)) for y, w in zip(vectors, products)]
        residuals = [w - value * y for y, w, value in zip(vectors, products, values)]
        norms = torch.stack([r.double().norm().cpu() for r in residuals])
        limits = allowed_residual(
            torch.tensor(values, dtype=torch.float64), tol, self.norm, self._operator.dtype
        )
        return residuals[int(torch.argmax(norms - limits))], bool((norms <= limits).all())

    def compress(self, keep: int) -> None:
        """Replace the basis by its `keep` most wanted Ritz vectors."""
        weights = self._weights[:, :keep].t().to(self._rows)
        for start in range(0, self._rows.shape[1], _CHUNK):
            part = slice(start, start + _CHUNK)
            self._rows[:keep, part] = weights @ self._rows[: self.count, part]
        self.count = keep
        self._projected.zero_()
        self._projected[:keep, :keep] = torch.diag(self.values[:keep])

    def fresh_direction(self, generator: torch.Generator) -> Tensor:
        """Return a random unit row orthogonal to the basis, and count steps from here."""
        self._steps = 0
        drawn = random_unit(self._operator, generator)[None]
        fresh, _ = self.orthonormal(drawn)
        return fresh if len(fresh) else random_unit(self._operator, generator)[None]

    def orthonormal(self, rows: Tensor, noise: float | None = None) -> tuple[Tensor, Tensor]:
        """Return an orthonormal basis U of the rows outside the basis, and C with rows = C'U.

        A direction no longer than `noise` is left out; without it the rows are taken as they come,
        with their parts in the basis, and what is left out is rounding beside the row.
        """
        found = rows.new_empty(rows.shape)
        coefficients = torch.zeros(len(rows), len(rows), dtype=torch.float64)
        reached = 0
        for number, row in enumerate(rows):
            before, v = float(row.double().norm()), row.clone()
            if noise is None:
                self._remove_basis(v[None])
            for _ in range(2):  # against the rows already found
                step = inner(found[:reached], v)
                v = v - step.to(v) @ found[:reached]
                coefficients[:reached, number] += step
            if reached:
                self._remove_basis(v[None])
            length = float(v.double().norm())
            limit = 10 * torch.finfo(v.dtype).eps * before if noise is None else noise
            if length > limit and self.count + reached < self._operator.size:
                coefficients[reached, number] = length
                found[reached] = _unit(v)
                reached += 1
        return found[:reached], coefficients[:reached]

    def _remove_basis(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Remove the basis from rows (b, size) in place, twice; return them and what was removed.

        The coefficients have the shape (basis, b).
        """
        basis = self._rows[: self.count]
        coefficients = torch.zeros(self.count, len(rows), dtype=torch.float64)
        for number, w in enumerate(rows):
            for _ in range(2):
                step = inner(basis, w)
                w -= step.to(w) @ basis
                coefficients[:, number] += step
        return rows, coefficients


def _unit(w: Tensor) -> Tensor:
    """Divide by the norm, accumulated in float64."""
    return w / w.double().norm().to(w.dtype)
