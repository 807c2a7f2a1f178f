"""Slow references for the theory: d x d matrices, textbook formulas, arbitrary precision."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def selector(d: int, indices: Any) -> Array:
    """Return M (d, d), ones on the diagonal at the kept features."""
    diagonal = np.zeros(d)
    diagonal[np.asarray(indices, dtype=int)] = 1
    return np.diag(diagonal)


def hessian(x: Array, indices: Any) -> Array:
    """Return M X^T X M / n, (d, d)."""
    m = selector(x.shape[1], indices)
    return m @ x.T @ x @ m / len(x)


def eigenvalues(x: Array, indices: Any) -> Array:
    """Return the n largest eigenvalues of M X^T X M by d x d, padded with zeros when d < n."""
    values = np.linalg.eigvalsh(hessian(x, indices) * len(x))[::-1]
    return np.pad(values, (0, max(0, len(x) - len(values))))[: len(x)]


def descend(x: Array, y: Array, indices: Any, w: Array, eta: float, steps: int) -> Array:
    """Run gradient descent on all d weights with a dense mask; return the last iterate (d,)."""
    xm = x @ selector(x.shape[1], indices)
    for _ in range(steps):
        w = w - eta * xm.T @ (xm @ w - y) / len(x)
    return w


def equation_3(x: Array, y: Array, indices: Any, w: Array, eta: float, steps: int) -> Array:
    """Evaluate (I - eta/n M X^T X M)^t (w_0 - (XM)^+ y) + (XM)^+ y as it is printed."""
    solution = np.linalg.pinv(x @ selector(x.shape[1], indices), rcond=1e-6) @ y
    update = np.eye(x.shape[1]) - eta * hessian(x, indices)
    return np.linalg.matrix_power(update, steps) @ (w - solution) + solution


def binomial_tail(d: int, p: Any, deviation: Any) -> mpmath.mpf:
    """Return P(|Binomial(d, p) - p d| > deviation) at 60 digits, term by term."""
    with mpmath.workdps(60):
        p = mpmath.mpf(p.numerator) / p.denominator if hasattr(p, "numerator") else mpmath.mpf(p)
        terms = (
            mpmath.binomial(d, k) * p**k * (1 - p) ** (d - k)
            for k in range(d + 1)
            if abs(k - p * d) > deviation
        )
        return mpmath.fsum(terms)


def bernstein_tail(x: Array, p: float, t: float) -> float:
    """Return 2n exp(-(t^2/2) / (V + L t/3)) with V and L from dense matrices."""
    n = len(x)
    norms = (x**2).sum(0)
    variance = p * (1 - p) * np.linalg.norm((x * norms) @ x.T, 2)
    largest = max(p, 1 - p) * norms.max()
    return float(2 * n * mpmath.exp(-(t**2 / 2) / (variance + largest * t / 3)))


def chernoff_tail(e: float, exponent: float, dimension: int) -> float:
    """Return dimension (e^e / (1+e)^(1+e))^exponent; a negative e is the lower tail."""
    with mpmath.workdps(40):
        e = mpmath.mpf(e)
        return float(dimension * (mpmath.exp(e) / (1 + e) ** (1 + e)) ** exponent)


def log_moment(t: float, p: float, a: Array) -> float:
    """Return log prod_j E exp(t (m_j - p) a_j) at 40 digits."""
    with mpmath.workdps(40):
        q, t = mpmath.mpf(p), mpmath.mpf(t)
        factors = (
            q * mpmath.exp(t * (1 - q) * mpmath.mpf(v))
            + (1 - q) * mpmath.exp(-t * q * mpmath.mpf(v))
            for v in a.tolist()
        )
        return float(mpmath.log(mpmath.fprod(factors)))


def spectral_radius(update: Array) -> float:
    """Return the largest modulus among the eigenvalues of a general matrix."""
    return float(np.abs(np.linalg.eigvals(update)).max())


def exact_distance(columns: Array, signal: Array, sigma: float) -> tuple[float, float]:
    """Return sigma^2 tr(G^-1) and s^T G^-1 s for G = sum_j z_j z_j^T of full rank, at 60 digits.

    Args:
        columns: z_j as rows, (k, n).
        signal: s = X w*, (n,).
    """
    with mpmath.workdps(60):
        a = mpmath.matrix(columns.tolist())
        inverse = (a.T * a) ** -1
        s = mpmath.matrix(signal.tolist())
        noise = mpmath.mpf(sigma) ** 2 * mpmath.fsum(inverse[i, i] for i in range(inverse.rows))
        return float(noise), float((s.T * inverse * s)[0])


def exact_rank(x: Array) -> int:
    """Return the rank of the float64 numbers in X as they are, by elimination in fractions."""
    rows = [[Fraction(v) for v in row] for row in x.tolist()]
    found = 0
    for column in range(x.shape[1]):
        pivot = next((i for i in range(found, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        for i in range(found + 1, len(rows)):
            factor = rows[i][column] / rows[found][column]
            rows[i] = [v - factor * w for v, w in zip(rows[i], rows[found], strict=True)]
        found += 1
    return found


def exact_step(columns: Array, y: Array, eta: float, steps: int) -> Array:
    """Run gradient descent from 0 at 60 digits on A = columns (k, n); return w_t (k,)."""
    with mpmath.workdps(60):
        a, target = mpmath.matrix(columns.tolist()), mpmath.matrix(y.tolist())
        w = mpmath.matrix(len(columns), 1)
        for _ in range(steps):
            w = w - mpmath.mpf(eta) / len(y) * (a * (a.T * w - target))
        return np.array([float(v) for v in w])
