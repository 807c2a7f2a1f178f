"""The distance with its second regime: 1/p becomes 1/c, which diverges as p d falls to n."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from scipy.special import bdtr

from landscape import seeds
from theory import purposes, wishart
from theory.claim import CONFIDENCE, Claim, Finding, Verdict, ratio
from theory.distributions import draw
from theory.factors import positive, rank, rank_note, resolved
from theory.features import Array, from_array
from theory.leverages import (
    effective_share,
    equal_share,
    equivalent_growth,
    fewest_columns,
    leverages,
)
from theory.problems import MaskedRegression, make_problem
from theory.statements.distance import SIGMAS, distance_terms, sampled_terms

MASKS = 128
DRAWS = 4000
Factor = Callable[[int, int, int], float]
Growth = Callable[[MaskedRegression], float]
HAAR = ((1, 16, 12), (3, 20, 14), (3, 60, 16), (6, 30, 18))  # r, d, k: 4th moments are finite
ROOM = 0.05  # relative error that the law of general features is allowed, beside 1/n
COLUMNS = 5.0  # fewest effective columns that a sample must see for it
#: features, n, d, p: one with equal leverages, one with many samples, one with heavy tails
PROBES = (("rademacher", 32, 160, 0.45), ("rademacher", 32, 64, 0.8), ("student", 32, 800, 0.12))
#: p, and n and d of two Gaussian blocks side by side, each with samples and features of its own
BLOCKS = (0.25, (8, 80), (24, 1200))


def draw_factors(rng: np.random.Generator, count: int, r: int, d: int, k: int) -> Array:
    """Draw tr B^-1 / r, B = V^T M V, V (d, r) a random orthonormal frame, k rows kept; (count,).

    V = G (G^T G)^-1/2 with Gaussian G (d, r): the trace is that of the inverse of the kept rows'
    Gram matrix times the Gram matrix of all rows.
    """
    g = rng.standard_normal((count, d, r))
    kept = np.einsum("cki,ckj->cij", g[:, :k], g[:, :k])
    whole = kept + np.einsum("cki,ckj->cij", g[:, k:], g[:, k:])
    return np.asarray(np.trace(np.linalg.solve(kept, whole), axis1=1, axis2=2)) / r


@cache
def haar_error(predict: Factor) -> tuple[float, str]:
    """Return the worst error of a factor in standard errors of ``DRAWS`` frames, and where."""
    worst, where = 0.0, ""
    for r, d, k in HAAR:
        rng = seeds.numbered(0, purposes.FRAMES, r, d, k)
        seen = draw_factors(rng, DRAWS, r, d, k)
        off = abs(float(seen.mean()) - predict(r, d, k)) / float(seen.std(ddof=1)) * DRAWS**0.5
        if off > worst:
            text = f"r={r}, d={d}, k={k}: mean {seen.mean():.3f}, predicted {predict(r, d, k):.3f}"
            worst, where = off, text
    return worst, where


def _haar(predict: Factor, problem: MaskedRegression, seed: int) -> Finding:
    """Average over random right singular vectors, at the instance's own singular values."""
    quantity, (off, where) = "E ||w_hat||^2 over random singular vectors", haar_error(predict)
    if off > SIGMAS:
        return Finding(
            "violated", quantity, 0.0, off, None, "Monte Carlo", samples=DRAWS, note=where
        )
    _, s, vectors = np.linalg.svd(problem.factor)
    keep = positive(s)
    r, d, k = int(keep.sum()), problem.d, problem.draw(seed).k
    noise, shift, _ = distance_terms(problem.factor[None], problem.signal, problem.sigma)
    whole = float(noise[0] + shift[0])
    if k == d or r == 0 or whole == 0 or k <= r + 1:
        note = "nothing is left out, or D = 0" if k > r + 1 else f"k = {k} <= r + 1: infinite mean"
        return Finding("vacuous", quantity, 0.0, 0.0, note=note)
    rng = seeds.numbered(seed, purposes.FRAMES)
    kept = wishart.triangular_wishart(rng, MASKS, r, k)
    rest = rng.standard_normal((MASKS, d - k, r)) if d - k < r else None
    other = (
        wishart.triangular_wishart(rng, MASKS, r, d - k)
        if rest is None
        else rest.transpose(0, 2, 1)
    )
    both = np.linalg.cholesky(kept @ kept.transpose(0, 2, 1) + other @ other.transpose(0, 2, 1))
    half = np.linalg.solve(kept, both)  # B^-1 = half^T half
    sides = np.diag(problem.sigma / s[keep]), (vectors @ problem.signal)[keep, None] / s[keep, None]
    seen = sum(np.square(half @ side).sum((1, 2)) for side in sides) / whole
    predicted, mean = predict(r, d, k), float(np.mean(seen))
    error = float(np.std(seen, ddof=1)) / MASKS**0.5
    verdict: Verdict = "holds" if abs(mean - predicted) <= SIGMAS * error + 1e-9 else "violated"
    if k <= r + 5:
        verdict = "unsettled"  # 1/chi^2 of fewer than five degrees: no variance
    mixed, chance = wishart.mixed_distance_factor(r, d, problem.p)
    return Finding(
        verdict,
        quantity,
        predicted * whole,
        mean * whole,
        ratio(predicted, mean),
        "Monte Carlo",
        samples=MASKS,
        standard_error=error * whole,
        note=rank_note(s)
        or f"k={k}: factor {predicted:.4g}, {predicted * problem.p:.3g} times 1/p",
        details={
            "factor": predicted,
            "1/p": 1 / problem.p,
            "1/q": 1 / share if (share := equal_share(r, d, problem.p)) > 0 else float("inf"),
            "mean factor over k >= r + 2": mixed / chance if chance > 0 else float("inf"),
            "P(k <= r + 1), where the mean is infinite": 1 - chance,
            "worst error in standard errors": off,
        },
    )


