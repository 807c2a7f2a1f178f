"""Lemma A.1, the moment bound inside the proof of theorem 5.1, checked without sampling."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product

import numpy as np

from landscape import seeds
from theory import purposes
from theory.claim import Claim, Finding, ratio
from theory.features import Array
from theory.problems import MaskedRegression
from theory.statements.theorem51 import random_mask

MomentBound = Callable[[Array, float, int, int, float], tuple[Array, Array]]
ROUNDING = 1e-12
DIRECTIONS = 6
SCALES = (1e-2, 0.1, 0.5, 1.0, 3.0, 10.0, 30.0)  # |t| max_j (z_j^T u)^2


def log_moment_bound(t: Array, sum_a2: float, d: int, n: int, r: float) -> tuple[Array, Array]:
    """Return both bounds on log E exp(t u^T Q u) for a unit u: t^2 sum_j a_j^2/8, d n^2 r^4 t^2/8.

    Args:
        t: any real numbers.
        sum_a2: sum_j (z_j^T u)^4.
    """
    return t**2 * sum_a2 / 8, d * n**2 * r**4 * t**2 / 8


def log_moment(t: float, p: float, a: Array) -> float:
    """Return log E exp(t sum_j (m_j - p) a_j) exactly: a product of Bernoulli factors.

    sum_j (log(1 - p + p e^(t a_j)) - t p a_j).
    """
    x = t * a
    small = np.abs(x) < 30
    mild = np.log1p(p * np.expm1(x[small])) if p < 1 else x[small]
    wild = np.logaddexp(np.log1p(-p), np.log(p) + x[~small]) if 0 < p < 1 else p * x[~small]
    return float((mild - p * x[small]).sum() + (wild - p * x[~small]).sum())


def _directions(problem: MaskedRegression, seed: int) -> Array:
    """Return unit vectors: both ends of the spectrum, a coordinate, and random ones; (q, n)."""
    vectors = np.linalg.eigh(problem.moments.gram)[1].T
    random = seeds.numbered(seed, purposes.DIRECTIONS).standard_normal((DIRECTIONS - 3, problem.n))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    return np.concatenate([vectors[[-1, 0]], np.eye(problem.n)[:1], random])


@cache
def lemma_excess(predict: MomentBound) -> float:
    """Return the worst quotient of the two sides where the lemma is tight, at n = d = 1 and beyond.

    p = 1/2, one feature, t -> 0: the log moment is log cosh(t/2), which tends to t^2/8. Constant
    features r and u = (1, .., 1)/sqrt(n): both bounds are equal.
    """
    t = np.array([1e-2, 0.1, 1.0])
    inner, _ = predict(t, 1.0, 1, 1, 1.0)
    worst = float((np.log1p(2 * np.sinh(t / 4) ** 2) / inner).max())
    for n, d, r in ((1, 1, 1.0), (3, 7, 2.0), (32, 1000, 0.5)):
        inner, outer = predict(t, d * (n * r**2) ** 2, d, n, r)
        worst = max(worst, float((inner / outer).max()) - ROUNDING)
    return worst


def _lemma(predict: MomentBound, problem: MaskedRegression, seed: int) -> Finding:
    """Compute both sides for several directions and |t| from tiny to huge; no sampling."""
    quantity = "log moment / bound, worst over u and t"
    if not random_mask(problem):
        return Finding("vacuous", quantity, 1.0, 0.0, note="Q = 0: p is 0 or 1, or X = 0")
    directions = _directions(problem, seed)
    a = np.concatenate(
        [np.einsum("ji,qi->qj", b, directions) ** 2 for _, b in problem.features.blocks()], axis=1
    )
    worst, tightest = lemma_excess(predict), 0.0
    note = "whatever the instance: n=d=1 at p=1/2, or constant features" if worst > 1 else ""
    signed = np.array([sign * scale for scale, sign in product(SCALES, (-1.0, 1.0))])
    for row in a:
        if row.max() < 1e-20 * problem.moments.max_norm2:
            continue  # a direction that X does not see: both sides are 1
        t = signed / row.max()
        inner, outer = predict(t, float((row**2).sum()), problem.d, problem.n, problem.bound)
        exact = np.array([log_moment(float(value), problem.p, row) for value in t])
        rounding = 1e-13 * len(row) ** 0.5 * np.abs(t) * row.max() + 1e-14
        worst = max(worst, float(((exact - rounding) / inner).max()))
        worst = max(worst, float((inner / outer).max()) - ROUNDING)
        tightest = max(tightest, float((exact / inner).max()))
    return Finding(
        "holds" if worst <= 1 else "violated",
        quantity,
        1.0,
        tightest,
        ratio(1.0, tightest),
        assumptions={"|x| <= r": problem.moments.max_abs <= problem.bound},
        note=note or f"{len(directions)} directions x {len(signed)} values of t, exact products",
        details={"worst ratio after rounding allowance": worst},
    )


CLAIMS = (
    Claim(
        "lemma-a.1",
        "E exp(t u'Qu) <= exp(sum_j t^2 (z_j'u)^4 / 8) <= exp(d n^2 r^4 |u|^4 t^2 / 8)",
        "E exp(t u^T Q u) <= exp(sum_j t^2 (z_j^T u)^4 / 8) <= exp(d n^2 r^4 ||u||^4 t^2 / 8)",
        "paper 1, lemma A.1",
        log_moment_bound,
        _lemma,
        chapter="How far masked eigenvalues are from p times the full ones",
        assumptions=("|x| <= r",),
        proof=(
            "u'Qu is a sum of independent centred variables, the j-th in an interval of length "
            "(z_j'u)^2; Hoeffding's lemma for each, then Cauchy-Schwarz."
        ),
        measured=(
            "The left side is a product of d known factors, so nothing is sampled: six "
            "directions u, fourteen t, and where the bound is tight."
        ),
        rejects=(
            "0.9 times the exponent",
            "1/16 for the 1/8 of Hoeffding's lemma",
            "sum over the d features forgotten in the last step",
        ),
    ),
)
