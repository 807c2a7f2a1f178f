"""A bound from above for the norm of a symmetric operator, that holds with a stated probability."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from landscape import checks, seeds
from landscape.curvature.density import tridiagonal
from landscape.curvature.eigen import random_unit
from landscape.curvature.operators import LinearOperator
from landscape.curvature.reach import least_steps, overshoot
from landscape.errors import UserError


@dataclass(frozen=True)
class NormBound:
    """Hold lower <= ||A|| <= upper, the upper bound except with a small probability."""

    lower: float
    """The largest Ritz value in magnitude: certain, up to rounding."""
    upper: float
    """Holds with probability at least 1 - failure over the random start, for any matrix."""
    failure: float
    """How likely the upper bound may be wrong."""
    num_matvecs: int
    """Products spent."""


def norm_bound(
    operator: LinearOperator, *, steps: int = 30, failure: float = 1e-3, seed: int = 0
) -> NormBound:
    """Bound the spectral norm max |lambda_i| of a symmetric operator from both sides.

    After m steps of Lanczos from a uniformly random vector, each end of the spectrum is within
    eps (lambda_max - lambda_min) of the nearest Ritz value, hence

        ||A|| <= max_j |theta_j| + eps (theta_max - theta_min) / (1 - 2 eps),
        eps = (ln(1.648 sqrt(n) / (failure / 2)) / (2m - 1))^2

    whatever the gaps; where the Krylov space is nearly invariant its residual says more (see
    `overshoot` in reach.py). The residual of an eigenpair, in contrast, tells that an eigenvalue
    is near, not that it is the largest.

    Args:
        operator: any symmetric operator of size n.
        steps: m, products to spend; more make the bound tighter.
        failure: probability with which the upper bound may be wrong, in (0, 1).
        seed: of the start vector.

    Returns:
        Both bounds; they are equal where the Krylov space is the whole space.

    Raises:
        UserError: an argument out of its range, too few steps for any bound, or a product that
            is not finite.

    Cost: at most `steps` products, as many vectors. Source: Kuczynski & Wozniakowski (1992),
    Estimating the largest eigenvalue by the power and Lanczos algorithms, theorem 4.2.

    >>> from landscape.curvature.operators import MatrixOperator
    >>> round(norm_bound(MatrixOperator([[2.0, 1.0], [1.0, 2.0]])).upper, 6)
    3.0
    """
    checks.operator(operator)
    steps = checks.whole("steps", steps, least=1)
    failure = checks.number("failure", failure, above=0, below=1)
    seed = checks.seed(seed)
    if not 0 < failure < 1:
        raise UserError(f"expected a failure probability between 0 and 1, got {failure}")
    needed = min(least_steps(operator.size, failure / 2, 0.5**0.5), operator.size)
    if steps < needed:
        raise UserError(
            f"expected at least {needed} steps for a bound with failure "
            f"{failure:g}, got {steps}; raise steps"
        )
    start = random_unit(operator, seeds.generator(seed))
    T, left = tridiagonal(operator, start, min(steps, operator.size))
    lower, made = float(torch.linalg.eigvalsh(T).abs().max()), len(T)
    if made == operator.size:
        return NormBound(lower, lower, failure, made)
    rounding = 2 * torch.finfo(operator.dtype).eps * lower
    beyond = overshoot(T, left + rounding, operator.size, made, failure / 2)
    return NormBound(lower, lower + beyond, failure, made)
