"""The prose after theorem 5.1: what a trace of order d and a bound of order sqrt(d) do not give."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from theory import bounds
from theory.claim import Claim, Finding
from theory.features import Array
from theory.problems import MaskedRegression

CHAPTER = "How far masked eigenvalues are from p times the full ones"
COLUMNS = (10**4, 10**6, 10**8)
DELTA = 0.05
POPULATIONS = ((1, 0.5), (2, 0.05), (8, 0.05), (32, 1e-3))  # n, p

Relative = Callable[[float, Array, float], Array]


def by_the_trace(bound: float, eigenvalues: Array, p: float) -> Array:
    """Return the relative deviation of each eigenvalue that the prose suggests: bound / (p trace).

    Args:
        bound: what theorem 5.1 allows |lambda_i - p lambda_i(X X^T)| to be.
        eigenvalues: of X X^T, (n,).
        p: probability to keep a feature.
    """
    return np.full(len(eigenvalues), bound / (p * eigenvalues.sum()))


def _sharp(predict: Relative, problem: MaskedRegression, seed: int) -> Finding:
    """Compare with two samples, all columns (1, 0) but one (0, 1): lambda_2 is that one's m_j.

    The trace is d, and |lambda_2 - p| is p or 1 - p: at p = 1/2 as large as p itself, for every
    mask that keeps another column.
    """
    p, allowed = 0.5, 0.0
    for d in COLUMNS:
        bound = bounds.theorem_51_corrected(2, d, 1.0, DELTA)
        allowed = float(predict(bound, np.array([d - 1.0, 1.0]), p)[1])
    here = bounds.theorem_51_corrected(problem.n, problem.d, problem.bound, problem.delta)
    eigenvalues = problem.p * problem.moments.eigenvalues
    own = ", ".join(
        f"{here / value:.3g} of p lambda_{i}" if value > 1e-9 * eigenvalues[0] else ""
        for i, value in ((1, eigenvalues[0]), (problem.n, eigenvalues[-1]))
        if eigenvalues[0] > 0
    ).strip(", ")
    return Finding(
        "violated" if allowed < 1 else "holds",
        "relative deviation of lambda_2 at d = 1e8, p = 1/2",
        allowed,
        1.0,
        allowed,
        "certificate",
        note="n=2, d-1 columns (1, 0) and one (0, 1): the trace is d and lambda_2 is 0 or 1"
        + (f"; on {problem.name} the bound is {own}" if own else ""),
    )


def needed_columns(n: int, p: float) -> tuple[float, float]:
    """Return the d above which theorem 5.1's first term is below p lambda_1 and p lambda_2.

    For features uniform in [0, 1]: E z z^T = 1 1^T / 4 + I / 12, so lambda_1 = d (n/4 + 1/12) and
    lambda_i = d/12; 2 sqrt(2 d n^3) = p lambda gives 128 n / (p^2 (1 + 1/(3n))^2) and
    1152 n^3 / p^2.

    >>> [f"{d:.3g}" for d in needed_columns(32, 1e-3)]
    ['4.01e+09', '3.77e+13']
    """
    return 128 * n / (p * (1 + 1 / (3 * n))) ** 2, 1152 * n**3 / p**2


@cache
def crossing(n: int, p: float, index: int) -> float:
    """Bisect the d at which the bound (delta -> 1) is p times an eigenvalue of E X X^T."""
    column = np.ones((n, n)) / 4 + np.eye(n) / 12
    value = float(np.linalg.eigvalsh(column)[::-1][index])
    low, high = 0.0, 100.0  # log10 d
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        d = 10.0**middle
        above = 2 * (2 * d * n**3) ** 0.5 > p * d * value
        low, high = (middle, high) if above else (low, middle)
    return float(10**low)


def _needed(
    predict: Callable[[int, float], tuple[float, float]], problem: MaskedRegression, seed: int
) -> Finding:
    worst, last = 0.0, (0.0, 0.0)
    for n, p in POPULATIONS:
        said = predict(n, p)
        for index in range(min(n, 2)):
            found = crossing(n, p, index)
            worst = max(worst, abs(said[index] / found - 1))
            last = said[index], found
    return Finding(
        "holds" if worst <= 1e-9 else "violated",
        "d at which the bound is p lambda_2, n = 32, p = 0.001",
        last[0],
        last[1],
        last[0] / last[1],
        "certificate",
        note=f"and for p lambda_1: {predict(32, 1e-3)[0]:.3g}",
        details={"worst relative error": worst},
    )


CLAIMS = (
    Claim(
        "thm-5.1-trace",
        "a trace of order d and a bound of order sqrt(d) make every lambda_i concentrate sharply",
        "since E sum_i lambda_i is of order d and the bound of theorem 5.1 of order sqrt(d), every "
        "lambda_i concentrates sharply around p lambda_i(X^T X) where d >> n",
        "paper 1, section 5.2, the last two sentences",
        by_the_trace,
        _sharp,
        expected="violated",
        chapter=CHAPTER,
        assumptions=(
            "d >> n",
            "a trace of order d (the paper: under mild conditions on the features)",
        ),
        proof=(
            "The trace is a sum; it says nothing about its smaller terms. Two samples with d - 1 "
            "columns (1, 0) and one column (0, 1) have the trace d, and lambda_2 is 0 or 1 for "
            "every d. It is true for fixed n and p as d grows if the smallest eigenvalue is of "
            "order d too."
        ),
        measured=(
            "The bound over p times the trace, against the relative deviation of lambda_2, which "
            "is 1 for every mask at p = 1/2. Violated if the first is below 1."
        ),
        rejects=("each eigenvalue in place of the trace",),
    ),
    Claim(
        "thm-5.1-needed-d",
        "uniform features: the bound is below p lambda_1 above about d = 128 n/p^2 only",
        "for features uniform in [0, 1], the bound of theorem 5.1 is below p lambda_1 only if "
        "d > 128 n / (p^2 (1 + 1/(3n))^2), and below p lambda_i, i >= 2, only if "
        "d > 1152 n^3 / p^2",
        "this project, about paper 1, section 5.2",
        needed_columns,
        _needed,
        chapter=CHAPTER,
        assumptions=("entries uniform in [0, 1], their mean Gram matrix",),
        proof=(
            "The mean Gram matrix is d (1 1^T / 4 + I / 12); setting the bound's first term equal "
            "to p times an eigenvalue is a linear equation in sqrt(d)."
        ),
        measured=(
            "The crossing is bisected with the eigenvalues of the mean Gram matrix computed "
            "numerically, for four pairs of n and p. Violated if it is off by 1e-9."
        ),
        rejects=("n^2 for n^3", "the mean forgotten", "p for p^2"),
    ),
)
