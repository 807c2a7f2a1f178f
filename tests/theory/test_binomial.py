"""Binomial tails and intervals against scipy.stats, and against rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from theory.binomial import at_least, at_most, exactly, interval
from theory.certificate import exact_tail

SIZES = [(1, 0.5), (33, 0.5), (400, 0.05), (1000, 0.003), (4000, 0.5), (17, 0.0), (17, 1.0)]


@pytest.mark.parametrize(("n", "p"), SIZES)
def test_tails_and_probabilities_are_those_of_scipy_stats(n: int, p: float) -> None:
    k = np.arange(-2, n + 3)
    assert at_least(k, n, p) == pytest.approx(binom.sf(k - 1, n, p), rel=1e-10, abs=0)
    assert at_most(k, n, p) == pytest.approx(binom.cdf(k, n, p), rel=1e-10, abs=0)
    inside = np.arange(n + 1)
    wanted = binom.pmf(inside, n, p)
    assert exactly(inside, n, p) == pytest.approx(wanted, rel=1e-10, abs=1e-300)


def test_a_tail_of_one_in_four_billion_is_the_rational_one() -> None:
    exact = exact_tail(33, Fraction(1, 2), Fraction(16))
    assert float(at_least(33, 33, 0.5) + at_most(0, 33, 0.5)) == pytest.approx(float(exact))


@pytest.mark.parametrize("samples", [1, 30, 128, 4000])
@pytest.mark.parametrize("confidence", [0.9, 0.99, 1 - 1e-7])
def test_at_the_ends_of_an_interval_so_many_or_so_few_violations_are_just_too_rare(
    samples: int, confidence: float
) -> None:
    miss = (1 - confidence) / 2
    for violations in {0, 1, samples // 3, samples - 1, samples}:
        low, high = interval(violations, samples, confidence)
        assert low == 0 or binom.sf(violations - 1, samples, low) == pytest.approx(miss, rel=1e-8)
        assert high == 1 or binom.cdf(violations, samples, high) == pytest.approx(miss, rel=1e-8)
        assert (low == 0, high == 1) == (violations == 0, violations == samples)
        found = binomtest(violations, samples).proportion_ci(confidence, method="exact")
        assert (low, high) == pytest.approx((found.low, found.high), rel=1e-4, abs=1e-8)
