"""The Lanczos recurrence: an orthonormal basis that grows by products, and what A is inside it."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from landscape.curvature.operators.linear import LinearOperator
from landscape.curvature.spectrum.algebra import inner, norm, remove, subtract
from landscape.curvature.spectrum.result import checked_product


class Recurrence:
    """Hold an orthonormal basis Q (rows), T = Q A Q', and the directions to multiply next.

    T is (block) tridiagonal up to rounding; after a restart what was kept is diagonal, and the rows
    and columns of the next block are full (arrowhead). It is kept whole, in float64, from the
    coefficients of the orthogonalisation, so that no case needs its own code.

    Args:
        operator: A, symmetric.
        capacity: vectors that the basis may hold.
        block: vectors multiplied at once.

    Cost: capacity + 2 block vectors; a step reads the basis from memory twice.
    """

    def __init__(self, operator: LinearOperator, capacity: int, block: int = 1) -> None:
        self._operator = operator
        size, like = operator.size, (operator.dtype, operator.device)
        self.rows = torch.empty(capacity + block, size, dtype=like[0], device=like[1])
        """Q in the first `count` rows, the following directions in rows behind it."""
        self.projected = zeros(capacity, capacity)
        """T in its first `count` rows and columns."""
        self.count = 0
        """Vectors in the basis."""
        self.norm = 0.0
        """The largest ||A q|| so far, at most ||A||."""
        self.following = self.rows[:0]
        """Orthonormal rows outside the basis whose products come next."""
        self.known = zeros(0, 0)
        """Q A following', as far as it is known, shape (count, following).

        The transpose of `coupling`, with zeros for the rest of the basis; after a restart the
        arrow, and zeros for new directions (`follow`).
        """
        self.coupling = zeros(0, 0)
        """T's next off-diagonal block, shape (following, vectors multiplied last).

        ``coupling[i, j]`` = <following_i, A q_j> for the vectors q_j that were multiplied last.
        """
        self._work = torch.empty(block, size, dtype=like[0], device=like[1])
        self._place = 0  # of the following directions in the rows

    @property
    def is_whole_space(self) -> bool:
        """Whether nothing is left outside the basis."""
        return self.count == self._operator.size

    @property
    def outside(self) -> float:
        """The norm of what A makes of the last vectors outside the basis."""
        return float(self.coupling.norm())

    def follow(self, rows: Tensor) -> None:
        """Go on along the parts of rows outside the basis, whose products nothing is known of.

        The rows are used up; what is left of a row beside rounding becomes a direction.
        """
        self.following, _ = self._orthonormal(rows)
        self.known = zeros(self.count, len(self.following))

    def extend(self) -> int:
        """Add the following directions to the basis, and return their number: the matvecs."""
        b, before = len(self.following), self.count
        m = self.count = before + b
        if before != self._place:  # a restart has moved the basis away from it
            self.rows[before:m] = self.following
        products = checked_product(self._operator, self.following.t())
        rest = self._work[:b]
        for w, product in zip(rest, products.unbind(1), strict=True):
            w.copy_(product)
        self.norm = max(self.norm, *(norm(w) for w in rest))
        lengths = []
        for number, w in enumerate(rest):
            known = self._remove_known(w, self.known[:, number], before)
            left, length = remove(self.rows[:m], w)
            self.projected[:m, before + number] = known + left
            lengths.append(length)
        self.projected[before:m, :before] = self.projected[:before, before:m].t()
        corner = self.projected[before:m, before:m]
        corner.copy_((corner + corner.t()) / 2)
        self.following, self.coupling = self._orthonormal(rest, lengths)
        self.known = zeros(m, len(self.coupling))
        self.known[before:] = self.coupling.t()
        if self.is_whole_space:
            self.following = self.rows[:0]
        return b

    def _remove_known(self, w: Tensor, coupling: Tensor, before: int) -> Tensor:
        """Remove from a product what is known to be in it, and its part in the newest vectors.

        Nothing else is left but rounding, for which one pass over the basis is enough.
        """
        column = zeros(self.count)
        known = torch.nonzero(coupling).reshape(-1).tolist()
        low = known[0] if known else before
        column[low:before] = coupling[low:]
        near = self.rows[low : self.count]
        step = torch.cat([coupling[low:], inner(self.rows[before : self.count], w)])
        column[before:] = step[before - low :]
        subtract(near, step, w)
        return column

    def _orthonormal(
        self, rows: Tensor, lengths: list[float] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Make rows an orthonormal basis U of what they are outside the basis; they are used up.

        Returns U, stored in the rows after the basis, and C with rows = C'U. Rows whose `lengths`
        are given are orthogonal to the basis already, and only zeros are left out; else what is
        left out is rounding beside the row.
        """
        self._place = self.count
        found = self.rows[self.count : self.count + len(rows)]
        coefficients = zeros(len(rows), len(rows))
        reached = 0
        for number, v in enumerate(rows):
            if lengths is None:
                limit = 10 * torch.finfo(v.dtype).eps * norm(v)
                length = remove(self.rows[: self.count], v)[1]
            else:
                limit, length = 0.0, lengths[number]
            if reached:
                coefficients[:reached, number] = remove(found[:reached], v)[0]
                length = remove(self.rows[: self.count], v)[1]
            if length > limit and self.count + reached < self._operator.size:
                coefficients[reached, number] = length
                torch.div(v, length, out=found[reached])
                reached += 1
        return found[:reached], coefficients[:reached]


def tridiagonal(
    operator: LinearOperator, v: Float[Tensor, " size"], steps: int, basis: Tensor | None = None
) -> tuple[Float64[Tensor, "m m"], float]:
    """Return T = Q'AQ for the Krylov space of a vector, shape (m, m), m <= steps, float64.

    Args:
        operator: A, symmetric.
        v: a vector to start from, shape (size,), any norm.
        steps: matvecs, at least 1.
        basis: orthonormal rows that are removed from v and from every product: A is then the
            operator projected on what is outside them.

    Returns:
        T, and the norm of what A makes of the last vector outside the space and the basis. Ends
        early where the space is invariant up to rounding.

    Cost: m matvecs, steps + 2 vectors and the basis.
    """
    held = 0 if basis is None else len(basis)
    recurrence = Recurrence(operator, held + steps)
    if basis is not None:
        recurrence.rows[:held] = basis
        recurrence.count = held
    recurrence.follow(v[None].clone())
    eps = torch.finfo(operator.dtype).eps
    for _ in range(steps):
        recurrence.extend()
        if recurrence.outside <= 10 * eps * recurrence.norm:
            break
    m = recurrence.count
    return recurrence.projected[held:m, held:m], recurrence.outside


def zeros(*shape: int) -> Tensor:
    """Return zeros in float64 on the CPU, where the coefficients of a basis are kept."""
    return torch.zeros(*shape, dtype=torch.float64, device="cpu")