def median_interval(values: Array) -> tuple[float, float]:
    """Return order statistics that hold the median of the distribution with ``CONFIDENCE``."""
    ordered, n = np.sort(values), len(values)
    ranks = bdtr(np.arange(n), n, 0.5)  # P(Binomial(n, 1/2) <= j)
    j = max(0, int(np.searchsorted(ranks, (1 - CONFIDENCE) / 2)) - 1)
    return float(ordered[j]), float(ordered[n - 1 - j])


def judge_median(values: Array, predicted: float, room: float) -> Verdict:
    """Compare the interval of a median with predicted (1 - room) .. predicted (1 + room)."""
    low, high = median_interval(values)
    ends = predicted * (1 - room), predicted * (1 + room)
    if ends[0] <= low and high <= ends[1]:
        return "holds"
    return "violated" if high < ends[0] or low > ends[1] else "unsettled"


def probes() -> Iterator[MaskedRegression]:
    """Yield the instances of ``PROBES`` and of ``BLOCKS``, on which one weight goes wrong.

    There few columns of large leverage share directions, and many of small leverage the others.
    """
    for name, n, d, p in PROBES:
        yield make_problem(name, n=n, d=d, p=p, seed=1)
    p, (few, heavy), (many, light) = BLOCKS
    x = np.zeros((few + many, heavy + light))
    x[:few, :heavy] = draw("gaussian", few, heavy, seed=1).columns().T
    x[few:, heavy:] = draw("gaussian", many, light, seed=2).columns().T
    yield make_problem(from_array(x, "two blocks"), p=p, seed=1)


