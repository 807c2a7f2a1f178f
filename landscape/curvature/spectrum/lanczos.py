"""Lanczos with full reorthogonalisation, thick restart, and an honest end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape import checks, seeds
from landscape.curvature.derivatives.memory import available_bytes
from landscape.curvature.operators.linear import Array, LinearOperator, as_tensor
from landscape.curvature.spectrum.algebra import residual
from landscape.curvature.spectrum.krylov import Krylov
from landscape.curvature.spectrum.result import (
    EigenResult,
    Which,
    check_arguments,
    checked_product,
    conclude,
    random_unit,
    start_vector,
)
from landscape.errors import UserError

_BASIS_SHARE = 0.25
"""Share of the available memory that the basis may take by default."""

_SPARE = 24
"""Vectors beside the k wanted ones at first: more save few matvecs, and each of them costs more.

k = 10 of a network of 657,000 weights: 180, 172, 169 and 166 matvecs with 14, 22, 30 and all.
"""

_CHEAP = 1 << 26
"""Bytes of a basis that needs no restart, however many its vectors are."""

_PROGRESS = 1.0
"""The basis grows by a quarter at a restart before which residuals fell by no such factor."""


def lanczos(
    operator: LinearOperator,
    k: int = 1,
    *,
    which: Which = "LA",
    tol: float = 1e-3,
    max_matvecs: int = 300,
    seed: int = 0,
    v0: Array | None = None,
    block: int = 1,
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
        max_matvecs: budget of matvecs, at least k and as many more, rounded up to whole blocks;
            it is never exceeded.
        seed: of the start vector.
        v0: a warm start, shape (size,) or (size, at most block), any norms: eigenvectors of a
            nearby matrix. A small random part is added, lest a wrong eigenvector be taken for the
            right one.
        block: vectors multiplied at once, 1 to size. A block of b finds up to b copies of an
            eigenvalue without a confirmation, and its b products cost less than b where the
            operator multiplies several vectors at once; it needs more matvecs than b = 1.
        max_basis: vectors held at most, at least k + 2 block; when full, the basis is compressed
            to the best Ritz vectors (thick restart). Default: 24 + k or 64 MB, and more where
            restarts do not get on, up to a quarter of the memory.
        confirm: after convergence, search the orthogonal complement of what was found from a
            fresh random vector, since the Krylov space of b vectors contains b copies of each
            eigenvalue only. Default: for k > block. In any case where rounding alone allows the
            residual, or where a value stands for so many eigenvalues that one may be hidden.

    Returns:
        k eigenpairs, the most wanted first; `ceiling` bounds the others with probability 0.99,
        as far as the matvecs allow.

    Raises:
        UserError: an argument out of its range, or a product that is not finite.

    Warns:
        NotConvergedWarning: the budget ran out, or the search that was due did not end.

    Cost: `num_matvecs` matvecs (with k = 1 on networks 8 to 25); at most max_basis + 2 block
    vectors, and k at the end. A step reads the basis from memory twice.
    Source: Lanczos (1950); reorthogonalisation: Daniel, Gragg, Kaufman & Stewart (1976); block:
    Golub & Underwood (1977); restart: Wu & Simon (2000); ceiling: Kuczynski & Wozniakowski (1992).

    >>> from landscape.curvature.operators.linear import MatrixOperator
    >>> A = MatrixOperator(torch.diag(torch.arange(100.0, dtype=torch.float64)))
    >>> lanczos(A, which="LA", tol=1e-8).eigenvalues.round(decimals=6).tolist()
    [99.0]
    """
    checks.operator(operator)
    k = checks.whole("k", k, least=None)
    tol = checks.number("tol", tol, infinite=True)
    max_matvecs = checks.whole("max_matvecs", max_matvecs, least=None)
    seed = checks.seed(seed)
    block = checks.whole("block", block, least=None)
    if max_basis is not None:
        max_basis = checks.whole("max_basis", max_basis, least=None)
    if not 1 <= block <= operator.size:
        raise UserError(
            f"expected a block of 1 to {operator.size} vectors, got {block}; 1 is usual"
        )
    check_arguments(operator, k, which, tol, max_matvecs, least=k + block * -(-k // block))
    generator = seeds.generator(seed)
    most = _most_vectors(operator, k, block, max_matvecs, max_basis)
    krylov = Krylov(operator, which, most, block)
    if max_basis is None:
        cheap = _CHEAP // _bytes_each(operator)
        krylov.capacity = min(most, max(k + _SPARE, 2 * k + 8 * block, cheap))
    krylov.start(*_start(operator, v0, tol, block, generator))
    confirm = k > block if confirm is None else confirm
    found = _search(krylov, k, tol, max_matvecs, most, confirm, generator)
    return conclude(
        operator,
        found.vectors,
        values=found.values,
        residuals=found.residuals,
        ritz_values=krylov.values,
        num_matvecs=found.spent,
        norm=krylov.basis.norm,
        method="lanczos",
        which=which,
        tol=tol,
        ceiling=krylov.ceiling(),
        is_settled=found.is_settled or krylov.basis.is_whole_space,
    )


@dataclass(frozen=True)
class _Found:
    """Hold k eigenpairs with recomputed residuals, their cost, and whether they pass as wanted."""

    vectors: Tensor
    values: Tensor
    residuals: Tensor
    spent: int
    is_settled: bool


def _search(
    krylov: Krylov,
    k: int,
    tol: float,
    max_matvecs: int,
    most: int,
    confirm: bool,
    generator: torch.Generator,
) -> _Found:
    """Grow a Krylov space, sweep and restart it, until k eigenpairs stand or the budget is spent.

    `most` is the number of vectors that the basis may ever hold; other arguments as `lanczos`.
    """
    spent, is_settled, before_restart = 0, False, math.inf
    while True:
        spent += krylov.extend()
        is_last = spent + max(1, len(krylov.basis.following)) + k > max_matvecs
        done = krylov.has_converged(k, tol)
        if done and not is_settled:
            is_sure = not confirm and not krylov.is_doubtful(k, tol)
            done = is_settled = is_sure or krylov.is_settled(k, tol)
            if not done and not is_last and krylov.is_sweep_due(k, tol, at_once=confirm):
                krylov.sweep(k, generator)
                confirm = True
                continue
        if done or is_last or krylov.basis.is_whole_space:
            vectors = krylov.ritz_vectors(k)
            values, residuals, worst = _measured(krylov, vectors, tol)
            spent += k
            if worst is None or krylov.basis.is_whole_space or spent + 1 + k > max_matvecs:
                return _Found(vectors, values, residuals, spent, is_settled)
            krylov.follow(worst)
        room = krylov.capacity - len(krylov.basis.following)
        if krylov.basis.count >= min(krylov.capacity, room + 1):
            lag = krylov.lag(k, tol)
            if lag > before_restart / _PROGRESS:
                krylov.capacity = min(most, krylov.capacity * 5 // 4)
            before_restart = lag
            krylov.restart(min(room, k + (room - k) // 2))
        if not len(krylov.basis.following):
            krylov.sample(generator)


def _measured(krylov: Krylov, vectors: Tensor, tol: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return Rayleigh quotients, residuals, and the worst residual vector above its tolerance."""
    values, residuals, worst, excess = [], [], None, 0.0
    for y in vectors:
        value, size, rest = residual(y, checked_product(krylov.operator, y))
        values.append(value)
        residuals.append(size)
        known = torch.tensor(value, dtype=torch.float64, device="cpu")
        above = size - float(krylov.allowed(known, tol))
        if above > excess:
            worst, excess = rest, above
    pair = torch.tensor([values, residuals], dtype=torch.float64, device="cpu")
    return pair[0], pair[1], worst


def _start(
    operator: LinearOperator, v0: Array | None, tol: float, block: int, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Return the rows to start from, warm ones, then random ones; and what is mixed into a warm."""
    start = torch.empty(operator.size, 0) if v0 is None else as_tensor(v0)
    if start.ndim not in (1, 2) or not len(start):
        checks.refuse("v0", "a vector, or several as columns", v0, "give one entry a parameter")
    given = list(start.reshape(len(start), -1).unbind(1))
    if len(given) > block:
        raise UserError(
            f"expected at most {block} start vectors, as many as the block, got {len(given)}; "
            "raise block or pass fewer columns"
        )
    fresh = [random_unit(operator, generator) for _ in range(block)]
    warm = [start_vector(operator, v, tol, r) for v, r in zip(given, fresh, strict=False)]
    return torch.stack(warm + fresh[len(warm) :]), fresh[0] if warm else None


def _most_vectors(
    operator: LinearOperator, k: int, block: int, max_matvecs: int, max_basis: int | None
) -> int:
    least = min(k + 2 * block, operator.size)
    if max_basis is None:
        room = int(_BASIS_SHARE * available_bytes(operator.device) / _bytes_each(operator))
        max_basis = max(least, room)
    elif max_basis < least:
        raise UserError(
            f"expected max_basis of at least k + 2 block = {k + 2 * block}, got {max_basis}; "
            "raise it, or ask for fewer eigenvalues"
        )
    return min(operator.size, max(max_matvecs, least), max_basis)


def _bytes_each(operator: LinearOperator) -> int:
    return operator.size * torch.finfo(operator.dtype).bits // 8
