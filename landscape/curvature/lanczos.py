"""Lanczos with full reorthogonalisation, thick restart, and an honest end."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from landscape.curvature.eigen import (
    EigenResult,
    Which,
    allowed_residual,
    check_arguments,
    checked_product,
    conclude,
    inner,
    random_unit,
    score,
    start_vector,
)
from landscape.curvature.memory import available_bytes
from landscape.curvature.operators import LinearOperator
from landscape.errors import UserError

_CHUNK = 1 << 18
"""Entries of each vector that are rotated at a time, so that a restart needs no second basis."""

_BASIS_SHARE = 0.25
"""Share of the available memory that the basis may take by default."""

_DOUBT = 0.01
"""Probability that a confirmation may miss an eigenvalue."""


def lanczos(
    operator: LinearOperator,
    k: int = 1,
    *,
    which: Which = "LA",
    tol: float = 1e-3,
    max_matvecs: int = 300,
    seed: int = 0,
    v0: Any | None = None,
    max_basis: int | None = None,
    confirm: bool | None = None,
) -> EigenResult:
    """Find k extreme eigenvalues of a symmetric operator A from its products.

    Builds an orthonormal basis Q of the Krylov space of a random vector and solves the small
    problem T = Q'AQ; stops when ||A y - lambda y|| <= tol |lambda| for each wanted pair, first by
    the estimate beta |s_m|, then by a residual recomputed from one more product a pair. The true
    error of an eigenvalue is about residual^2 / gap, hence 1e-3 usually gives five digits or more.

    Args:
        operator: any symmetric operator A.
        k: number of eigenvalues, 1 to size.
        which: ``"LA"`` largest, ``"SA"`` smallest, ``"LM"`` largest in magnitude.
        tol: relative residual, positive.
        max_matvecs: budget of products, at least 2 k; it is never exceeded.
        seed: of the start vector.
        v0: a warm start, shape (size,), any norm: an eigenvector of a nearby matrix. A small
            random part is added, lest a wrong eigenvector be taken for the right one.
        max_basis: vectors held at most, at least k + 2; when full, the basis is compressed to the
            best Ritz vectors (thick restart). Default: what fits into a quarter of the memory.
        confirm: after convergence, search the orthogonal complement of what was found from a
            fresh random vector, since a Krylov space contains one copy of each eigenvalue only.
            Default: for k > 1.

    Returns:
        k eigenpairs, the most wanted first.

    Raises:
        UserError: an argument out of its range, or a product that is not finite.

    Warns:
        NotConvergedWarning: the budget ran out.

    Cost: `num_matvecs` products (with k = 1 on networks 8 to 25), a basis of as many vectors.
    Source: Lanczos (1950); reorthogonalisation: Daniel, Gragg, Kaufman & Stewart (1976); restart:
    Wu & Simon (2000).

    >>> from landscape.curvature.operators import MatrixOperator
    >>> A = MatrixOperator(torch.diag(torch.arange(100.0, dtype=torch.float64)))
    >>> lanczos(A, which="LA", tol=1e-8).eigenvalues.round(decimals=6).tolist()
    [99.0]
    """
    check_arguments(operator, k, which, tol, max_matvecs, least=2 * k)
    generator = torch.Generator().manual_seed(seed)
    krylov = _Krylov(operator, which, _capacity(operator, k, max_matvecs, max_basis))
    krylov.following = start_vector(operator, v0, tol, generator)
    confirm = k > 1 if confirm is None else confirm
    spent, before_sweep = 0, None
    while True:
        krylov.extend()
        spent += 1
        out_of_budget = spent + 1 + k > max_matvecs
        done = krylov.has_converged(k, tol)
        if done and confirm and not krylov.is_whole_space and not out_of_budget:
            if before_sweep is None or krylov.is_complement_settled(k, tol):
                done = before_sweep is not None and krylov.agrees_with(before_sweep, tol)
                before_sweep = krylov.values[:k].clone()
                if not done:
                    krylov.compress(k)
                    krylov.following = krylov.fresh_direction(generator)
                    continue
            else:
                done = False
        if done or out_of_budget or krylov.is_whole_space:
            vectors = krylov.ritz_vectors(k)
            products = [checked_product(operator, y) for y in vectors]
            spent += k
            worst, met = krylov.worst_residual(vectors, products, tol)
            if met or krylov.is_whole_space or spent + 1 + k > max_matvecs:
                break
            krylov.following = krylov.orthogonalised(worst)
        if krylov.count == krylov.capacity:
            krylov.compress(k + (krylov.capacity - k) // 2)
        if krylov.following is None:
            krylov.following = krylov.fresh_direction(generator)
    return conclude(
        operator,
        vectors,
        products=products,
        ritz_values=krylov.values,
        num_matvecs=spent,
        norm=krylov.norm,
        method="lanczos",
        which=which,
        tol=tol,
    )


class _Krylov:
    """An orthonormal basis Q (rows), T = Q A Q', and its eigenpairs, the most wanted first.

    T is tridiagonal up to rounding, and an arrow beside it after a restart; it is kept whole, in
    float64, from the coefficients of the orthogonalisation, so that no case needs its own code.
    """

    def __init__(self, operator: LinearOperator, which: Which, capacity: int) -> None:
        self._operator, self._which, self.capacity = operator, which, capacity
        self._rows = torch.empty(
            capacity, operator.size, dtype=operator.dtype, device=operator.device
        )
        self._projected = torch.zeros(capacity, capacity, dtype=torch.float64)
        self.count = 0
        self.norm = 0.0
        self.following: Tensor | None = None
        self._steps = 0  # since the last fresh random direction
        self._exhausted = False  # the space of that direction is invariant

    @property
    def is_whole_space(self) -> bool:
        return self.count == self._operator.size

    def extend(self) -> None:
        """Add the following direction to the basis: one product."""
        assert self.following is not None
        m = self.count = self.count + 1
        self._steps += 1
        self._rows[m - 1] = self.following
        w = checked_product(self._operator, self.following)
        self.norm = max(self.norm, float(w.double().norm()))
        w, coefficients, length = self._orthogonalise(w.clone())
        self._projected[:m, m - 1] = coefficients
        self._projected[m - 1, :m] = coefficients
        noise = 10 * torch.finfo(w.dtype).eps * self.norm
        self._exhausted = self.is_whole_space or length <= noise
        values, weights = torch.linalg.eigh(self._projected[:m, :m])
        order = torch.argsort(score(values, self._which), descending=True, stable=True)
        self.values, self._weights = values[order], weights[:, order]
        beta = 0.0 if self._exhausted else length
        self._estimates = beta * self._weights[-1].abs()
        self.following = None if self._exhausted else _unit(w)

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
        """Return a random unit vector orthogonal to the basis, and count steps from here."""
        self._steps = 0
        fresh = self.orthogonalised(random_unit(self._operator, generator))
        return random_unit(self._operator, generator) if fresh is None else fresh

    def orthogonalised(self, v: Tensor) -> Tensor | None:
        """Return the part of v outside the basis as a unit vector, None where there is none."""
        before = float(v.double().norm())
        w, _, length = self._orthogonalise(v.clone())
        return _unit(w) if length > 10 * torch.finfo(w.dtype).eps * before else None

    def _orthogonalise(self, w: Tensor) -> tuple[Tensor, Tensor, float]:
        """Remove the basis from w in place, twice; return it, the coefficients and its norm."""
        rows = self._rows[: self.count]
        coefficients = torch.zeros(self.count, dtype=torch.float64)
        for _ in range(2):
            step = inner(rows, w)
            w -= step.to(w) @ rows
            coefficients += step
        return w, coefficients, float(w.double().norm())


def _capacity(operator: LinearOperator, k: int, max_matvecs: int, max_basis: int | None) -> int:
    bytes_each = operator.size * torch.finfo(operator.dtype).bits // 8
    fits = int(_BASIS_SHARE * available_bytes(operator.device) / bytes_each)
    if max_basis is None:
        return min(operator.size, max_matvecs, max(k + 2, fits))
    if max_basis < min(k + 2, operator.size):
        raise UserError(f"expected max_basis of at least k + 2 = {k + 2}, got {max_basis}")
    return min(operator.size, max_matvecs, max_basis)


def _unit(w: Tensor) -> Tensor:
    """Divide by the norm, accumulated in float64."""
    return w / w.double().norm().to(w.dtype)
