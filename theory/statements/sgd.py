"""Stochastic gradient descent in the mean square: the rates at which E ||w_t - w||^2 decays."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from theory.claim import Claim, Finding, Verdict, ratio
from theory.factors import positive
from theory.features import Array
from theory.problems import MaskedRegression

BATCHES = (1, 4)  # examples a step
MOST = 32  # samples whose second moments are held at once: 528 x 528
SLACK = 1e-9
Steps = Callable[[Array, Array, float], tuple[float, float]]


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


def step_interval(values: Array, lengths: Array, batch: float) -> tuple[float, float]:
    """Return an interval that holds the exact threshold of SGD under interpolation.

    From ``sgd_step`` to 2 / ((1 - 1/b) tr H^2 / tr H + sum_i ||x_i||^4 / (b sum_i ||x_i||^2)), or
    gradient descent's 2 / lambda_1(H) where that is less. At b = 1 it is a point where all
    ||x_i|| are equal.

    Args:
        values: eigenvalues of H = X_S^T X_S / n, at least one positive.
        lengths: ||x_{i,S}||^2 of the n examples.
        batch: examples a step.
    """
    sharpness = float(values.max())
    mean = float((values @ values) / values.sum())
    fourth = float((lengths @ lengths) / lengths.sum())
    high = 2 / max((1 - 1 / batch) * mean + fourth / batch, sharpness)
    return sgd_step(sharpness, float(lengths.max()), batch), high


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
    if batch == 1:
        return 2 * n / float(np.linalg.eigvalsh(fourth @ fourth.T)[-1])
    dense = fourth.T @ fourth / (batch * n)
    dense[np.diag_indices(len(mean))] += (1 - 1 / batch) * values[left] * values[right] / mean
    return 2 / float(np.linalg.eigvalsh(dense)[-1])


@cache
def orthogonal_excess(predict: Steps) -> tuple[float, str]:
    """Return how far the lower end is from the exact threshold on orthogonal examples, at most.

    There it is attained, whatever their lengths and the batch: 2 / ((1 - 1/b) K/n + K/b) for the
    largest ||x_i||^2 = K, by hand. The upper end is attained at b = 1 where lengths are equal.
    """
    worst, where = 0.0, ""
    for lengths in (np.full(1, 3.0), np.full(2, 3.0), np.full(5, 3.0), np.array([3.0, 2.0, 1.0])):
        n = len(lengths)
        for batch in (1, 2, n, 100):
            low, high = predict(lengths / n, lengths, batch)
            exact = 2 / ((1 - 1 / batch) * 3.0 / n + 3.0 / batch)
            off = abs(low / exact - 1)
            if np.ptp(lengths) == 0 and (batch == 1 or n == 1):
                off = max(off, abs(high / exact - 1))
            if off > worst:
                worst, where = off, f"n={n} orthogonal examples, b={batch}: {low:.4g}"
                where += f" against {exact:.4g}, exactly"
    return worst, where


def _sgd(predict: Steps, problem: MaskedRegression, seed: int) -> Finding:
    """Compare with the exact threshold of the second-moment operator, for both batches."""
    quantity = "largest stable step of SGD, b = 1"
    off, where = orthogonal_excess(predict)
    if off > SLACK:
        return Finding("violated", quantity, 1.0, 1 + off, note=f"whatever the instance: {where}")
    mask = problem.draw(seed)
    if mask.top == 0:
        return Finding("vacuous", quantity, 0.0, 0.0, note="lambda_1 = 0: nothing moves, any step")
    n = min(problem.n, MOST)
    rows = mask.svd[2] * mask.svd[1]
    if n < problem.n:  # the first samples are an instance of their own
        u, s, _ = np.linalg.svd(rows[:n], full_matrices=False)
        rows = (u * s)[:, positive(s)]
    values, lengths = np.square(rows).sum(0) / n, np.square(rows).sum(1)
    verdict: Verdict = "holds"
    details: dict[str, float] = {}
    descent = 2 / float(values.max())
    for batch in BATCHES:
        low, high = predict(values, lengths, batch)
        exact = exact_step(rows, batch)
        if not low * (1 - SLACK) <= exact <= high * (1 + SLACK):
            verdict = "violated"
        details |= {f"b={batch}: step at least": low, f"b={batch}: exact step": exact}
        details |= {f"b={batch}: step at most": high}
    said, seen = details["b=1: step at least"], details["b=1: exact step"]
    rest = f"the first {n} samples; " if n < problem.n else ""
    return Finding(
        verdict,
        quantity,
        said,
        seen,
        ratio(said, seen),
        note=f"{rest}b = 4: {details['b=4: step at least']:.3g} against "
        f"{details['b=4: exact step']:.3g}; gradient descent: {descent:.3g}",
        details=details,
    )


CLAIMS = (
    Claim(
        "sgd",
        "SGD with batch b is stable in mean square if eta < 2/((1-1/b) lambda_1/n + max|x_i|^2/b)",
        "under interpolation and with batches drawn with replacement, E ||w_t - w||^2 decays if "
        "eta < 2 / ((1 - 1/b) lambda_1/n + max_i ||x_{i,S}||^2 / b), sharp for orthogonal x_i, and "
        "not if eta > 2 / ((1 - 1/b) tr H^2/tr H + sum_i ||x_i||^4 / (b sum_i ||x_i||^2))",
        "this project; Ma, Bassily and Belkin 2018",
        step_interval,
        _sgd,
        chapter="Dynamics on one mask",
        assumptions=("interpolation", "batches drawn with replacement"),
        proof=(
            "The second moment of the error is mapped linearly by a step; tr of its image is "
            "bounded from both sides."
        ),
        measured=(
            "The exact threshold of the operator on second moments, by its spectral radius, for "
            "several batches; violated if it is outside the interval."
        ),
        rejects=(
            "1 for 1 - 1/b",
            "gradient descent's",
            "largest without 1/b",
            "mean for largest",
            "1 for 2",
            "upper end 1 % low",
        ),
    ),
)
