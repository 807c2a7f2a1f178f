"""ID3 (paper 2): what its heuristic says about the Fisher information, and what it does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache

import numpy as np

from theory.claim import Claim, Finding, ratio
from theory.features import Array
from theory.information import Coin, diagonal_information, location_moments
from theory.problems import MaskedRegression

CHAPTER = "ID3"
EXPONENTS_ANY = (-1.0, 0.0, 0.5, 1.0, 2.0)
EXPONENTS_TRUE = (0.0, 0.5, 1.0, 2.0)
EPSILONS = (1.0, 1.5, 3.0)
FAIR = Coin(1, Fraction(1, 2), Fraction(1, 3))  # both scores have the same size
#: eps, exp, the parameters: of the first two H and I agree, of the last they do not
RANKED: tuple[tuple[int, int, tuple[Coin, Coin]], ...] = (
    (1, 0, (Coin(0, Fraction(1, 2), 1), Coin(9, Fraction(1, 2), 2))),
    (1, 2, (Coin(0, Fraction(1, 2), 1), Coin(0, Fraction(1, 2), 3))),
    (1, 2, (Coin(0, Fraction(1, 2), Fraction(1, 4)), Coin(9, Fraction(1, 2), 20))),
)


def heuristic_factor(theta: Array, eps: float, exponent: float) -> Array:
    """Return 1 / (|theta| + eps)^exp, the factor of |g| in paper 2's H."""
    return np.asarray((np.abs(theta) + eps) ** -exponent)


@cache
def shares() -> dict[str, float]:
    """Return E |score| / sqrt(I) of a fair coin, exactly 1, and of Gaussian noise, computed."""
    mean, information = location_moments(lambda y: -(y**2) / 2)
    coin = float(FAIR.mean_score) / math.sqrt(FAIR.information)
    return {"fair coin": coin, "Gaussian": mean / math.sqrt(information)}


def _compare(
    factor: Callable[[Array, float, float], Array],
    problem: MaskedRegression,
    exponents: tuple[float, ...],
) -> Finding:
    """Compare E H with sqrt(I) of models whose information is computed, at the instance's weights.

    A fair coin has |score| constant, so E|score| = sqrt(I): the case of equality in Jensen's
    inequality, where only the factor decides.
    """
    theta = problem.truth[: min(problem.d, 4096)]
    worst, at = 0.0, (math.nan, math.nan, math.nan, "")
    for exponent in exponents:
        for eps in EPSILONS:
            values = factor(theta, eps, exponent)
            index = int(values.argmax())
            for family, share in shares().items():
                if share * values[index] > worst:
                    worst = share * float(values[index])
                    at = (exponent, eps, float(theta[index]), family)
    exponent, eps, value, family = at
    return Finding(
        "violated" if worst > 1 + 1e-12 else "holds",
        "E H / sqrt(I), worst case",
        1.0,
        worst,
        ratio(1.0, worst),
        note=f"score of a {family} model, exp = {exponent:g}, eps = {eps:g}, theta = {value:.3g}",
        details={"exp": exponent, "eps": eps, "theta": value},
    )


def _printed(predict: Callable[..., Array], problem: MaskedRegression, seed: int) -> Finding:
    """Refute by one coin in rational arithmetic, then look at the instance's weights."""
    finding = _compare(predict, problem, EXPONENTS_ANY)
    factor = float(predict(np.array([float(FAIR.theta)]), 1.0, -1.0)[0])
    exact = FAIR.heuristic(1, -1) ** 2 > FAIR.information
    if finding.verdict == "violated" and (factor != 2.0 or not exact):
        return Finding("holds", finding.quantity, 1.0, factor)
    return finding


def _restricted(predict: Callable[..., Array], problem: MaskedRegression, seed: int) -> Finding:
    return _compare(predict, problem, EXPONENTS_TRUE)


def most_important(heuristics: Sequence[Fraction], information: Sequence[Fraction]) -> int:
    """Return which parameter paper 2 takes for the most informative: the one of largest E H."""
    return max(range(len(heuristics)), key=heuristics.__getitem__)