@cache
def probe_misfit(predict: Growth) -> str:
    """Say on which of ``probes`` the median over masks is off by more than a tenth, or nothing."""
    for problem in probes():
        noise, _, _ = sampled_terms(problem, MASKS // 2, 1)
        whole = float(distance_terms(problem.factor[None], problem.signal, 1.0)[0][0])
        said = predict(problem)
        if judge_median(noise, whole * said, 0.1) == "violated":
            seen = float(np.median(noise)) / whole
            return f"{problem.name}: median {seen:.3g} D^2, predicted {said:.3g}"
    return ""


def _leverage_law(predict: Growth, problem: MaskedRegression, seed: int) -> Finding:
    quantity, misfit = "median of E ||(XM)^+ eps||^2 given M", probe_misfit(predict)
    if misfit:
        return Finding("violated", quantity, 0.0, 0.0, note=misfit)
    p, s = problem.p, np.asarray(np.linalg.svd(problem.factor, compute_uv=False))
    if not 0 < p < 1 or rank(s) < problem.n or not resolved(s) or problem.d == problem.n:
        note = rank_note(s) or "p is 0 or 1, or rank X < n, or d = n"
        return Finding("vacuous", quantity, 0.0, 0.0, note=note)
    taken = leverages(problem)
    share, q = effective_share(taken, p), equal_share(problem.n, problem.d, p)
    whole = problem.sigma**2 * float((s**-2.0).sum())
    columns = fewest_columns(problem, taken, share) if share > 0 else 0.0
    if columns < COLUMNS or p * problem.d < 2 * problem.n or problem.n < 4 or whole == 0:
        note = f"outside the law's domain: some sample sees {columns:.2g} effective kept columns"
        return Finding("vacuous", quantity, 0.0, 0.0, note=note)
    seen, _, _ = sampled_terms(problem, MASKS, seed)
    said = whole * predict(problem)
    middle, room = float(np.median(seen)), ROOM + 1 / problem.n
    off = [middle / whole * value for value in (p, q, share)]
    return Finding(
        judge_median(seen, said, room),
        quantity,
        said,
        middle,
        ratio(said, middle),
        "Monte Carlo",
        samples=MASKS,
        note=f"median / law: {off[0]:.3g} for 1/p, {off[1]:.3g} for 1/q, {off[2]:.3g} for "
        f"1/c, {middle / said:.3g} for all weights, within {room:.0%} allowed",
        details={
            "median / (law in 1/p)": off[0],
            "median / (law in 1/q)": off[1],
            "median / (law in 1/c)": off[2],
            "median / law": middle / said,
            "c": share,
            "q": q,
            "room": room,
            "effective kept columns of the worst-off sample": columns,
        },
    )


CLAIMS = (
    Claim(
        "distance-haar",
        "random singular vectors: E ||w_hat||^2 = D^2 (d - r - 1)/(k - r - 1), exactly",
        "if the right singular vectors of X (rank r) are a uniformly random subspace, as for "
        "Gaussian rows, and the mask keeps k >= r + 2 of d features, then E ||w_hat||^2 = D^2 (d - "
        "r - 1)/(k - r - 1); at 0 < k < d, r < d, k in {r-1, r, r+1}: infinite",
        "this project, mean of an inverse Wishart matrix",
        wishart.distance_factor,
        _haar,
        chapter="Distance to initialisation",
        assumptions=(
            "right singular vectors of X uniformly random, independent of mask and X w*",
            "k >= r + 2 kept features",
        ),
        proof="V^T M V is (W1 + W2)^-1/2 W1 (W1 + W2)^-1/2 with Wishart matrices of the kept and "
        "the other features, and E tr W1^-1 = r / (k - r - 1); rotations make the mean of the "
        "inverse a multiple of I.",
        measured="The mean over random frames at the instance's own singular values and signal, "
        "drawn by Bartlett's decomposition, within five standard errors; before that 4000 frames "
        "at each of four small sizes.",
        rejects=(
            "the law in 1/p",
            "without both ones",
            "without the first one",
            "plus one",
        ),
    ),
    Claim(
        "distance-leverage",
        "approximately, noise term = sigma^2 tr S^-1, S = sum_j p z_j z_j^T / (1 + (1-p) x_j)",
        "an approximation for fixed X: the median over masks of sigma^2 tr (X M X^T)^-1 is sigma^2 "
        "tr S^-1 within 5 % + 1/n, S = sum_j p z_j z_j^T / (1 + (1-p) x_j), x_j (1 + (1-p) x_j) / "
        "(1 + x_j) = z_j^T S^-1 z_j; with one weight c for all columns S = c X X^T, n = p sum_j "
        "tau_j/(tau_j + c(1 - tau_j)), and c = q = (p - n/d)/(1 - n/d) for equal leverages tau_j; "
        "for n >= 4, p d >= 2n and at least 5 effective kept columns for each sample",
        "this project, leave-one-out at large n; no theorem",
        equivalent_growth,
        _leverage_law,
        chapter="Distance to initialisation",
        assumptions=(
            "n >= 4, p d >= 2n, rank X = n",
            "each sample sees at least 5 effective kept columns",
        ),
        proof="Not a proof: leaving a column out of X M X^T says what its weight in the mean "
        "inverse is, if quadratic forms in the other columns' masks are near their means, as they "
        "are for large n. It is exact at p = 1.",
        measured="The 99 % interval of the median over masks: it holds if all of it is within "
        "5 % + 1/n of the law, is violated if none of it is. Four features of known behaviour, "
        "one of them heavy-tailed, one of two blocks of unequal leverages, must be within 10 %.",
        rejects=(
            "the law in 1/p",
            "one weight for all columns",
            "all leverages equal",
            "without the denominator 1 - n/d",
        ),
    ),
)
