"""How far the solution is from initialisation, and how loss and distance evolve."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from theory.claim import Claim, Finding, ratio
from theory.features import Array
from theory.problems import MaskedRegression, Restricted
from theory.spectra import ENUMERATED, RANK, every_mask

EPS = float(np.finfo(np.float64).eps)
DRAWS = 4000
MASKS = 256
SIGMAS = 5.0  # standard errors that a Monte Carlo mean may be off


def noise_term(eigenvalues: Array, sigma: float) -> float:
    """Return sigma^2 sum_{lambda_i > 0} 1 / lambda_i."""
    return float(sigma**2 * (1 / eigenvalues).sum())


def expected_distance(mask: Restricted, signal: Array, sigma: float) -> tuple[float, float]:
    """Return E ||w_hat||^2 = sigma^2 sum 1/lambda_i + ||(XM)^+ X w*||^2, and its bound, the sum.

    Args:
        mask: the problem on one mask.
        signal: X w*, (n,).
        sigma: standard deviation of the noise.
    """
    shift, bound = mask.minimum_norm(signal), noise_term(mask.eigenvalues, sigma)
    return bound + float(shift @ shift), bound


def _proposition_53(
    predict: Callable[..., tuple[float, float]], problem: MaskedRegression, seed: int
) -> Finding:
    """Check the identity with a pseudo-inverse from numpy, then by noise draws, then the bound."""
    mask = problem.draw(seed)
    if mask.top == 0 or problem.sigma == 0:
        note = "lambda_1 = 0" if mask.top == 0 else "no noise: the bound is 0"
        return Finding("vacuous", "E ||w_hat||^2", 0.0, 0.0, note=note)
    predicted, bound = predict(mask, problem.signal, problem.sigma)
    inverse = np.linalg.pinv(mask.columns.T, rcond=np.sqrt(RANK))  # (k, n), another route
    shift = inverse @ problem.signal
    exact = problem.sigma**2 * float((inverse**2).sum()) + float(shift @ shift)
    condition = float(mask.eigenvalues[0] / mask.eigenvalues[-1])
    tolerance = 1e-9 + 100 * EPS * condition
    noise = np.random.default_rng([seed, 6]).standard_normal((DRAWS, problem.n))
    square = inverse.T @ inverse
    targets = problem.signal + problem.sigma * noise
    distances = np.einsum("ti,ij,tj->t", targets, square, targets, optimize=True)
    error = float(distances.std(ddof=1)) / np.sqrt(DRAWS)
    identity = abs(predicted / exact - 1) <= tolerance
    sampled = abs(float(distances.mean()) - predicted) <= SIGMAS * error + tolerance * exact
    below = bound <= exact * (1 + tolerance)
    return Finding(
        "holds" if identity and sampled and below else "violated",
        "E ||w_hat||^2 given M",
        predicted,
        exact,
        ratio(bound, exact),
        samples=DRAWS,
        standard_error=error,
        note=f"bound / identity = {bound / exact:.3g}: the bound drops ||(XM)^+ X w*||^2",
        details={
            "bound of proposition 5.3": bound,
            "signal term": exact - bound,
            "mean over noise draws": float(distances.mean()),
            "identity error": abs(predicted / exact - 1),
        },
    )


def distance_floor(sigma: float, mean_rank: float, p: float, norm2: float) -> float:
    """Return sigma^2 (E rank(XM))^2 / (p ||X||_F^2), below E ||w_hat||^2 over noise and masks.

    Proof. Given M, E ||w_hat||^2 >= sigma^2 sum_{lambda_i>0} 1/lambda_i >= sigma^2 R^2 / T with
    R = rank(XM) and T = sum_i lambda_i, by Cauchy-Schwarz over the R positive eigenvalues. Over
    masks, (E R)^2 = (E (R / sqrt(T)) sqrt(T))^2 <= E(R^2 / T) E T, again by Cauchy-Schwarz, and
    E T = p ||X||_F^2. (R = 0 where T = 0: read 0/0 as 0.) Where rank(XM) = n almost surely this
    is sigma^2 n^2 / (p ||X||_F^2), so the distance grows at least like 1 / sqrt(p).
    """
    return sigma**2 * mean_rank**2 / (p * norm2)


def distance_terms(grams: Array, signal: Array, sigma: float) -> tuple[Array, Array, Array]:
    """Return sigma^2 sum 1/lambda_i, ||(XM)^+ X w*||^2 and rank(XM) of many masks, each (N,).

    The sum of the first two is E ||w_hat||^2 over the noise.

    Args:
        grams: X M X^T of each mask, (N, n, n).
        signal: X w*, (n,).
        sigma: standard deviation of the noise.
    """
    values, vectors = np.linalg.eigh(grams)
    kept = values > RANK * values.max(axis=1, keepdims=True).clip(min=1e-300)
    inverse = np.where(kept, 1 / np.where(kept, values, 1.0), 0.0)
    seen = np.einsum("tij,i->tj", vectors, signal)
    return sigma**2 * inverse.sum(1), (seen**2 * inverse).sum(1), kept.sum(1)


def _corollary(predict: Callable[..., float], problem: MaskedRegression, seed: int) -> Finding:
    """Compare exactly over all masks of a few columns, then over random masks of all columns.

    The few columns decide where 1 / lambda has so heavy a tail that a mean over masks does not.
    """
    if problem.p == 0 or problem.sigma == 0 or problem.moments.top == 0:
        return Finding("vacuous", "E ||w_hat||^2", 0.0, 0.0, note="no mask, noise or features")
    p, sigma = problem.p, problem.sigma
    few = problem.features.take(np.arange(min(ENUMERATED, problem.d)))
    weights, grams = every_mask(few, p)
    noise, shift, ranks = distance_terms(grams, problem.signal, sigma)
    exact, size = float(weights @ (noise + shift)), float((few**2).sum())
    exact_floor = predict(sigma, float(weights @ ranks), p, size) if size > 0 else 0.0

    noise, shift, ranks = distance_terms(problem.grams(MASKS, seed), problem.signal, sigma)
    values = noise + shift
    floor = predict(sigma, float(ranks.mean()), p, float(np.trace(problem.moments.gram)))
    mean, error = float(values.mean()), float(values.std(ddof=1)) / MASKS**0.5
    holds = exact_floor <= exact * (1 + 1e-9) and floor <= mean + SIGMAS * error
    return Finding(
        "holds" if holds else "violated",
        "E ||w_hat||^2 over noise and masks",
        floor,
        mean,
        ratio(floor, mean),
        "Monte Carlo",
        samples=MASKS,
        standard_error=error,
        note=f"mean rank {ranks.mean():.4g} of {problem.n}; over all {len(weights)} masks of "
        f"{len(few)} columns, exactly: {exact_floor:.3g} <= {exact:.3g}",
        details={"mean rank": float(ranks.mean()), "few columns": exact, "floor": exact_floor},
    )


def _filtered(mask: Restricted, eta: float, steps: int) -> tuple[float, float]:
    return mask.filtered(eta, steps)


def steps_needed(mask: Restricted, eta: float, share: float) -> int:
    """Return the first t with L_t - L_inf <= share (L_0 - L_inf) from w_0 = 0, by bisection.

    The excess sum_i (1 - eta lambda_i/n)^(2t) (u_i^T y)^2 falls with t when eta < 2n/lambda_1.
    """
    _, s, u = mask.svd
    seen2 = (u.T @ mask.y) ** 2
    rate = np.abs(1 - eta / mask.n * s**2)

    def excess(t: int) -> float:
        return float((rate ** (2 * t) * seen2).sum())

    low, high = 0, 1
    while excess(high) > share * excess(0):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if excess(middle) > share * excess(0) else (low, middle)
    return high


def _finite_time(
    predict: Callable[..., tuple[float, float]], problem: MaskedRegression, seed: int
) -> Finding:
    """Run gradient descent from 0 and compare; then count steps at a fixed rate as p falls."""
    mask = problem.draw(seed)
    if mask.top == 0 or not problem.y.any():
        return Finding("vacuous", "loss and distance", 0.0, 0.0, note="lambda_1 = 0 or y = 0")
    eta = 0.5 * problem.n / mask.top
    worst, w, limit = 0.0, np.zeros(mask.k), np.linalg.norm(mask.minimum_norm())
    distance = predicted = 0.0
    for before, steps in ((0, 1), (1, 3), (3, 10), (10, 100)):
        w = mask.descend(w, eta, steps - before)
        loss, predicted = predict(mask, eta, steps)
        distance = float(np.linalg.norm(w))
        gap = abs(loss - mask.loss(w)) / mask.loss(np.zeros(mask.k))
        worst = max(worst, gap, abs(predicted - distance) / float(limit))
    counts = _counts_as_p_falls(problem, seed)
    return Finding(
        "holds" if worst <= 1e-9 else "violated",
        "||w_100|| from 0",
        predicted,
        distance,
        ratio(predicted, distance),
        details={"worst relative error of loss and distance": worst, **counts},
        note="steps to halve the excess loss at one rate: "
        + ", ".join(f"{name[6:]}: {count:g}" for name, count in counts.items()),
    )


def _counts_as_p_falls(problem: MaskedRegression, seed: int) -> dict[str, float]:
    """Return the steps to halve the excess loss at eta = n / lambda_1(X^T X), for p, p/2, p/4."""
    counts = {}
    eta = problem.n / problem.moments.top
    for p in (problem.p, problem.p / 2, problem.p / 4):
        smaller = problem.draw(seed, p=p)
        if smaller.top > 0:
            counts[f"steps p={p:.3g}"] = float(steps_needed(smaller, eta, 0.5))
    return counts


CLAIMS = (
    Claim(
        "prop-5.3",
        "E[||w_hat||^2 | M] = sigma^2 sum_{lambda_i>0} 1/lambda_i + ||(XM)^+ X w*||^2 "
        ">= sigma^2 sum_{lambda_i>0} 1/lambda_i",
        "paper 1, proposition 5.3 and the term that its proof drops",
        expected_distance,
        _proposition_53,
    ),
    Claim(
        "cor-distance",
        "E ||w_hat||^2 >= sigma^2 (E rank(XM))^2 / (p ||X||_F^2), "
        "= sigma^2 n^2 / (p ||X||_F^2) at full rank",
        "this project, from proposition 5.3 by Cauchy-Schwarz twice",
        distance_floor,
        _corollary,
    ),
    Claim(
        "finite-time",
        "from w_0 = 0, L_t = (1/2n) sum_i (1-eta lambda_i/n)^(2t) (u_i^T y)^2 + const and "
        "||w_t||^2 = sum_i (1-(1-eta lambda_i/n)^t)^2 (u_i^T y)^2 / lambda_i",
        "this project, from equation 3",
        _filtered,
        _finite_time,
    ),
)
