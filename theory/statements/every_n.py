"""Theorem 5.1 as printed, for any number of samples: refuted in rational arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

from theory.claim import Claim, Finding
from theory.problems import MaskedRegression

Squares = Callable[[int, int, Fraction, Fraction], tuple[Fraction, Fraction]]
LOG_2 = Fraction(6932, 10_000)  # above log 2
SAMPLES = (1, 2, 3, 10, 100, 1000)
RADII = (Fraction(2), Fraction(10))


def printed_squares(
    n: int, d: int, r: Fraction, log_inverse: Fraction
) -> tuple[Fraction, Fraction]:
    """Return the squares of the two terms of theorem 5.1's bound as printed.

    Args:
        n: samples.
        d: features.
        r: largest entry.
        log_inverse: log(1/delta).
    """
    return 8 * d * n**3 * r**4, 2 * log_inverse / (d * n**2 * r**4)


def exceeds(value: Fraction, squares: tuple[Fraction, Fraction]) -> bool:
    """Whether value > sqrt(a) + sqrt(b), exactly, for value > 0 and the squares (a, b).

    >>> exceeds(Fraction(5), (Fraction(4), Fraction(9))), exceeds(Fraction(6), (Fraction(4),) * 2)
    (False, True)
    """
    a, b = squares
    rest = value**2 - a - b
    return rest > 0 and rest**2 > 4 * a * b


def families(n: int) -> Iterator[tuple[int, Fraction]]:
    """Yield (d, r): just above d = 32 n, and far above."""
    for d in (32 * n + 1, 100 * n, 10_000 * n):
        for r in RADII:
            yield d, r


def _every_n(predict: Squares, problem: MaskedRegression, seed: int) -> Finding:
    """Compare what keeping all features or none deviates by with the bound at delta = 2^-d.

    X = r everywhere, p = 1/2: lambda_1 = n r^2 K, K ~ Binomial(d, 1/2), and K is 0 or d with
    probability 2 * 2^-d > delta.
    """
    smallest, where, refuted = float("inf"), "", True
    for n in (*SAMPLES, problem.n):
        for d, r in families(n):
            deviation, squares = n * r**2 * Fraction(d, 2), predict(n, d, r, d * LOG_2)
            refuted = refuted and exceeds(deviation, squares)
            bound = sum(float(square) ** 0.5 for square in squares)
            margin = (float(deviation) - bound) / float(n * r**2)
            if margin < smallest:
                smallest, where = margin, f"n={n}, d={d}, r={r}"
    return Finding(
        "violated" if refuted else "holds",
        "(deviation - bound) / (n r^2), of probability 2^(1-d) > delta = 2^-d",
        0.0,
        smallest,
        None,
        "certificate",
        note=f"least at {where}; exact for n = {', '.join(map(str, SAMPLES))} and {problem.n}, "
        "d from 32 n + 1 to 10,000 n",
    )


CLAIMS = (
    Claim(
        "thm-5.1-every-n",
        "theorem 5.1 as printed is true for some number of samples n, if not for n = 1",
        "for some n, the bound of theorem 5.1 as printed, 2 sqrt(2 d n^3 r^4) + "
        "sqrt(2 log(1/delta)/(d n^2 r^4)), holds for all d, r and delta",
        "paper 1, theorem 5.1 and the last two displays of appendix A.3",
        printed_squares,
        _every_n,
        expected="violated",
        chapter="How far masked eigenvalues are from p times the full ones",
        assumptions=("entries in [0, r]",),
        proof=(
            "For every n, every d > 32 n, p = 1/2 and X = r >= 2 everywhere, keeping all features "
            "or none deviates by n r^2 d / 2. That has probability 2 * 2^-d, and the printed bound "
            "at delta = 2^-d is smaller: its first term by more than n r^2 / 4, which is more than "
            "its second term."
        ),
        measured=(
            "Both sides are compared in rational arithmetic, with log 2 rounded up, for seven n "
            "and three d each. Violated if the deviation is above the bound in all of these cases."
        ),
        rejects=("second term the right way up",),
    ),
)
