"""Bounds and exact probabilities against a second route: scipy's tails and mpmath."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from oracles import theory as oracle
from scipy import stats

from landscape.errors import UserError
from theory import DISTRIBUTIONS, bounds, certify, make_problem
from theory.certificate import binomial_violation, exact_tail
from theory.claim import CONFIDENCE, clopper_pearson, judge_probability, sample_size
from theory.statements.lemma import log_moment
from theory.statements.net import (
    RADIUS,
    covering_radius,
    fewest_points,
    gap_net,
    shrinkage,
    sphere_net,
)
from theory.statements.spectral import chernoff_interval

TIGHT = 1e-12  # two routes in float64, a few dozen operations each


def test_the_printed_theorem_fails_with_the_probability_that_all_or_no_features_are_kept() -> None:
    certificate = certify(bounds.theorem_51_printed(1, 33, 2.0, 1e-10))
    assert certificate.probability == Fraction(2, 2**33)
    tail = stats.binom.pmf(0, 33, 0.5) + stats.binom.sf(32, 33, 0.5)
    assert float(certificate.probability) == pytest.approx(tail, rel=TIGHT)
    assert certificate.refutes
    assert certificate.bound < 4 * 16.5  # what keeping all or none deviates by


def test_the_corrected_theorem_passes_where_the_printed_one_fails() -> None:
    assert not certify(bounds.theorem_51_corrected(1, 33, 2.0, 1e-10)).refutes


def test_the_printed_bound_crosses_the_exact_tail_as_the_features_grow() -> None:
    """Its second term is r^-4 of the eigenvalue, r^2 Bin(d, p): only a small r leaves room."""
    refuted = [
        certify(bounds.theorem_51_printed(1, 33, r, 1e-10), r=r).refutes for r in (0.1, 2.0, 100.0)
    ]
    assert refuted == [False, True, True]


@pytest.mark.parametrize(
    ("d", "p"), [(1, Fraction(1, 3)), (33, Fraction(1, 2)), (400, Fraction(1, 7))]
)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.31, 0.6, 1.0])
def test_the_rational_tail_equals_mpmath_and_scipy(d: int, p: Fraction, share: float) -> None:
    deviation = Fraction(share) * d + Fraction(1, 1000)  # off the lattice, where > and >= agree
    exact = exact_tail(d, p, deviation)
    slow = oracle.binomial_tail(d, p, float(deviation))
    assert float(exact) == pytest.approx(float(slow), rel=TIGHT, abs=1e-300)
    quick = float(binomial_violation(d, float(p), np.array(float(deviation))))
    # scipy's incomplete beta function loses digits deep in the tail: 1e-9 seen at 1e-200
    assert quick == pytest.approx(float(exact), rel=1e-8, abs=1e-250)


def test_no_deviation_is_allowed_nothing_and_an_infinite_one_everything() -> None:
    assert exact_tail(7, Fraction(1, 2), Fraction(-1)) == 1
    assert certify(math.inf).probability == 0


@pytest.mark.parametrize("bad", [{"d": 0}, {"r": 0.0}, {"p": Fraction(3, 2)}, {"delta": 1.0}])
def test_a_certificate_out_of_range_is_refused_with_a_sentence(bad: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"to be a (whole|finite) number"):
        certify(1.0, **bad)


@pytest.mark.parametrize(
    ("n", "d", "r", "delta", "head", "printed", "corrected"),
    # in whole numbers and roots: 2 sqrt(2 d n^3 r^4), then the two second terms, by hand
    [
        (2, 9, 1.0, math.exp(-2), 24.0, math.sqrt(4 / 36), math.sqrt(144)),
        (3, 50, 2.0, math.exp(-4.5), 240 * math.sqrt(3), math.sqrt(9 / 7200), math.sqrt(64_800)),
    ],
)
def test_both_forms_of_the_theorem_are_their_formulas(
    n, d, r, delta, head, printed, corrected
) -> None:
    found = bounds.theorem_51_printed(n, d, r, delta), bounds.theorem_51_corrected(n, d, r, delta)
    assert found == pytest.approx((head + printed, head + corrected), rel=1e-12)


@pytest.mark.parametrize("scale", [0.5, 3.0, 20.0])
def test_only_the_corrected_bound_scales_like_the_eigenvalues(scale: float) -> None:
    n, d, delta = 3, 50, 0.01
    corrected = [bounds.theorem_51_corrected(n, d, r, delta) for r in (1.0, scale)]
    assert corrected[1] == pytest.approx(scale**2 * corrected[0], rel=TIGHT)
    head = 2 * math.sqrt(2 * d * n**3)
    tails = [bounds.theorem_51_printed(n, d, r, delta) - r**2 * head for r in (1.0, scale)]
    assert tails[1] == pytest.approx(tails[0] / scale**2, rel=1e-6)  # cancels at large r


def test_the_corrected_second_term_inverts_the_last_tail_of_the_proof() -> None:
    n, d, r, delta = 5, 70, 1.7, 1e-3
    t = bounds.theorem_51_corrected(n, d, r, delta) - 2 * math.sqrt(2 * d * n**3 * r**4)
    assert math.exp(-(t**2) / (2 * d * n**2 * r**4)) == pytest.approx(delta, rel=1e-10)


@pytest.mark.parametrize("features", DISTRIBUTIONS)
@pytest.mark.parametrize("p", [0.01, 0.5, 0.97])
def test_bernstein_inverts_the_tail_computed_from_dense_matrices(features: str, p: float) -> None:
    problem = make_problem(features, n=5, d=60, p=p, seed=2)
    t = bounds.bernstein(problem.moments, p, 0.03)
    x = problem.features.columns().T
    assert t > 0  # the equation has a negative root too
    assert oracle.bernstein_tail(x, p, t) == pytest.approx(0.03, rel=1e-9)


@pytest.mark.parametrize("ratio", [0.3, 4.0, 300.0])
@pytest.mark.parametrize("delta", [0.2, 1e-9])
def test_chernoff_inverts_both_tails(ratio: float, delta: float) -> None:
    above = bounds.chernoff_upper(ratio, 1.0, delta, 7)
    assert above > 1
    assert oracle.chernoff_tail(above - 1, ratio, 7) == pytest.approx(delta, rel=1e-6)
    below = bounds.chernoff_lower(ratio, 1.0, delta, 7)
    if below > 0:
        assert oracle.chernoff_tail(below - 1, ratio, 7) == pytest.approx(delta, rel=1e-6)
    else:  # not even an eigenvalue of 0 is that unlikely
        assert 7 * math.exp(-ratio) > delta * (1 - 1e-9)


def test_chernoff_depends_on_the_mean_over_the_largest_alone_and_says_nothing_beyond_one() -> None:
    for bound in (bounds.chernoff_upper, bounds.chernoff_lower):
        assert bound(0.25, 2.0**-6, 0.2, 7) == bound(16.0, 1.0, 0.2, 7)
    assert bounds.chernoff_lower(16.0, 1.0, 0.2, 7) > 0
    # not even an eigenvalue of 0 is as unlikely as e^-1.5 of a mean of 1
    assert bounds.chernoff_lower(1.0, 1.0, math.exp(-1.5), 1) == 0.0
    assert bounds.chernoff_lower(0.0, 1.0, 0.2, 7) == 0.0


def test_the_largest_stable_step_lies_in_the_chernoff_interval_of_a_binomial() -> None:
    """n = 1, X = (1, .., 1): lambda_1 is Binomial(d, p), whose quantiles scipy knows exactly."""
    d, p, delta = 2000, 0.1, 0.01
    interval = chernoff_interval(make_problem(np.ones((1, d)), p=p).moments, p, delta)
    assert stats.binom.sf(interval.top_high, d, p) <= delta / 2
    assert stats.binom.cdf(interval.top_low, d, p) <= delta / 2
    assert 0 < interval.top_low < p * d < interval.top_high < 2 * p * d


@pytest.mark.parametrize("p", [0.0, 1e-9, 0.2, 0.5, 0.999, 1.0])
def test_the_log_moment_equals_its_product_in_high_precision(p: float) -> None:
    a = np.random.default_rng(0).random(30) * 3
    for t in (-40.0, -1.0, -1e-3, 1e-3, 1.0, 40.0):
        exact = oracle.log_moment(t, p, a)
        # cancellation: each factor is computed to eps |t a_j|
        assert log_moment(t, p, a) == pytest.approx(exact, abs=1e-14 * abs(t) * a.sum() + 1e-15)


def test_a_finer_net_covers_better_and_a_coarser_one_than_an_eighth_does_not_do() -> None:
    for n in (2, 3):
        assert covering_radius(n) <= RADIUS
        assert covering_radius(n, RADIUS / 2) <= RADIUS / 2
        assert covering_radius(n, 4 * RADIUS) > RADIUS
    with pytest.raises(ValueError, match="1, 2, 3"):
        sphere_net(4)


@pytest.mark.parametrize("n", [2, 3])
def test_the_exact_covering_radius_is_what_many_random_points_come_close_to(n: int) -> None:
    points = np.random.default_rng(n).standard_normal((40_000, n))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    nearest = np.abs(points @ sphere_net(n).T).max(axis=1)
    seen = float(np.sqrt(2 - 2 * nearest.min()))
    assert seen <= covering_radius(n) * (1 + 1e-9)
    assert seen == pytest.approx(covering_radius(n), rel=0.02)


def test_the_worst_net_of_the_circle_attains_its_closed_form() -> None:
    e = RADIUS
    assert shrinkage(*gap_net()) == pytest.approx(1 / (1 - 2 * e**2 + e**4 / 2), rel=1e-12)
    angles = np.sort(np.arctan2(*gap_net()[0].T[::-1]))
    gaps = np.diff(np.append(angles, angles[0] + np.pi))
    assert 2 * np.sin(gaps.max() / 4) <= e * (1 + 1e-12)  # every point is within e of the net


def test_no_net_of_the_circle_has_fewer_points_than_equal_arcs() -> None:
    assert [fewest_points(n) for n in (1, 2)] == [2, 26] == [2 * len(sphere_net(n)) for n in (1, 2)]


@pytest.mark.parametrize(("broken", "count"), [(0, 10), (3, 128), (64, 128), (128, 128)])
def test_the_interval_of_a_probability_is_scipys_exact_one(broken: int, count: int) -> None:
    exact = stats.binomtest(broken, count).proportion_ci(CONFIDENCE, method="exact")
    assert clopper_pearson(broken, count) == pytest.approx((exact.low, exact.high), abs=TIGHT)


def test_a_failure_rate_is_rejected_only_when_the_whole_interval_is_above_delta() -> None:
    assert judge_probability(5, 100, 0.05)[0] == "unsettled"
    assert judge_probability(5, 400, 0.05)[0] == "holds"
    assert judge_probability(30, 100, 0.05)[0] == "violated"
    verdict, note = judge_probability(0, 10, 0.05)
    assert (verdict, "does not settle" in note) == ("unsettled", True)


def test_no_failure_in_128_masks_settles_5_percent_and_not_the_half_of_it() -> None:
    """0 of 128 has the upper limit 1 - 0.005^(1/128) = 0.041."""
    assert [judge_probability(0, 128, level)[0] for level in (0.05, 0.025)] == [
        "holds",
        "unsettled",
    ]


@pytest.mark.parametrize("delta", [0.2, 0.05, 0.01, 2e-3])
def test_the_sample_size_settles_delta_when_no_mask_fails(delta: float) -> None:
    count = sample_size(delta)
    assert clopper_pearson(0, count)[1] <= delta
    assert count == 128 or clopper_pearson(0, count - 1)[1] > delta


@pytest.mark.parametrize("n", [1, 2, 3, 10, 30])
def test_the_printed_theorem_is_false_for_every_number_of_samples(n: int) -> None:
    """X = 2 everywhere, d = 32n + 1, p = 1/2: keeping all or none, 2 2^-d, breaks it."""
    d, r = 32 * n + 1, 2.0
    delta = 2.0 ** (-32 * n)
    bound = bounds.theorem_51_printed(n, d, r, delta / 2)
    assert n * r**2 * d / 2 > bound  # lambda_1 = n r^2 Binomial(d, p)
    assert Fraction(2, 2**d) == Fraction(delta) > Fraction(delta / 2)
    head = 2 * math.sqrt(2 * d * n**3 * r**4)
    assert n * r**2 * d / 2 - head > 0.24 * n * r**2
