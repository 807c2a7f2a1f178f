"""How far beyond its Ritz values a symmetric matrix's spectrum may reach."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: constant of Kuczynski and Wozniakowski's theorem 4.2
_CONSTANT = 1.648


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
    T: Tensor, coupling: float, size: int, steps: int, failure: float, width: int = 1
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
        coupling: norm of what A makes of the last vectors outside Q, rounding included.
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
