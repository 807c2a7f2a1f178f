"""Power iteration: the method of the papers, with an honest stopping rule."""

from __future__ import annotations

import torch

from landscape import checks, seeds
from landscape.curvature.operators.linear import Array, LinearOperator
from landscape.curvature.spectrum.algebra import norm, residual, unit
from landscape.curvature.spectrum.result import (
    EigenResult,
    allowed_residual,
    check_arguments,
    checked_product,
    conclude,
    random_unit,
    start_vector,
)


def power_iteration(
    operator: LinearOperator,
    *,
    tol: float = 1e-3,
    max_matvecs: int = 300,
    seed: int = 0,
    v0: Array | None = None,
) -> EigenResult:
    """Find the eigenvalue of largest magnitude by v <- A v / ||A v||.

    Stops when ||A v - lambda v|| <= tol |lambda| with lambda = v'Av. Two successive Rayleigh
    quotients that agree prove nothing: with a ratio of 0.99 between the first two eigenvalues
    they agree long before either is right. When the smallest eigenvalue is about minus the
    largest, as at initialisation, it does not converge and says so; use `lanczos`.

    Args:
        operator: any symmetric operator A.
        tol: relative residual, positive.
        max_matvecs: budget of matvecs, at least 1.
        seed: of the start vector.
        v0: a vector to start from, shape (size,), any norm; a small random part is added.

    Returns:
        One eigenpair; ``which`` is ``"LM"``.

    Raises:
        UserError: tol, max_matvecs or v0 out of range, or a product that is not finite.

    Warns:
        NotConvergedWarning: the budget ran out.

    Cost: `num_matvecs` matvecs, four vectors. Source: von Mises & Pollaczek-Geiringer (1929).

    >>> from landscape.curvature.operators.linear import MatrixOperator
    >>> result = power_iteration(MatrixOperator([[2.0, 1.0], [1.0, 2.0]]), tol=1e-8)
    >>> round(float(result.eigenvalues[0]), 6)
    3.0
    """
    checks.operator(operator)
    tol = checks.number("tol", tol, above=0)
    max_matvecs = checks.whole("max_matvecs", max_matvecs, least=1)
    seed = checks.seed(seed)
    check_arguments(operator, 1, "LM", tol, max_matvecs, least=1)
    generator = seeds.generator(seed)
    fresh = random_unit(operator, generator)
    v = fresh if v0 is None else start_vector(operator, v0, tol, fresh)
    largest = 0.0
    for number in range(1, max_matvecs + 1):
        w = checked_product(operator, v)
        value, size, _ = residual(v, w)
        largest = max(largest, norm(w))
        pair = torch.tensor([[value], [size]], dtype=torch.float64, device="cpu")
        done = size <= float(allowed_residual(pair[0], tol, largest, operator.dtype))
        if done or number == max_matvecs:
            break
        v = unit(w)
    return conclude(
        operator,
        v[None],
        values=pair[0],
        residuals=pair[1],
        ritz_values=pair[0],
        num_matvecs=number,
        norm=largest,
        method="power iteration",
        which="LM",
        tol=tol,
    )
