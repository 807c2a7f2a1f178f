"""The two-sided 1/sqrt(p) law of the distance, from the leverage of the features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

from theory import bounds, tiled
from theory.claim import (
    Claim,
    Finding,
    Verdict,
    clopper_pearson,
    judge_probability,
    looks,
    ratio,
)
from theory.factors import rank, rank_note, resolved
from theory.problems import MaskedRegression
from theory.statements.distance import EPS, distance_terms, sampled_terms

Law = Callable[[float, float, int, float, float], tuple[float, float]]


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
        Lower and upper end. A finite upper end says rank XM = n as well; where it is infinite the
        bound does not exclude rank XM < n, and the lower end is for masks of rank n only.
    """
    above = bounds.chernoff_upper(p, leverage, delta / 2, n)
    below = bounds.chernoff_lower(p, leverage, delta / 2, n)
    return whole / (p * above), whole / (p * below) if below > 0 else math.inf


def largest_leverage(problem: MaskedRegression) -> float:
    """Return max_j z_j^T (X X^T)^-1 z_j, in (0, 1]; X must have rank n. Cost: d n^2."""
    _, s, vectors = np.linalg.svd(problem.factor)
    whiten = vectors.T / s
    return max(float(((b @ whiten) ** 2).sum(1).max()) for _, b in problem.features.blocks())


@cache
def law_excess(predict: Law) -> tiled.Excess:
    """Compare the exact probability that the law fails with delta on tiled identities.

    n = 1: E ||w_hat||^2 = 1/K, K ~ Binomial(m, p). Larger n: P(rank XM < n) = P(some K_i = 0).
    """
    return tiled.worst(_law_cases(predict))


def _law_cases(predict: Law) -> Iterator[tuple[float, float, str]]:
    for x, delta in tiled.instances():
        low, high = predict(x.n / x.copies, 1 / x.copies, x.n, x.p, delta)
        if x.n == 1 and math.isfinite(high):
            fewer = tiled.below(1 / high * (1 - 1e-12), x.copies, x.p)
            more = tiled.above(1 / low * (1 + 1e-12), x.copies, x.p)
            yield fewer + more, delta, x.name
        if math.isfinite(high):
            yield x.bottom_at_most(0), delta, f"{x.name}, rank < n"
    for n, delta in ((64, 0.05), (64, 1e-7)):  # the fewest copies for which the law has an end
        for copies in range(100, 4000, 20):
            x = tiled.Tiled(n, copies, 0.01)
            if math.isfinite(predict(n / copies, 1 / copies, n, x.p, delta)[1]):
                yield x.bottom_at_most(0), delta, f"{x.name}, rank < n"
                break


def _law(predict: Law, problem: MaskedRegression, seed: int) -> Finding:
    quantity, excess = "E ||w_hat||^2 given M", law_excess(predict)
    if excess.refutes:
        return excess.finding(quantity)
    p, s = problem.p, np.asarray(np.linalg.svd(problem.factor, compute_uv=False))
    if not 0 < p < 1 or rank(s) < problem.n or not resolved(s):
        note = rank_note(s) or "p is 0 or 1, or rank X < n"
        return Finding("vacuous", quantity, 0.0, 0.0, note=note)
    tau = largest_leverage(problem)
    noise, shift, _ = distance_terms(problem.factor[None], problem.signal, problem.sigma)
    whole = float(noise[0] + shift[0])
    low, high = predict(whole, tau, problem.n, p, problem.delta)
    slack = 1e-9 + 100 * EPS * float(s[0] / s[-1])
    verdict: Verdict
    for count in looks(problem.delta):
        noise, shift, ranks = sampled_terms(problem, count, seed)
        seen, full = noise + shift, ranks == problem.n
        inside = full & (seen >= low * (1 - slack)) & (seen <= high * (1 + slack))
        allowed = inside if math.isfinite(high) else inside | ~full
        broken = count - int(allowed.sum())
        verdict, note = judge_probability(broken, count, problem.delta)
        if verdict != "unsettled":
            break
    if verdict != "violated" and math.isinf(high):
        verdict, note = "vacuous", f"no upper end: a feature has leverage {tau:.2g}"
    middle = float(np.median(seen))
    off = f"the median is {middle * p / whole:.3g} D^2/p; see distance-leverage for the centre"
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
        note=note or f"between {low:.3g} and {high:.3g}; at p = 1: {whole:.3g}; {off}",
        details={
            "lower end": low,
            "upper end": high,
            "largest leverage": tau,
            "median / (D^2/p)": middle * p / whole if whole > 0 else math.nan,
            "worst probability / delta, exact": excess.factor,
        },
    )


CLAIMS = (
    Claim(
        "distance-law",
        "E[||w_hat||^2 | M] is within known factors of its value at p = 1, divided by p",
        "E[||w_hat||^2 | M] = D^2 / p within factors 1/(1+a) and 1/(1-b), and rank XM = n, with "
        "probability >= 1 - delta, D^2 its value at p = 1, a and b from the largest leverage; "
        "the median is above D^2/p, by 2.1 at p d = 1.9 n, see distance-haar, distance-leverage",
        "this project, matrix Chernoff on whitened columns",
        distance_interval,
        _law,
        chapter="Distance to initialisation",
        assumptions=("X of rank n", "0 < p < 1"),
        proof=(
            "Matrix Chernoff on the whitened columns keeps the masked Gram matrix between (1-b) "
            "p and (1+a) p times the full one; inverses are ordered the other way round."
        ),
        measured=(
            "Exact failure probabilities on tiled identities, then masks of the instance: "
            "violated if the 99 % interval of the failure probability is above delta; vacuous "
            "without an upper end."
        ),
        rejects=(
            "without the factor n",
            "half the leverage",
            "0.3 times as wide in the logarithm",
            "distance in place of its square: p^2",
            "mean leverage n/d, divided by d once more",
        ),
    ),
)