def _importance(
    predict: Callable[[Sequence[Fraction], Sequence[Fraction]], int],
    problem: MaskedRegression,
    seed: int,
) -> Finding:
    worst, note = Fraction(1), ""
    for eps, exponent, coins in RANKED:
        heuristics = [coin.heuristic(eps, exponent) for coin in coins]
        information = diagonal_information(coins)
        chosen = information[predict(heuristics, information)]
        if max(information) / chosen > worst:
            worst = max(information) / chosen
            note = f"exp = {exponent}, eps = {eps}: " + ", ".join(
                f"theta = {coin.theta}, E H = {h}, I = {i}"
                for coin, h, i in zip(coins, heuristics, information, strict=True)
            )
    return Finding(
        "violated" if worst > 1 else "holds",
        "largest information over that of the parameter with the largest E H",
        1.0,
        float(worst),
        float(1 / worst),
        "certificate",
        note=note or f"{len(RANKED)} models of two coins, exactly",
    )


H = "H = |g| / (|theta| + eps)^exp"
CLAIMS = (
    Claim(
        "id3-thm-1",
        "sqrt(I(theta)) >= E H(theta), H = |g| / (|theta| + eps)^exp, for eps >= 1 and every exp",
        f"sqrt(I(theta)) >= E H(theta), {H}, for all eps >= 1 and all exp in [-inf, inf]",
        "paper 2, theorem 1 (it names no condition on exp) and equation 1 (its range)",
        heuristic_factor,
        _printed,
        expected="violated",
        chapter=CHAPTER,
        assumptions=("eps >= 1",),
        proof="The last step of its proof needs (|theta| + eps)^exp >= 1, so exp >= 0. At exp = -1 "
        "a fair coin, whose score has constant size, has E H = (|theta| + eps) sqrt(I). No such "
        "model is needed: a Gaussian one fails from |theta| + eps > sqrt(pi/2) = 1.2533 on.",
        measured="E H and the Fisher information of a coin (rational) and of Gaussian noise (from "
        "its density, on a grid), at weights of the instance, five exponents and three eps. "
        "Violated if E H is above sqrt(I) anywhere.",
        rejects=("absolute value of the exponent",),
    ),
    Claim(
        "id3-thm-1-corrected",
        "sqrt(I(theta)) >= E H(theta) for eps >= 1 and exp >= 0",
        f"sqrt(I(theta)) >= E H(theta), {H}, for eps >= 1 and exp >= 0",
        "paper 2, theorem 1 with the condition that its last step needs",
        heuristic_factor,
        _restricted,
        chapter=CHAPTER,
        assumptions=("eps >= 1", "exp >= 0"),
        proof="sqrt(E g^2) >= E |g| by Jensen's inequality, and (|theta| + eps)^exp >= 1.",
        measured="As for id3-thm-1, over the exponents from 0 to 2.",
        rejects=("eps forgotten", "sign of the exponent"),
    ),
    Claim(
        "id3-importance",
        "the parameter with the largest H has the largest Fisher information",
        f"parameters with the largest {H} have the largest Fisher information",
        "paper 2, section 3.1, the sentence after the proof of theorem 1",
        most_important,
        _importance,
        expected="violated",
        chapter=CHAPTER,
        assumptions=("eps >= 1", "exp >= 0"),
        proof="Theorem 1 bounds E H from above by sqrt(I); an upper bound orders nothing, because "
        "a large I may belong to a small H. At exp = 2, eps = 1 a coin with theta = 0, I = 1/4 has "
        "E H = 1/2, one with theta = 9, I = 1600 has E H = 2/5. With exp = 0, or where all |theta| "
        "are equal and scores have one shape, the two orders agree.",
        measured="Fisher information and E H of two coins are computed in rational arithmetic from "
        "their scores. Violated if the coin that H chooses has less information than the other.",
        rejects=("order by the information itself",),
    ),
)
