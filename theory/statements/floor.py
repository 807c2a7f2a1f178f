"""A floor under the mean square distance over masks, from the rank that they keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

from theory import tiled
from theory.claim import Claim, Finding, Verdict, clopper_pearson, ratio
from theory.features import Array
from theory.problems import MaskedRegression
from theory.spectra import ENUMERATED, every_mask
from theory.statements.distance import SIGMAS, distance_terms, sampled_terms

MASKS = 256
FEWEST = 30  # non-empty masks below which a mean over masks decides nothing
CERTAINTY = 1e-6  # chance that the bound on the mean rank is above it


def distance_floor(sigma: float, mean_rank: float, p: float, norm2: float) -> float:
    """Return sigma^2 (E rank(XM))^2 / (p ||X||_F^2), below E ||w_hat||^2 over noise and masks.

    Proof. Given M, E ||w_hat||^2 >= sigma^2 sum_{lambda_i>0} 1/lambda_i >= sigma^2 R^2 / T with
    R = rank(XM) and T = sum_i lambda_i, by Cauchy-Schwarz over the R positive eigenvalues. Over
    masks, (E R)^2 = (E (R / sqrt(T)) sqrt(T))^2 <= E(R^2 / T) E T, again by Cauchy-Schwarz, and
    E T = p ||X||_F^2. (R = 0 where T = 0: read 0/0 as 0.) It is at least
    sigma^2 n^2 P(rank(XM) = n)^2 / (p ||X||_F^2): while masks keep the rank, the distance grows at
    least like 1 / sqrt(p).
    """
    return sigma**2 * mean_rank**2 / (p * norm2)


def mean_rank_at_least(ranks: Array, n: int) -> float:
    """Return a number below E rank(XM) with probability 1 - ``CERTAINTY``, from a sample.

    E rank = sum_{r=1}^n P(rank >= r); each probability by its Clopper-Pearson lower end.
    """
    confidence = 1 - 2 * CERTAINTY / n
    counts = [int((ranks >= r).sum()) for r in range(1, n + 1)]
    return sum(clopper_pearson(c, len(ranks), confidence)[0] for c in counts)


@cache
def floor_excess(predict: Callable[..., float]) -> tiled.Excess:
    """Compare the floor with the exact E ||w_hat||^2 = n E[1/K; K > 0] on tiled identities."""
    return tiled.worst(_floor_cases(predict))


def _floor_cases(predict: Callable[..., float]) -> Iterator[tuple[float, float, str]]:
    for x in dict.fromkeys(x for x, _ in tiled.instances()):
        k, weights = x.weights()
        exact = x.n * float((weights[1:] / k[1:]).sum())
        mean_rank = x.n * (1 - float(weights[0]))
        yield predict(1.0, mean_rank, x.p, float(x.n * x.copies)), exact, f"{x.name}, floor"


def _corollary(predict: Callable[..., float], problem: MaskedRegression, seed: int) -> Finding:
    """Compare exactly over all masks of a few columns, then over random masks of all columns.

    The few columns decide where 1 / lambda has so heavy a tail that a mean over masks does not.
    The mean rank of the random masks is itself a sample: the floor takes what it is at least.
    """
    quantity = "E ||w_hat||^2 over noise and masks"
    if problem.p == 0 or problem.sigma == 0 or problem.moments.top == 0:
        return Finding("vacuous", quantity, 0.0, 0.0, note="no mask, noise or features")
    excess = floor_excess(predict)
    if excess.refutes:
        return excess.finding(quantity)
    p, sigma, size = problem.p, problem.sigma, float(np.trace(problem.moments.gram))
    few = problem.features.take(np.arange(min(ENUMERATED, problem.d)))
    weights, kept = every_mask(few, p)
    noise, shift, ranks = distance_terms(kept, problem.signal, sigma)
    exact, few_size = float(weights @ (noise + shift)), float((few**2).sum())
    exact_floor = predict(sigma, float(weights @ ranks), p, few_size) if few_size > 0 else 0.0

    noise, shift, ranks = sampled_terms(problem, MASKS, seed)
    values, mean_rank = noise + shift, float(ranks.mean())
    least = mean_rank_at_least(ranks, problem.n) if p < 1 else mean_rank
    scale = float(values.max()) or 1.0  # squares of distances may leave float64
    error = scale * float((values / scale).std(ddof=1)) / MASKS**0.5
    mean, seen = float(values.mean()), int((ranks > 0).sum())
    below = predict(sigma, least, p, size) <= (mean + SIGMAS * error) * (1 + 1e-9)
    verdict: Verdict = "holds"
    if exact_floor > exact * (1 + 1e-9) or (seen >= FEWEST and not below):
        verdict = "violated"
    elif seen < FEWEST:
        verdict = "unsettled"
    few_note = f"all {len(weights)} masks of {len(few)} columns, exactly: "
    few_note += f"{exact_floor:.3g} <= {exact:.3g}"
    notes = {
        "holds": f"mean rank {mean_rank:.4g} of {problem.n}; {few_note}",
        "violated": few_note.replace("<=", "against"),
        "unsettled": f"only {seen} of {MASKS} masks keep anything; {few_note}",
    }
    floor = predict(sigma, mean_rank, p, size)
    return Finding(
        verdict,
        quantity,
        floor,
        mean,
        ratio(floor, mean),
        "Monte Carlo",
        samples=MASKS,
        standard_error=error,
        note=notes[verdict],
        details={
            "mean rank": mean_rank,
            "mean rank at least": least,
            "few columns": exact,
            "floor of the few columns": exact_floor,
            "floor / exact on tiled identities": excess.factor,
        },
    )


CLAIMS = (
    Claim(
        "cor-distance",
        "E ||w_hat||^2 >= sigma^2 (E rank(XM))^2 / (p ||X||_F^2)",
        "E ||w_hat||^2 >= sigma^2 (E rank(XM))^2 / (p ||X||_F^2), "
        "at least sigma^2 n^2 P(rank(XM) = n)^2 / (p ||X||_F^2)",
        "this project, from proposition 5.3 by Cauchy-Schwarz twice",
        distance_floor,
        _corollary,
        chapter="Distance to initialisation",
        assumptions=("noise of variance sigma^2, independent of X",),
        proof=(
            "Cauchy-Schwarz over the eigenvalues given the mask, and again over masks, with E "
            "sum_i lambda_i = p ||X||_F^2."
        ),
        measured=(
            "Exactly over all masks of ten columns and on tiled identities, then by 256 masks "
            "with the error of the mean and of the mean rank."
        ),
        rejects=("1 % too high", "mean column in place of the Frobenius norm"),
    ),
)
