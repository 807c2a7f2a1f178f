"""The tiled identity: exact failure probabilities, against scipy's binomials and simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from theory import bounds, draw, make_problem, tiled
from theory.certificate import binomial_violation
from theory.spectra import masked_eigenvalues, moments
from theory.statements.floor import distance_floor, floor_excess
from theory.statements.law import distance_interval, law_excess
from theory.statements.lemma import lemma_excess, log_moment_bound
from theory.statements.spectral import bernstein_excess, chernoff_excess, chernoff_interval
from theory.statements.theorem51 import worst_excess

N, DELTA = 64, 0.05


@pytest.mark.parametrize(("m", "p"), [(1, 0.3), (20, 0.5), (400, 0.05), (1000, 0.003)])
def test_binomial_tails_are_scipys(m: int, p: float) -> None:
    for k in (-1.0, 0.0, 0.5, m * p, m * p + 2.5, m - 0.1, float(m), m + 1.0):
        assert tiled.above(k, m, p) == pytest.approx(stats.binom.sf(np.ceil(k) - 1, m, p), rel=1e-9)
        assert tiled.below(k, m, p) == pytest.approx(stats.binom.cdf(k, m, p), rel=1e-9)
        deviation = np.array(abs(k))
        exact = stats.binom.sf(np.floor(m * p + deviation), m, p)
        exact += stats.binom.cdf(np.ceil(m * p - deviation) - 1, m, p)
        assert binomial_violation(m, p, deviation) == pytest.approx(min(exact, 1), rel=1e-9)
    k, weights = tiled.Tiled(3, m, p).weights()
    assert weights == pytest.approx(stats.binom.pmf(k, m, p), rel=1e-9, abs=1e-300)


def test_the_eigenvalues_of_tiled_features_are_independent_binomials() -> None:
    x, count = tiled.Tiled(4, 50, 0.3), 4000
    features = draw("tiled", 4, 200)
    values = masked_eigenvalues(features, 0.3, count, seed=1)
    assert np.array_equal(values, np.round(values))
    for exact, seen in (
        (x.top_reaches(19), values[:, 0] >= 19),
        (x.top_at_most(16), values[:, 0] <= 16),
        (x.bottom_at_most(10), values[:, -1] <= 10),
        (x.norm_reaches(5), np.abs(values - 15).max(1) >= 5),
    ):
        assert abs(seen.mean() - exact) <= 5 * (exact * (1 - exact) / count) ** 0.5
    found, known = moments(features), x.moments
    for name in ("gram", "weighted", "max_norm2", "sum_norm4", "sum_norm8", "max_abs"):
        assert np.array_equal(getattr(found, name), getattr(known, name)), name


def test_bernstein_without_its_dimension_fails_with_the_known_probability() -> None:
    """m = 200, p = 1/2, n = 64: without n 0.306, without 2n 0.571, where 0.05 is allowed."""
    x = tiled.Tiled(N, 200, 0.5)
    for factor, exact in ((2, 0.306), (1, 0.571)):
        t = bounds.bernstein(x.moments, 0.5, 2 * N / factor * DELTA)
        one = stats.binom.sf(np.ceil(100 + t) - 1, 200, 0.5) + stats.binom.cdf(100 - t, 200, 0.5)
        assert x.norm_reaches(t) == pytest.approx(1 - (1 - one) ** N, rel=1e-9)
        assert x.norm_reaches(t) == pytest.approx(exact, abs=5e-4)


def test_chernoff_without_its_dimension_fails_with_the_known_probabilities() -> None:
    """m = 400, p = 0.05, n = 64: upper 0.124 where 0.025 is allowed, lower 0.454."""
    x, mean = tiled.Tiled(N, 400, 0.05), 20.0
    high = mean * bounds.chernoff_upper(mean, 1.0, DELTA / 2, 1)
    assert x.top_reaches(high) == pytest.approx(0.124, abs=5e-4)
    low = mean * bounds.chernoff_lower(mean, 1.0, DELTA, 1)
    assert x.bottom_at_most(low) == pytest.approx(0.454, abs=5e-4)
    half = chernoff_interval(replace(x.moments, max_norm2=0.5), 0.05, DELTA)
    assert x.top_reaches(half.top_high) == pytest.approx(0.124, abs=5e-4)


def test_the_true_formulas_are_never_refuted() -> None:
    for excess in (
        worst_excess(bounds.theorem_51_corrected),
        bernstein_excess(bounds.bernstein),
        chernoff_excess(chernoff_interval),
        law_excess(distance_interval),
        floor_excess(distance_floor),
    ):
        assert not excess.refutes, excess
    assert lemma_excess(log_moment_bound) <= 1


def test_the_floor_of_the_distance_is_nearly_attained() -> None:
    """E 1/K over Binomial(4000, 1/2) is 1/(p m) up to 1/(p m)^2."""
    assert floor_excess(distance_floor).factor == pytest.approx(1, abs=1e-3)


def test_a_refutation_says_on_which_instance_and_how_often() -> None:
    excess = bernstein_excess(lambda m, p, delta: 0.5 * bounds.bernstein(m, p, delta))
    assert excess.refutes
    assert excess.where.startswith("X=[I .. I], n=")
    assert "fails with probability" in excess.where


def test_tiled_features_need_no_multiple_of_n() -> None:
    x = make_problem("tiled", n=3, d=7, p=0.5).features.columns()
    assert x.sum(0).tolist() == [3, 2, 2]
