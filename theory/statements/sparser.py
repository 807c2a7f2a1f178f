"""Whether a smaller p means a more distant solution: not below about p d = n."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import numpy as np

from theory.claim import Claim, Finding
from theory.problems import MaskedRegression
from theory.spectra import ENUMERATED, every_mask
from theory.statements.distance import distance_terms

COPIES = 100  # d = 100 n
SHARES = (Fraction(1), Fraction(1, 4), Fraction(1, 10), Fraction(1, 25), Fraction(1, 1000))


@cache
def mean_reciprocal(copies: int, p: Fraction) -> Fraction:
    """Return E[1/K; K > 0] for K ~ Binomial(copies, p), exactly.

    >>> mean_reciprocal(2, Fraction(1, 2))
    Fraction(5, 8)
    """
    return sum(
        (
            math.comb(copies, k) * p**k * (1 - p) ** (copies - k) / k
            for k in range(1, copies + 1)
        ),
        Fraction(0),
    )  # fmt: skip


def least_growth(copies: int, p: Fraction) -> int:
    """Return what E ||w_hat||^2 at p/2 over that at p is at least, if sparser means farther: 1."""
    return 1


def _sparser(
    predict: Callable[[int, Fraction], int], problem: MaskedRegression, seed: int
) -> Finding:
    """Compare on X = [I .. I], 100 copies: E ||w_hat||^2 = (n sigma^2 + ||X w*||^2) E[1/K; K > 0].

    On top of it, over all masks of ten columns of the instance, as a remark.
    """
    growths = {
        p: mean_reciprocal(COPIES, p / 2) / mean_reciprocal(COPIES, p) for p in SHARES
    }  # fmt: skip
    gap = {p: growth - predict(COPIES, p) for p, growth in growths.items()}
    p = min(gap, key=lambda share: gap[share])
    broken = gap[p] < 0
    grown = ", ".join(f"{float(growths[s]):.2f} at p d = {float(100 * s):g} n" for s in SHARES[:4])
    return Finding(
        "violated" if broken else "holds",
        f"E ||w_hat||^2 at p/2 over that at p, p = {float(p):g}, d = 100 n",
        float(predict(COPIES, p)),
        float(growths[p]),
        None,
        "certificate",
        note=f"X = [I .. I], any n, exactly; {grown}; {_ten_columns(problem)}",
    )


def _ten_columns(problem: MaskedRegression) -> str:
    """Return the same for all masks of a few columns of the instance, in words."""
    few = problem.features.take(np.arange(min(ENUMERATED, problem.d)))
    means = []
    for p in (0.02, 0.01):
        weights, kept = every_mask(few, p)
        with np.errstate(all="ignore"):  # a remark: beyond float64 it says inf
            noise, shift, _ = distance_terms(kept, problem.signal, problem.sigma)
            means.append(float(weights @ (noise + shift)))
    where = f"of {len(few)} columns of {problem.name}"
    return f"{where}: {means[0]:.3g} at p = 0.02, {means[1]:.3g} at 0.01"


CLAIMS = (
    Claim(
        "sparser-is-farther",
        "the smaller p, the more distant is the solution of gradient descent",
        "E ||w_hat||^2 over noise and masks grows as p gets smaller",
        "paper 1, section 5.3, the sentence after proposition 5.3",
        least_growth,
        _sparser,
        expected="violated",
        chapter="Distance to initialisation",
        assumptions=("d >> n",),
        proof=(
            "The empty mask leaves w at 0, and its probability (1 - p)^d tends to 1 as p falls: "
            "below about p d = n the mean distance falls with p, to 0. Above, claims cor-distance "
            "and distance-law are the true versions; for nested masks that still fit the data it "
            "is true whatever p."
        ),
        measured=(
            "On X = [I .. I] with d = 100 n, where the mean is a binomial sum, in rational "
            "arithmetic for five p and their halves. Violated if one half is nearer."
        ),
        rejects=("only where p d is at least 4 n",),
    ),
)
