"""Stochastic gradient descent in the mean square: the rates at which E ||w_t - w||^2 decays."""

from __future__ import annotations

import numpy as np

from theory.features import Array


def sgd_step(sharpness: float, largest: float, batch: float) -> float:
    """Return 2 / ((1 - 1/b) sharpness + largest / b): below it SGD is stable in the mean square.

    Args:
        sharpness: lambda_1(H), H = (1/n) sum_i H_i; lambda_1 / n here.
        largest: max_i lambda_1(H_i), the sharpest example; max_i ||x_{i,S}||^2 here.
        batch: examples a step, drawn with replacement; math.inf is gradient descent.

    >>> sgd_step(1.0, 8.0, 1), sgd_step(1.0, 8.0, 7)
    (0.25, 1.0)
    """
    return 2 / ((1 - 1 / batch) * sharpness + largest / batch)


def exact_step(rows: Array, batch: float) -> float:
    """Return the rate at which the second moment of SGD's error stops to decay, exactly.

    E (I - eta H_B) S (I - eta H_B) = S - eta (H S + S H) + eta^2 D(S) is self-adjoint and maps the
    positive semidefinite cone into itself: it is stable iff eta < 2 / lambda_1(C^-1 D) with
    C(S) = (H S + S H) / 2 and D(S) = (1 - 1/b) H S H + (1/(b n)) sum_i x_i x_i^T S x_i x_i^T.

    Args:
        rows: x_i in an orthogonal basis in which H is diagonal and positive, (n, rank).
        batch: as in ``sgd_step``.

    Returns:
        The threshold; cost rank^6 / 24, memory rank^4 / 4.
    """
    n, rank = rows.shape
    values = np.square(rows).sum(0) / n
    left, right = np.triu_indices(rank)
    mean = (values[left] + values[right]) / 2
    fourth = rows[:, left] * rows[:, right] * np.where(left == right, 1.0, 2**0.5)
    fourth /= np.sqrt(mean)
    dense = fourth.T @ fourth / (batch * n)
    dense[np.diag_indices(len(mean))] += (1 - 1 / batch) * values[left] * values[right] / mean
    return 2 / float(np.linalg.eigvalsh(dense)[-1])
