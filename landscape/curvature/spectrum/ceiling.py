"""What may lie beyond the Ritz values: bounds that hold with a stated probability.

A Ritz value never lies outside the spectrum, and a small residual tells that an eigenvalue is
near, not that it is the last one. How far the spectrum reaches beyond the Ritz values of a random
start is bounded by `overshoot`: for `lanczos` as the `ceiling` of its result, for the norm alone by
`norm_bound`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from landscape import checks, seeds
from landscape.curvature.operators.linear import LinearOperator
from landscape.curvature.spectrum.recurrence import tridiagonal
from landscape.curvature.spectrum.result import random_unit
from landscape.errors import UserError

_CONSTANT = 1.648
"""Of Kuczynski and Wozniakowski's theorem 4.2."""


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
    """Matvecs spent."""


def norm_bound(
    operator: LinearOperator, *, steps: int = 30, failure: float = 1e-3, seed: int = 0
) -> NormBound:
    """Bound the spectral norm max |lambda_i| of a symmetric operator from both sides.

    After m steps of Lanczos from a uniformly random vector, each end of the spectrum is within
    eps (lambda_max - lambda_min) of the nearest Ritz value, hence

        ||A|| <= max_j |theta_j| + eps (theta_max - theta_min) / (1 - 2 eps),
        eps = (ln(1.648 sqrt(n) / (failure / 2)) / (2m - 1))^2

    whatever the gaps; where the Krylov space is nearly invariant its residual says more
    (`overshoot`). The same bound, with failure 0.01, is the `ceiling` of ``lanczos(which="LM")``,
    which stops when an eigenpair is found; this one spends what it is given on the bound.

    Args:
        operator: any symmetric operator of size n.
        steps: m, matvecs to spend; more make the bound tighter.
        failure: probability with which the upper bound may be wrong, in (0, 1).
        seed: of the start vector.

    Returns:
        Both bounds; they are equal where the Krylov space is the whole space.

    Raises:
        UserError: an argument out of its range, too few steps for any bound, or a product that
            is not finite.

    Cost: at most `steps` matvecs, as many vectors. Source: Kuczynski & Wozniakowski (1992),
    Estimating the largest eigenvalue by the power and Lanczos algorithms, theorem 4.2.

    >>> from landscape.curvature.operators.linear import MatrixOperator
    >>> round(norm_bound(MatrixOperator([[2.0, 1.0], [1.0, 2.0]])).upper, 6)
    3.0
    """
    checks.operator(operator)
    steps = checks.whole("steps", steps, least=1)
    failure = checks.number("failure", failure, above=0, below=1)
    seed = checks.seed(seed)
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


def steps_root(size: int, steps: int, failure: float) -> float:
    """Return r = ln(1.648 sqrt(size) / failure) / (2 steps - 1).

    After so many steps from a uniformly random vector each end of the spectrum is within
    r^2 (lambda_max - lambda_min) of its Ritz value, except with probability `failure`.
    """
    return math.log(_CONSTANT * size**0.5 / failure) / (2 * steps - 1)


def least_steps(size: int, failure: float, root: float) -> int:
    """Return the number of steps from which on `steps_root` is below a root."""
    return math.ceil((math.log(_CONSTANT * size**0.5 / failure) / root + 1) / 2 + 1e-9)


def overshoot(
    T: Float64[Tensor, "m m"],
    coupling: float,
    size: int,
    steps: int,
    failure: float,
    width: int = 1,
) -> float:
    """Bound how far the spectrum reaches beyond the extreme eigenvalues of T = Q'AQ.

    Q is the Krylov space of `steps` steps from a uniformly random vector q. Two bounds hold, each
    except with probability `failure`, whatever the gaps; the smaller one is returned.

    - Kuczynski & Wozniakowski: r^2 times the spread of A at each end (`steps_root`), which is at
      most the spread of T over 1 - 2 r^2.
    - For an eigenvector y of A beyond the Ritz values theta_j, |y'q| (lambda - theta_max) is at
      most `coupling` sum_j |s_1j s_mj|, with s the eigenvectors of T; and |y'q| is at least
      failure / sqrt(size). It closes where the space is invariant.

    Args:
        T: shape (m, m), float64; q is the first of its vectors.
        coupling: Frobenius norm of (I - Q Q')A applied to the last `width` vectors of Q, plus
            rounding.
        size: of A.
        steps: from q, at least 1; m of them if one vector is multiplied at a time.
        failure: probability with which each bound may be wrong.
        width: how many of the vectors are last, and have their products partly outside Q.

    Returns:
        A number at least 0; infinite where there were too few steps.

    Source: Kuczynski & Wozniakowski (1992), theorem 4.2.
    """
    values, vectors = torch.linalg.eigh(T)
    last = vectors[-width:].norm(dim=0)
    near = coupling * float((vectors[0].abs() * last).sum()) * size**0.5 / failure
    squared = steps_root(size, steps, failure) ** 2
    if squared >= 0.5:
        return near
    spread = float(values[-1] - values[0]) / (1 - 2 * squared)
    return min(near, squared * spread)
