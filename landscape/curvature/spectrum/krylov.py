"""What a growing Krylov space knows of the wanted eigenvalues, and how it is restarted."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from landscape.curvature.operators.linear import LinearOperator
from landscape.curvature.spectrum.algebra import inner, norm, rotate
from landscape.curvature.spectrum.ceiling import least_steps, overshoot
from landscape.curvature.spectrum.recurrence import Recurrence, zeros
from landscape.curvature.spectrum.result import Which, allowed_residual, random_unit, score

_DOUBT = 0.005
"""Probability that an end of the spectrum reaches farther than it is bounded: 0.01 for both."""

_FEW = 20
"""Most eigenvalues that a Ritz vector may stand for as one or a small cluster.

With n the size, n (part of the random vector along the Ritz vector)^2 estimates how many it stands
for; that of one alone is above 20 with probability P(chi^2 > 20) < 1e-5.
"""


class Krylov:
    """Hold the eigenpairs of T = Q A Q' for a `Recurrence`'s basis Q, the most wanted first.

    A *sweep* searches outside the first `locked` vectors from a random direction; the first sweep
    has none locked. While it is not restarted, the part of T beyond them is the Lanczos matrix of
    A outside them, which bounds what else there is (`ceiling`).

    Args:
        operator: A, symmetric.
        which: the wanted eigenvalues.
        capacity: vectors that the basis may hold.
        block: vectors multiplied at once.
    """

    def __init__(
        self, operator: LinearOperator, which: Which, capacity: int, block: int = 1
    ) -> None:
        self.operator, self._which, self.capacity = operator, which, capacity
        self.basis = Recurrence(operator, capacity, block)
        self._locked, self._locked_values = 0, zeros(0)
        self._steps = 0  # of this sweep; 0 once it is restarted, or if its start was not random
        self._width = 1  # vectors whose products are partly outside the basis
        self._outside = 0.0  # norm of those parts
        self._ceiling: float | None = None
        self._mixed: Tensor | None = None  # the random vector of a warm start; else None
        self._random_part = zeros(0)  # Q times this sweep's random vector
        self._is_random = False  # random vectors alone began this sweep, no restart since

    def start(self, rows: Tensor, mixed: Tensor | None = None) -> None:
        """Start the basis from the span of `rows`, which are overwritten.

        Args:
            rows: shape (at most block, size); without `mixed`, ``rows[0]`` must be random.
            mixed: shape (size,); with it, ``rows[0]`` is a warm vector plus this random one.
        """
        self.basis.follow(rows)
        self._mixed, self._is_random = mixed, mixed is None

    def extend(self) -> int:
        """Multiply the following directions, and return their number: the matvecs."""
        basis, before = self.basis, self.basis.count
        self._steps += self._is_random
        if self._mixed is not None:
            drawn = inner(basis.following, self._mixed)
        else:
            drawn = zeros(len(basis.following))
            drawn[:1] = float(before == self._locked)
        self._random_part = torch.cat([self._random_part, drawn])
        b = basis.extend()
        values, weights = torch.linalg.eigh(basis.projected[: basis.count, : basis.count])
        order = torch.argsort(score(values, self._which), descending=True, stable=True)
        self.values, self._weights = values[order], weights[:, order]
        # ||A y - lambda y|| of y = Q'w is ||coupling w_last||
        self._estimates = (basis.coupling @ self._weights[-b:]).norm(dim=0)
        self._width, self._outside = b, basis.outside
        if basis.is_whole_space:
            self._estimates = 0 * self._estimates
        return b

    def allowed(self, values: Tensor, tol: float) -> Tensor:
        """Return the residuals that count as converged (`allowed_residual`)."""
        return allowed_residual(values, tol, self.basis.norm, self.operator.dtype)

    def has_converged(self, k: int, tol: float) -> bool:
        """Tell whether the residuals of the k most wanted pairs are small by estimate."""
        if self.basis.count < k:
            return False
        return bool((self._estimates[:k] <= self.allowed(self.values[:k], tol)).all())

    def lag(self, k: int, tol: float) -> float:
        """Return the largest residual of the k most wanted pairs over what is allowed."""
        allowed = self.allowed(self.values[:k], tol).clamp(min=1e-300)
        return float((self._estimates[:k] / allowed).max())

    def is_doubtful(self, k: int, tol: float) -> bool:
        """Tell whether the k pairs may be the wrong ones although their residuals are small.

        Rounding allows a residual that is large beside an eigenvalue near zero, and so does the
        tolerance for a value that stands for very many: a single eigenvector y has so small a
        part of a random vector that Lanczos may not have seen it. A Ritz vector stands for
        about size * (its part of the random vector)^2 eigenvalues; m of them can hide another one
        at a relative distance below sqrt(m) tol.
        """
        parts = (self._random_part @ self._weights[:, :k]).tolist()
        if not all(self._stands_for_few(part) for part in parts):
            return True
        return bool((self._estimates[:k] > tol * self.values[:k].abs()).any())

    def is_settled(self, k: int, tol: float) -> bool:
        """Tell whether this sweep shows that nothing more wanted than the k pairs is left."""
        if self.basis.is_whole_space:
            return True
        allowed = self.allowed(self.values[:k], tol)
        if not self._locked:
            lead = self._ceiling_score() - float(score(self.values, self._which)[0])
            return k == 1 and lead <= float(allowed[0])
        return self._has_seen_the_rest(k, tol) and self._agrees(k, tol)

    def is_sweep_due(self, k: int, tol: float, *, at_once: bool) -> bool:
        """Tell whether a sweep outside what is known now promises more than going on.

        Due are the first one, `at_once` or after enough steps; another if the last one has found
        other pairs than it set out with; and one where locking a far end that has converged would
        more than halve the spread, and with it the first bound of `overshoot`.
        """
        if not self._locked and at_once:
            return True
        if self._locked and self._has_seen_the_rest(k, tol) and not self._agrees(k, tol):
            return True
        if not self._is_random:
            return not self._locked
        if self._steps < least_steps(self.operator.size, _DOUBT, 0.35):
            return False
        if not self._locked and k > 1:
            return True
        inside = torch.linalg.eigvalsh(self._part())
        left = self.values[: self.basis.count - len(self._far(k))]
        return float(left.max() - left.min()) < 0.5 * float(inside[-1] - inside[0])

    def sweep(self, k: int, generator: torch.Generator) -> None:
        """Lock the k most wanted pairs and the known far end, and search outside them."""
        self._compress([*range(k), *self._far(k)])
        self.sample(generator)

    def sample(self, generator: torch.Generator) -> None:
        """Lock the basis, and begin a sweep outside it from a random direction."""
        basis = self.basis
        basis.follow(random_unit(self.operator, generator)[None])
        while not len(basis.following):
            basis.follow(random_unit(self.operator, generator)[None])
        self._random_part, self._mixed = zeros(basis.count), None
        self._locked, self._locked_values = basis.count, self.values.clone()
        self._steps, self._is_random = 0, True

    def follow(self, row: Tensor) -> None:
        """Go on along the part of a vector outside the basis."""
        self.ceiling()
        self.basis.follow(row[None])
        self._steps, self._is_random = 0, False

    def restart(self, keep: int) -> None:
        """Replace the basis by its `keep` most wanted Ritz vectors, and go on from there."""
        self.ceiling()
        known = self.basis.known.t() @ self._weights
        self._compress(list(range(keep)))
        self.basis.known = known[:, :keep].t()
        self._steps, self._is_random = 0, False

    def ritz_vectors(self, k: int) -> Float[Tensor, "k size"]:
        """Return the k most wanted approximate eigenvectors, as rows."""
        rows = rotate(self.basis.rows[: self.basis.count], self._weights[:, :k].t())
        for row in rows:
            row /= norm(row)
        return rows

    def ceiling(self) -> float | None:
        """Return what no eigenvalue outside the locked vectors is beyond, with probability 0.99.

        From the last sweep that could tell; None if none could. In the sign of the eigenvalues.
        """
        found = self._ceiling_score()
        if math.isfinite(found):
            self._ceiling = -found if self._which == "SA" else found
        return self._ceiling

    def _ceiling_score(self) -> float:
        if self.basis.is_whole_space:
            return float(score(self.values, self._which)[0])
        if not self._steps:
            return math.inf
        part = self._part()
        beyond = overshoot(
            part,
            self._outside + 2 * torch.finfo(self.operator.dtype).eps * self.basis.norm,
            self.operator.size,
            self._steps,
            _DOUBT,
            self._width,
        )
        return float(score(torch.linalg.eigvalsh(part), self._which).max()) + beyond

    def _part(self) -> Tensor:
        """Return the Lanczos matrix of this sweep alone."""
        return self.basis.projected[
            self._locked : self.basis.count, self._locked : self.basis.count
        ]

    def _has_seen_the_rest(self, k: int, tol: float) -> bool:
        """Tell whether the rest is bounded by the k pairs, or its most wanted value is found."""
        allowed = self.allowed(self.values[:k], tol)
        lowest = float((score(self.values[:k], self._which) + allowed)[k - 1])
        return self._ceiling_score() <= lowest or self._has_found_the_next(k, tol)

    def _has_found_the_next(self, k: int, tol: float) -> bool:
        """Tell whether the most wanted pair of this sweep, the next after the k, has converged."""
        if not self._is_random:  # after a restart the sweep has no matrix of its own
            if self.basis.count <= k:
                return False
            value, weights = float(self.values[k]), self._weights[:, k]
            part = float(self._random_part @ weights)
        else:
            values, vectors = torch.linalg.eigh(self._part())
            best = int(torch.argmax(score(values, self._which)))
            value, weights, part = float(values[best]), vectors[:, best], float(vectors[0, best])
        estimate = self._outside * float(weights[-self._width :].norm())
        return estimate <= tol * abs(value) and self._stands_for_few(part)

    def _stands_for_few(self, part: float) -> bool:
        """Tell whether a Ritz vector with that part of the random direction can hide no other."""
        return self.operator.size * part**2 <= _FEW

    def _agrees(self, k: int, tol: float) -> bool:
        """Tell whether the most wanted values are those that this sweep set out with."""
        before = self._locked_values[:k]
        if len(before) < k:
            return False
        return bool(((self.values[:k] - before).abs() <= self.allowed(before, tol)).all())

    def _far(self, k: int) -> list[int]:
        """List the pairs at the unwanted end that have converged to rounding.

        Locking them narrows the spread that `overshoot` multiplies. They are at most half of the
        room beside the k.
        """
        if self._which == "LM":
            return []
        count, known = self.basis.count, self._estimates <= self.allowed(zeros(1), 1.0)
        most, first = min(count - k - 1, (self.capacity - k) // 2), count
        while count - first < most and bool(known[first - 1]):
            first -= 1
        return list(range(first, count))

    def _compress(self, chosen: list[int]) -> None:
        """Replace the basis by some of its Ritz vectors."""
        weights, keep, basis = self._weights[:, chosen], len(chosen), self.basis
        rotate(basis.rows[: basis.count], weights.t(), out=basis.rows[:keep])
        basis.count = keep
        basis.projected.zero_()
        basis.projected[:keep, :keep] = torch.diag(self.values[chosen])
        self._random_part = weights.t() @ self._random_part
        self.values = self.values[chosen]
