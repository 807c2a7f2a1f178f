"""The two-sided 1/sqrt(p) law of the distance, from the leverage of the features."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from theory import bounds
from theory.claim import (
    Claim,
    Finding,
    Verdict,
    clopper_pearson,
    judge_probability,
    ratio,
    sample_size,
)
from theory.claims.distance import distance_terms
from theory.problems import MaskedRegression
from theory.spectra import rank


def distance_interval(
    whole: float, leverage: float, n: int, p: float, delta: float
) -> tuple[float, float]:
    """Return an interval that holds E[||w_hat||^2 | M] with probability >= 1 - delta over masks.

    [D^2 / ((1+a) p), D^2 / ((1-b) p)] where n exp(-h(1+a) p/tau) = n exp(-h(1-b) p/tau) = delta/2,
    h(s) = s log s - s + 1: matrix Chernoff on the whitened columns (X X^T)^-1/2 z_j.

    Args:
        whole: D^2, the same expectation at p = 1.
        leverage: tau = max_j z_j^T (X X^T)^-1 z_j, in (0, 1].
        n: samples.
        p: probability to keep a feature, in (0, 1).
        delta: failure probability.

    Returns:
        Lower and upper end. Where the upper one is infinite the bound does not exclude rank
        XM < n, and the lower one is for masks of rank n only.
    """
    above = bounds.chernoff_upper(p, leverage, delta / 2, n)
    below = bounds.chernoff_lower(p, leverage, delta / 2, n)
    return whole / (p * above), whole / (p * below) if below > 0 else math.inf


def largest_leverage(problem: MaskedRegression) -> float:
    """Return max_j z_j^T (X X^T)^-1 z_j, in (0, 1]; X X^T must be invertible. Cost: d n^2."""
    values, vectors = np.linalg.eigh(problem.moments.gram)
    whiten = vectors / np.sqrt(values)
    return max(float(((b @ whiten) ** 2).sum(1).max()) for _, b in problem.features.blocks())


def _law(
    predict: Callable[..., tuple[float, float]], problem: MaskedRegression, seed: int
) -> Finding:
    quantity = "E ||w_hat||^2 given M"
    m, p = problem.moments, problem.p
    if not 0 < p < 1 or rank(m.eigenvalues) < problem.n:
        return Finding("vacuous", quantity, 0.0, 0.0, note="p is 0 or 1, or rank X < n")
    count, tau = sample_size(problem.delta), largest_leverage(problem)
    noise, shift, _ = distance_terms(m.gram[None], problem.signal, problem.sigma)
    whole = float(noise[0] + shift[0])
    low, high = predict(whole, tau, problem.n, p, problem.delta)
    noise, shift, ranks = distance_terms(problem.grams(count, seed), problem.signal, problem.sigma)
    seen, full, slack = noise + shift, ranks == problem.n, 1e-9 * whole / p
    inside = full & (seen >= low - slack) & (seen <= high + slack)
    allowed = inside if math.isfinite(high) else inside | ~full
    broken = count - int(allowed.sum())
    verdict: Verdict
    verdict, note = judge_probability(broken, count, problem.delta)
    if verdict == "holds" and math.isinf(high):
        verdict, note = "vacuous", f"no upper end: a feature has leverage {tau:.2g}"
    middle = float(np.median(seen))
    return Finding(
        verdict,
        quantity,
        whole / p,
        middle,
        ratio(whole / p, middle),
        "Monte Carlo",
        samples=count,
        violations=broken,
        interval=clopper_pearson(broken, count),
        note=note or f"between {low:.3g} and {high:.3g}; at p = 1: {whole:.3g}",
        details={"lower end": low, "upper end": high, "largest leverage": tau},
    )


CLAIMS = (
    Claim(
        "distance-law",
        "E[||w_hat||^2 | M] = D^2 / p within factors 1/(1+a) and 1/(1-b) with probability "
        ">= 1 - delta, D^2 its value at p = 1, a and b from the largest leverage",
        "this project, matrix Chernoff on whitened columns",
        distance_interval,
        _law,
    ),
)
