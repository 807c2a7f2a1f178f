"""The largest stable step of isotropic features: 1/p while p d >> n, and flat below."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import special

from landscape import seeds
from theory import purposes, wishart
from theory.claim import Claim, Finding, Verdict, clopper_pearson, judge_probability, looks, ratio
from theory.features import Array
from theory.problems import MaskedRegression
from theory.spectra import descending
from theory.statements.corrected import judge_median, median_interval
from theory.statements.theorem51 import random_mask

Ends = Callable[[int, int, float], tuple[float, float]]
Top = Callable[[int, float], float]
CHI = tuple((k, delta) for k in (1, 10, 1000) for delta in (0.3, 0.05, 1e-3, 1e-7, 1e-14))
SAMPLED = ((16, 50, 0.05), (24, 24, 0.05), (64, 20, 0.05))  # n, k, delta
DRAWS = 400
ROOM = 0.1  # relative error that the law of isotropic features is allowed
FEWEST = 8  # samples and kept features from which it speaks


def gaussian_tops(rng: np.random.Generator, count: int, n: int, k: int) -> Array:
    """Draw lambda_1(G G^T) of Gaussian G (n, k), (count,); cost at most min(n, k)^3 each."""
    small, large = min(n, k), max(n, k)
    if small == 0:
        return np.zeros(count)
    drawn = wishart.triangular_wishart(rng, count, small, large)
    return descending(drawn @ drawn.transpose(0, 2, 1))[:, 0]


@cache
def gaussian_misfit(predict: Ends) -> str:
    """Say where an end of the interval fails too often, or nothing.

    At n = 1, lambda_1 is chi^2_k: exactly. At larger n by draws and Clopper-Pearson.
    """
    for k, delta in CHI:
        low, high = predict(1, k, delta)
        below, above = special.gammainc(k / 2, low / 2), special.gammaincc(k / 2, high / 2)
        for fails in (float(below), float(above)):
            if fails > delta / 2 * (1 + 1e-9):
                return f"n=1, k={k}: fails with probability {fails:.3g} > {delta / 2:.3g}, exactly"
    for n, k, delta in SAMPLED:
        tops = gaussian_tops(seeds.numbered(0, purposes.WISHART, n, k), DRAWS, n, k)
        low, high = predict(n, k, delta)
        for broken in (int((tops < low).sum()), int((tops > high).sum())):
            if clopper_pearson(broken, DRAWS)[0] > delta / 2:
                return f"n={n}, k={k}: {broken} of {DRAWS} Gaussian draws leave the interval"
    return ""


def _gaussian_step(predict: Ends, problem: MaskedRegression, seed: int) -> Finding:
    """Draw lambda_1 for the k of every mask, from Gaussian columns drawn afresh."""
    quantity, misfit = "largest stable step 2n/lambda_1", gaussian_misfit(predict)
    if misfit:
        return Finding("violated", quantity, 0.0, 0.0, note=misfit)
    if not problem.features.name.startswith("gaussian"):
        note = "X is not Gaussian; step-isotropic says how far the law is off here"
        return Finding("vacuous", quantity, 0.0, 0.0, note=note)
    n, delta = problem.n, problem.delta
    rng = seeds.numbered(seed, purposes.WISHART)
    for count in looks(delta):
        sizes = rng.binomial(problem.d, problem.p, count)
        ends = {int(k): predict(n, int(k), delta) for k in np.unique(sizes)}
        tops = np.concatenate([gaussian_tops(rng, 1, n, int(k)) for k in sizes])
        low, high = np.array([ends[int(k)] for k in sizes]).T
        broken = int(((tops < low) | (tops > high)).sum())
        verdict, note = judge_probability(broken, count, delta)
        if verdict != "unsettled":
            break
    if not tops.any():
        return Finding("vacuous", quantity, 0.0, 0.0, note="no mask keeps anything")
    shortest, seen = 2 * n / float(np.median(high)), 2 * n / float(np.median(tops))
    longest = 2 * n / float(np.median(low)) if np.median(low) > 0 else math.inf
    return Finding(
        verdict,
        quantity,
        shortest,
        seen,
        ratio(shortest, seen),
        "Monte Carlo",
        samples=count,
        violations=broken,
        interval=clopper_pearson(broken, count),
        note=note
        or f"step in [{shortest:.3g}, {longest:.3g}], median seen {seen:.3g}, "
        f"law {2 * n / wishart.edge(n, problem.p * problem.d):.3g}",
        details={"step at most": longest, "median k": float(np.median(sizes))},
    )


@cache
def typical_misfit(predict: Top) -> str:
    """Say where the median of Gaussian draws is off by more than 3 %, or nothing."""
    for n, k in ((8, 200), (32, 100), (64, 8)):
        tops = gaussian_tops(seeds.numbered(0, purposes.WISHART, n, k), DRAWS, n, k)
        if judge_median(tops, predict(n, k), 0.03) == "violated":
            seen = float(np.median(tops))
            return f"Gaussian, n={n}, k={k}: median {seen:.4g}, predicted {predict(n, k):.4g}"
    return ""


def isotropic(problem: MaskedRegression) -> str:
    """Say why features are not isotropic, or nothing: one direction, or a few columns, dominate.

    Both are compared with what independent Gaussian entries of the same variance would have.
    """
    m, n, d = problem.moments, problem.n, problem.d
    s2 = float(np.trace(m.gram)) / (n * d)
    direction = m.top / (s2 * wishart.edge(n, d))
    column = m.max_norm2 / (s2 * (math.sqrt(n) + math.sqrt(2 * math.log(d))) ** 2)
    if direction > 1.2:
        return f"one direction dominates: lambda_1(X X^T) is {direction:.2g} times isotropic"
    if column > 1.5:
        return f"heavy columns: the largest has {column:.2g} times the squared norm of Gaussian"
    return ""


def _isotropic_step(predict: Top, problem: MaskedRegression, seed: int) -> Finding:
    quantity, misfit = "median largest stable step 2n/lambda_1", typical_misfit(predict)
    if misfit:
        return Finding("violated", quantity, 0.0, 0.0, note=misfit)
    n, d, p = problem.n, problem.d, problem.p
    if not random_mask(problem) or n < FEWEST or p * d < FEWEST:
        note = f"fewer than {FEWEST} samples or kept features, or no random mask"
        return Finding("vacuous", quantity, 0.0, 0.0, note=note)
    reason = isotropic(problem)
    if reason:
        return Finding("vacuous", quantity, 0.0, 0.0, note=reason)
    s2 = float(np.trace(problem.moments.gram)) / (n * d)
    for count in (128, 512):
        tops = np.concatenate([descending(g)[:, 0] for g in problem.grams(count, seed)])
        verdict: Verdict = judge_median(tops, s2 * predict(n, p * d), ROOM)
        if verdict != "unsettled":
            break
    low, high = median_interval(tops)
    step, seen = 2 * n / (s2 * predict(n, p * d)), 2 * n / float(np.median(tops))
    headline = 2 * n / (p * problem.moments.top)
    return Finding(
        verdict,
        quantity,
        step,
        seen,
        ratio(step, seen),
        "Monte Carlo",
        samples=count,
        note=f"2n/(p lambda_1(X X^T)) = {headline:.3g} is {headline / seen:.2f} times the median; "
        f"the edge gives {wishart.step_law(n, d, p, s2):.3g}",
        details={
            "median at least": 2 * n / high,
            "median at most": 2 * n / low,
            "2n/(p lambda_1(X X^T)) over the median": headline / seen,
            "Marchenko-Pastur step": wishart.step_law(n, d, p, s2),
        },
    )


CLAIMS = (
    Claim(
        "step-gaussian",
        "Gaussian X, k kept: lambda_1 <= s^2 (sqrt(k) + sqrt(n) + t)^2, and a matching lower end",
        "if X has independent N(0, s^2) entries and k columns are kept, then with probability >= "
        "1 - delta each end to delta/2, t^2 = 2 log(2/delta): sqrt(lambda_1)/s <= sqrt(k) + sqrt(n)"
        " + t and, for every m, >= (sum_{i<m} E chi_{k-i} + sum_{0<i<m} E chi_{n-i} - t "
        "sqrt(2m-1))/m",
        "Davidson and Szarek 2001; the lower end: this project, from the bidiagonal form",
        wishart.gaussian_top,
        _gaussian_step,
        chapter="How far masked eigenvalues are from p times the full ones",
        assumptions=("entries of X independent N(0, s^2)", "the mask independent of X"),
        proof="k columns of a Gaussian X are Gaussian. Above, Davidson and Szarek. Below, "
        "rotations make X M bidiagonal with independent chi variables, and a vector of m equal "
        "entries sums 2m - 1 of them.",
        measured="lambda_1 of Gaussian matrices drawn afresh with the k of random masks; before "
        "that exact chi-squared tails at n = 1, and draws at larger n.",
        rejects=(
            "half the confidence term",
            "without the samples' root",
            "lower end at the edge",
            "lower end without its confidence term",
        ),
    ),
    Claim(
        "step-isotropic",
        "approximately, isotropic X: largest step 2n/(s^2 (sqrt(pd) + sqrt(n))^2), to 2nd order",
        "an approximation for isotropic columns of variance s^2: the median of lambda_1 is s^2 "
        "((a+b)^2 - 1.27 (a+b)(1/a+1/b)^(1/3)) within 10 %, a^2 = pd - 1/2, b^2 = n - 1/2, for "
        "n >= 8, pd >= 8, lambda_1(X X^T) within 1.2 and max norm^2 within 1.5 of Gaussian's",
        "Marchenko and Pastur 1967; Johnstone 2001; no theorem for finite n and general X",
        wishart.typical_top,
        _isotropic_step,
        chapter="How far masked eigenvalues are from p times the full ones",
        assumptions=(
            "n >= 8 and p d >= 8",
            "no direction of X X^T and no column is much larger than in Gaussian features",
        ),
        proof="No theorem for a given X: the edge of the Marchenko-Pastur law, less the median of "
        "the Tracy-Widom law, which are limits as n and p d grow.",
        measured="The 99 % interval of the median of lambda_1 over masks: it holds if all of it is "
        "within 10 % of the law, is violated if none of it is. Gaussian draws must be within 3 %.",
        rejects=("the law in 1/p", "sum of the squares", "the edge, where it fluctuates"),
    ),
)
