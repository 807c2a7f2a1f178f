"""What the papers print beside their theorems, against hand forms and dense algebra."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from oracles import theory as oracle
from scipy import stats

from theory import bounds, draw, from_array, make_problem, memory
from theory.information import Coin, location_moments
from theory.problems import needed_bytes
from theory.statements.contraction import dot, pseudo_inverse_solution, step, whole
from theory.statements.every_n import LOG_2, exceeds, printed_squares
from theory.statements.prose import by_the_trace, crossing, needed_columns
from theory.statements.sparser import mean_reciprocal
from theory.statements.updates import count_updates, printed_sums
from theory.statements.work import work_of
from theory.suite import claim

HALF = Fraction(1, 2)


@pytest.mark.parametrize("n", [1, 3, 10, 400])
def test_the_printed_bound_is_below_what_all_or_no_features_deviate_by_in_60_digits(n: int) -> None:
    with localcontext(prec=60):
        for d, r in product((32 * n + 1, 50 * n, 10**4 * n), (2, 7)):
            log = d * Decimal(2).ln()
            head = 2 * (Decimal(2 * d * n**3 * r**4)).sqrt()
            tail = (2 * log / (d * n**2 * r**4)).sqrt()
            assert Decimal(n * r**2 * d) / 2 > head + tail
            assert exceeds(Fraction(n * r**2 * d, 2), printed_squares(n, d, Fraction(r), d * LOG_2))
    assert math.log(2) < LOG_2 < 0.6932001


def test_at_32_features_a_sample_keeping_all_or_none_is_allowed() -> None:
    n, d = 5, 160
    assert not exceeds(Fraction(n * 4 * d, 2), printed_squares(n, d, Fraction(2), d * LOG_2))


def test_the_squares_are_those_of_the_bound_in_float64() -> None:
    a, b = printed_squares(3, 50, Fraction(2), Fraction(9, 2))
    assert float(a) ** 0.5 + float(b) ** 0.5 == pytest.approx(
        bounds.theorem_51_printed(3, 50, 2.0, math.exp(-4.5)), rel=1e-14
    )


@pytest.mark.parametrize(("d", "p"), [(6, 0.3), (9, 0.5)])
def test_the_second_eigenvalue_of_two_directions_is_one_mask_bit(d: int, p: float) -> None:
    """All masks of d - 1 columns (1, 0) and one (0, 1): the trace is d, lambda_2 is 0 or 1."""
    x = np.zeros((2, d))
    x[0, :-1] = x[1, -1] = 1
    assert np.trace(x @ x.T) == d
    for bits in product((0, 1), repeat=d):
        second = np.linalg.eigvalsh(x @ np.diag(bits) @ x.T)[0]
        assert second == (bits[-1] if any(bits[:-1]) else 0)
    assert by_the_trace(5.0, np.array([d - 1.0, 1.0]), p)[1] == pytest.approx(5 / (p * d))


def test_needed_columns_are_72_and_1152_for_one_sample_and_those_of_the_bisection() -> None:
    assert needed_columns(1, 1.0) == pytest.approx((72, 1152))  # 128 / (4/3)^2
    assert needed_columns(2, 0.5)[1] == 1152 * 8 * 4
    assert crossing(2, 0.5, 1) == pytest.approx(36_864, rel=1e-9)
    rows = draw("uniform", 8, 200_000).columns()
    values = np.linalg.eigvalsh(rows.T @ rows) / len(rows)
    d = needed_columns(8, 0.1)[0]
    assert 2 * math.sqrt(2 * d * 8**3) == pytest.approx(0.1 * d * values[-1], rel=0.01)


@pytest.mark.parametrize("kept", [[0, 1, 2, 3, 4, 5], [0, 2, 5], [1]])
def test_the_iteration_has_norm_one_and_its_limit_keeps_the_kernel(kept: list[int]) -> None:
    """Two samples and six features, dense: M X'X M has a kernel, whatever is kept."""
    rng = np.random.default_rng(4)
    x, y, w0 = rng.standard_normal((2, 6)), rng.standard_normal(2), rng.standard_normal(6)
    xm = x @ oracle.selector(6, np.array(kept))
    top = np.linalg.norm(xm, 2) ** 2
    iteration = np.eye(6) - 1.2 / top * xm.T @ xm
    w = w0
    for _ in range(4000):
        w = w - 1.2 / top * xm.T @ (xm @ w - y)
    assert np.linalg.norm(np.linalg.matrix_power(iteration, 7), 2) == pytest.approx(1, abs=1e-12)
    inverse = np.linalg.pinv(xm)
    assert w == pytest.approx(inverse @ y + (np.eye(6) - inverse @ xm) @ w0, abs=1e-8)
    assert np.linalg.norm(w - inverse @ y) > 0.1


def test_one_exact_step_at_the_inverse_curvature_is_a_limit() -> None:
    x, y, w0 = whole((3, 4)), Fraction(25), whole((4, -3))
    limit = step(x, y, w0, Fraction(1, 25))
    assert limit == (7, 1)
    assert step(x, y, limit, Fraction(1, 25)) == limit
    assert pseudo_inverse_solution(x, y, w0) == (3, 4)
    assert dot(x, limit) == 25


