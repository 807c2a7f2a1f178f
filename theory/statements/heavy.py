"""Sharper bounds for a mask whose few heavy columns are known, and for lambda_1 from below."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

from theory import bounds, conditional, tiled
from theory.claim import Claim, Finding, Verdict, clopper_pearson, judge_probability, looks, ratio
from theory.features import Array
from theory.heavy_light import divide
from theory.problems import MaskedRegression
from theory.spectra import Moments, descending
from theory.statements.theorem51 import random_mask

HEAVY = 100  # columns that are conditioned on, at most a tenth of all
Conditional = Callable[[Array, Moments, float, float], tuple[Array, float, float]]


def conditional_bound(
    kept: Array, light: Moments, p: float, delta: float
) -> tuple[Array, float, float]:
    """Return the centre C, the bound t on ||X M X^T - C||, and that on lambda_1 - lambda_1(C).

    Args:
        kept: sum over the kept heavy columns of z_j z_j^T, (n, n), or one a mask, (N, n, n).
        light: moments of the light columns.
        p: probability to keep a column.
        delta: failure probability of the first bound; the second has delta/2.
    """
    centre = kept + p * light.gram
    above = conditional.top_surplus(light, p, delta / 2)
    return centre, conditional.deviation(light, p, delta), above


@cache
def conditional_excess(predict: Conditional) -> tiled.Excess:
    """Compare exact failure probabilities with delta where the light columns are [I .. I].

    The kept heavy columns are one multiple of the first unit vector: eigenvalues are then
    independent Binomial(m, p), the first one shifted.
    """
    return tiled.worst(_conditional_cases(predict))


def _conditional_cases(predict: Conditional) -> Iterator[tuple[float, float, str]]:
    for x, delta in tiled.instances():
        if x.n == 8 or delta in (1e-3, 1e-14):
            continue
        for weight in (0.0, 5.0 * x.copies):
            kept = np.zeros((x.n, x.n))
            kept[0, 0] = weight
            centre, t, above = predict(kept, x.moments, x.p, delta)
            means = np.diagonal(centre) - np.diagonal(kept)  # predicted for each binomial
            one, rest = (_leaves(x, float(mean), t) for mean in (means[0], means[-1]))
            fails = 1 - (1 - one) * (1 - tiled.any_of(rest, x.n - 1))
            fails = tiled.any_of(rest, x.n) if one == rest else fails
            yield fails, delta, f"{x.name}, {weight:g} of a heavy column kept"
            top = float(np.diagonal(centre).max()) + above
            if weight == 0:
                yield x.top_reaches(top), delta / 2, f"{x.name}, lambda_1 above"


def _leaves(x: tiled.Tiled, mean: float, t: float) -> float:
    """Return P(|Binomial(m, p) - mean| >= t)."""
    if t <= 0:
        return 1.0
    return tiled.above(mean + t, x.copies, x.p) + tiled.below(mean - t, x.copies, x.p)


def _conditional(predict: Conditional, problem: MaskedRegression, seed: int) -> Finding:
    quantity, excess = "||X M X^T - C||", conditional_excess(predict)
    if excess.refutes:
        return excess.finding(quantity)
    if not random_mask(problem):
        return Finding("vacuous", quantity, 0.0, 0.0, note="p is 0 or 1, or X = 0")
    p, delta, n = problem.p, problem.delta, problem.n
    parts = divide(problem.features, min(HEAVY, problem.d // 10))
    verdict: Verdict
    for count in looks(delta / 2):
        gap, top, middle = (np.empty(count) for _ in range(3))
        at = 0
        for masks, grams in zip(problem.masks(count, seed), problem.grams(count, seed)):
            kept = np.stack([parts.kept_gram(mask) for mask in masks])
            centre, t, above = predict(kept, parts.light, p, delta)
            some = slice(at, at := at + len(masks))
            gap[some] = np.abs(descending(grams - centre)).max(1)
            top[some], middle[some] = descending(grams)[:, 0], descending(centre)[:, 0]
        slack = 1e-12 * problem.moments.top
        judged = [
            judge_probability(int((gap > t + slack).sum()), count, delta),
            judge_probability(int((top > middle + above + slack).sum()), count, delta / 2),
        ]
        found = [v for v, _ in judged]
        verdict, note = judged[0] if found[0] == "violated" or found[1] == "holds" else judged[1]
        if verdict != "unsettled":
            break
    broken, width = int((gap > t + slack).sum()), float(np.median(t / np.maximum(top, 1e-300)))
    plain = bounds.bernstein(problem.moments, p, delta)
    error = float(np.median(np.abs(middle / np.maximum(top, 1e-300) - 1)))
    if broken == 0 and t >= problem.moments.top:
        verdict, note = "vacuous", "the bound exceeds lambda_1(X X^T)"
    return Finding(
        verdict,
        quantity,
        t,
        float(gap.max()),
        ratio(t, float(gap.max())),
        "Monte Carlo",
        samples=count,
        violations=broken,
        interval=clopper_pearson(broken, count),
        note=f"{note}{'; ' if note else ''}|H| = {len(parts.heavy)}: half-width / lambda_1 falls "
        f"from {plain / float(np.median(top)):.3g} to {width:.3g}"
        if np.median(top) > 0
        else note,
        details={
            "heavy columns": float(len(parts.heavy)),
            "half-width / lambda_1": width,
            "half-width without H": plain,
            "median error of lambda_1(C)": error,
            "sharpness at most, over n": float(np.median(middle + above)) / n,
            "worst probability / delta, exact": excess.factor,
        },
    )


Shortfall = Callable[[tuple[float, float], float, float], float]
TALL = tuple((m, p) for m in (50, 400, 4000) for p in (0.01, 0.1, 0.5, 0.9, 0.97))


@cache
def shortfall_excess(predict: Shortfall) -> tiled.Excess:
    """Compare P(Binomial(m, p) <= p m - t) with delta: X = (1, .., 1), exactly."""
    return tiled.worst(_shortfall_cases(predict))


def _shortfall_cases(predict: Shortfall) -> Iterator[tuple[float, float, str]]:
    for m, p in TALL:
        for delta in (0.3, 0.05, 1e-3, 1e-7, 1e-14):
            low = p * m - predict((float(m), 1.0), p, delta)
            if low > 0:
                yield tiled.below(low, m, p), delta, tiled.Tiled(1, m, p).name


def _shortfall(predict: Shortfall, problem: MaskedRegression, seed: int) -> Finding:
    """Compare lambda_1 of masks with p lambda_1 - t, t from the top eigenvector of X X^T."""
    quantity, excess = "lambda_1", shortfall_excess(predict)
    if excess.refutes:
        return excess.finding(quantity)
    if not random_mask(problem):
        return Finding("vacuous", quantity, 0.0, 0.0, note="p is 0 or 1, or X = 0")
    p, delta, n = problem.p, problem.delta, problem.n
    top_vector = np.linalg.eigh(problem.moments.gram)[1][:, -1]
    blocks = (block for _, block in problem.features.blocks())
    mean = p * problem.moments.top
    low = mean - predict(conditional.projections(blocks, top_vector), p, delta)
    for count in looks(delta):
        tops = np.concatenate([descending(g)[:, 0] for g in problem.grams(count, seed)])
        broken = int((tops < low - 1e-12 * problem.moments.top).sum())
        verdict, note = judge_probability(broken, count, delta)
        if verdict != "unsettled":
            break
    other = mean * bounds.chernoff_lower(mean, problem.moments.max_norm2, delta, 1)
    if broken == 0 and low <= 0:
        verdict, note = "vacuous", "the lower end is negative: a few columns carry u_1"
    steps = [f"{2 * n / value:.3g}" if value > 0 else "inf" for value in (low, other)]
    smallest = float(tops.min())
    return Finding(
        verdict,
        quantity,
        low,
        smallest,
        ratio(low, smallest),
        "Monte Carlo",
        samples=count,
        violations=broken,
        interval=clopper_pearson(broken, count),
        note=note or f"step at most {steps[0]}, by Chernoff {steps[1]}",
        details={
            "p lambda_1(X X^T)": mean,
            "lower end by Chernoff": other,
            "worst probability / delta, exact": excess.factor,
        },
    )


CLAIMS = (
    Claim(
        "heavy-light",
        "given the mask on H, ||X M X' - C|| is within the light columns' Bernstein bound",
        "for any set H of columns chosen from X alone, given the mask on H, with probability "
        ">= 1 - delta |lambda_i(X M X^T) - lambda_i(C)| <= t for all i, C = sum_{j in H} m_j z_j "
        "z_j^T + p sum_{j not in H} z_j z_j^T, t the Bernstein bound of the columns not in H",
        "this project, Tropp 2015, theorem 6.1.1, conditionally",
        conditional_bound,
        _conditional,
        chapter="How far masked eigenvalues are from p times the full ones",
        assumptions=("H is chosen from X alone, never from the mask", "0 < p < 1"),
        proof="Given the mask on H the rest is still independent, so X M X^T - C is a sum over "
        "the light columns alone: matrix Bernstein, then Weyl's inequality for each eigenvalue.",
        measured="||X M X^T - C|| and lambda_1 of random masks against their bounds, H the columns "
        "of largest norm; before that the exact failure probability where the light columns are "
        "[I .. I], which is violated if it exceeds delta anywhere.",
        rejects=(
            "without the factor 2n",
            "without R",
            "lambda_1 without the factor n",
            "the mean of the light columns forgotten",
            "kept heavy columns weighed by p once more",
            "0.6 times the bound",
        ),
    ),
    Claim(
        "top-below",
        "lambda_1 >= p lambda_1(XX') - t, t by scalar Bernstein along the top eigenvector",
        "P(lambda_1 <= p lambda_1(X X^T) - t) <= exp(-(t^2/2) / (V + R t/3)), V = p(1-p) sum_j "
        "a_j^2, R = p max_j a_j, a_j = (z_j^T u_1)^2, u_1 the top eigenvector of X X^T",
        "this project, scalar Bernstein",
        conditional.top_shortfall,
        _shortfall,
        chapter="How far masked eigenvalues are from p times the full ones",
        assumptions=("0 < p < 1",),
        proof="lambda_1 is at least u_1^T X M X^T u_1, a sum of independent numbers with mean p "
        "lambda_1(X X^T), none of which falls below its mean by more than p max a_j.",
        measured="lambda_1 of random masks against the lower end; before that the exact binomial "
        "tails of X = (1, .., 1), violated if one exceeds delta.",
        rejects=(
            "without R",
            "0.7 times the bound",
            "variance halved",
            "one standard deviation, no confidence term",
        ),
    ),
)