@pytest.mark.parametrize("p", [0.5, 0.1])
def test_the_mean_reciprocal_is_the_distance_on_the_tiled_identity(p: float) -> None:
    """n = 2, three copies: every mask, dense pseudo-inverses, sigma = 1 and w* = 0."""
    x = np.tile(np.eye(2), 3)
    mean = 0.0
    for bits in product((0, 1), repeat=6):
        chance = p ** sum(bits) * (1 - p) ** (6 - sum(bits))
        mean += chance * np.linalg.norm(np.linalg.pinv(x @ np.diag(bits))) ** 2
    assert 2 * float(mean_reciprocal(3, Fraction(p))) == pytest.approx(mean, rel=1e-12)
    k = np.arange(1, 101)
    series = float((stats.binom.pmf(k, 100, p) / k).sum())
    assert float(mean_reciprocal(100, Fraction(p))) == pytest.approx(series, rel=1e-10)


def test_the_mean_distance_falls_with_p_below_one_and_a_half_kept_copies() -> None:
    found = [mean_reciprocal(100, Fraction(k, 1000)) for k in (1, 2, 5, 15, 40, 80)]
    assert found[:4] == sorted(found[:4])
    assert found[3:] == sorted(found[3:], reverse=True)


@pytest.mark.parametrize(("q", "a"), [(HALF, Fraction(1, 4)), (Fraction(1, 5), Fraction(3))])
def test_a_coins_information_is_a_squared_over_q_times_one_minus_q(
    q: Fraction, a: Fraction
) -> None:
    coin = Coin(2, q, a)
    assert sum(p * s for p, s in coin.scores()) == 0
    assert coin.information == a**2 / (q * (1 - q))
    # minus the mean second derivative of the log probability
    assert coin.information == q * (a / q) ** 2 + (1 - q) * (a / (1 - q)) ** 2
    assert coin.mean_score == 2 * a
    assert coin.heuristic(1, 2) == 2 * a / 9
    assert coin.heuristic(1, -1) == 6 * a


@pytest.mark.parametrize(
    ("log_density", "mean", "information"),
    [
        (lambda y: -(y**2) / 2, math.sqrt(2 / math.pi), 1.0),
        (lambda y: -(y**2) / 18, math.sqrt(2 / math.pi) / 3, 1 / 9),
        (lambda y: -np.abs(y) - 2 * np.log1p(np.exp(-np.abs(y))), 0.5, 1 / 3),  # logistic
    ],
    ids=["Gaussian", "wide Gaussian", "logistic"],
)
def test_information_from_a_density_is_its_closed_form(log_density, mean, information) -> None:
    assert location_moments(log_density) == pytest.approx((mean, information), rel=1e-5)


def test_a_gaussian_score_breaks_theorem_1_from_1_2533_on() -> None:
    mean, information = location_moments(lambda y: -(y**2) / 2)
    limit = math.sqrt(math.pi / 2)
    assert round(limit, 4) == 1.2533
    for size in (limit - 1e-3, limit + 1e-3):
        assert (mean * size > math.sqrt(information)) is (size > limit)


def test_literal_increments_move_nothing_in_the_first_step() -> None:
    problem = make_problem("gaussian", n=3, d=100, p=0.5)
    assert count_updates(problem, 6, 3, seed=0, late=True) == (18, 0 + 2 + 4)


def test_printed_sums_are_added_up_by_hand() -> None:
    assert printed_sums((1, 0, 4)) == (4 * 5, 1 * 1 + 2 * 0 + 3 * 4)
    assert printed_sums((2, 2, 2, 2)) == (5 * 8, 2 * 10)  # uniform: B (T + 1) / 2 = 20


def test_work_is_added_up_by_hand() -> None:
    """n = 1, d = 10, B = 2, T = 2."""
    assert work_of(1, 10, 2, 2, grows=True) == (60 + 40 + 2) + (60 + 36 + 4)
    assert work_of(1, 10, 2, 2, grows=False) == (16 + 40) + 2 * (20 + 20 + 4 + 4)


def test_ill_conditioned_features_have_the_condition_they_name() -> None:
    for name, low, high in (("geometric", 5e5, 4e6), ("near-duplicate", 5e5, 4e6)):
        s = np.linalg.svd(draw(name, 6, 3000).columns(), compute_uv=False)
        assert low < s[0] / s[-1] < high, name
    assert draw("near-duplicate", 1, 5).columns().shape == (5, 1)


SCALED = ("thm-5.1-corrected", "bernstein", "eq-3", "prop-5.2", "prop-5.3", "sparser-is-farther")


@pytest.mark.parametrize("scale", [1e-150, 1e-100, 1e149])
def test_verdicts_do_not_change_with_the_scale_of_the_features(scale: float) -> None:
    x = np.random.default_rng(0).standard_normal((3, 80)) * 1.5
    features = from_array(x * scale)
    assert np.array_equal(np.ldexp(features.columns().T, features.exponent), x * scale)
    for name in SCALED:
        plain = claim(name).verify(make_problem(x, p=0.4)).verdict
        assert claim(name).verify(make_problem(features, p=0.4)).verdict == plain, name


def test_the_n_that_is_said_to_fit_is_the_largest_that_does() -> None:
    free = 16 << 30
    fits = memory.largest_that_fits(lambda n: needed_bytes(n, 4, 0.1), free, 2_000_000)
    assert needed_bytes(fits, 4, 0.1) <= free < needed_bytes(fits + 1, 4, 0.1)
    assert memory.largest_that_fits(lambda n: 2**40, free, 10) == 0
