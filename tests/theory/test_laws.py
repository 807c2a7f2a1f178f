"""Laws of step and distance: of Gaussian features by dense matrices, of others by leverages."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from theory import draw, make_problem, wishart
from theory.leverages import (
    effective_share,
    equivalent_growth,
    fewest_columns,
    leverages,
)
from theory.statements.corrected import draw_factors, judge_median, median_interval
from theory.statements.steps import gaussian_tops, isotropic
from theory.suite import claim


def heavy_tailed(n: int, d: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((n, d))
    x[:, ::4] *= 6
    return x


@pytest.mark.parametrize(("n", "k"), [(1, 30), (6, 40), (20, 20), (20, 5)])
def test_gaussian_matrices_stay_inside_the_interval_of_their_largest_eigenvalue(
    n: int, k: int
) -> None:
    g = np.random.default_rng(n).standard_normal((2000, n, k))
    tops = np.linalg.norm(g, 2, axis=(1, 2)) ** 2
    low, high = wishart.gaussian_top(n, k, 0.2)
    assert (tops < low).mean() <= 0.1
    assert (tops > high).mean() <= 0.1
    assert 0.2 * np.median(tops) < low < np.median(tops) < high < 3.2 * np.median(tops)
    drawn = gaussian_tops(np.random.default_rng(1), 2000, n, k)
    assert stats.ks_2samp(tops, drawn).pvalue > 1e-3
    if n > 1:
        assert wishart.typical_top(n, k) == pytest.approx(np.median(tops), rel=0.03)


def test_the_lower_end_of_a_large_gaussian_matrix_is_near_the_edge_and_not_at_k() -> None:
    """n = k = 400: the edge is 1600, the trivial lower end k = 400."""
    low, high = wishart.gaussian_top(400, 400, 0.05)
    assert 1250 < low < 1600 < high < 1850


def test_mean_chi_is_scipys() -> None:
    for k in (1, 2, 7, 1000):
        assert wishart.mean_chi(k) == pytest.approx(stats.chi(k).mean(), rel=1e-9)


def test_the_step_law_turns_from_one_over_p_to_flat_at_as_many_features_as_samples() -> None:
    many, few = (wishart.step_law(100, 10**8, p, 1.0) * p for p in (1e-2, 1e-3))
    assert many == pytest.approx(few, rel=0.1)
    flat = wishart.step_law(100, 10**8, 1e-9, 1.0), wishart.step_law(100, 10**8, 1e-10, 1.0)
    assert flat[0] == pytest.approx(flat[1], rel=0.1)
    assert flat[1] == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("seed", range(2))
def test_random_frames_raise_the_trace_by_the_exact_factor(seed: int) -> None:
    """V from a QR of a Gaussian matrix, its first k rows kept, dense."""
    r, d, k = 3, 24, 14
    v = np.linalg.qr(np.random.default_rng(seed).standard_normal((3000, d, r)))[0]
    kept = v[:, :k]
    traces = np.trace(np.linalg.inv(np.einsum("cki,ckj->cij", kept, kept)), axis1=1, axis2=2) / r
    error = traces.std() / 3000**0.5
    assert abs(traces.mean() - wishart.distance_factor(r, d, k)) <= 4 * error
    assert wishart.distance_factor(r, d, k) == 2.0
    other = draw_factors(np.random.default_rng(9), 3000, r, d, k)
    assert stats.ks_2samp(traces, other).pvalue > 1e-3


def test_one_gaussian_row_has_the_mean_of_an_inverse_chi_squared() -> None:
    for k in (3, 8, 50):
        mean = stats.chi2(k).expect(lambda x: 1 / x)
        assert mean * 98 == pytest.approx(wishart.distance_factor(1, 100, k), rel=1e-6)
    assert wishart.distance_factor(1, 100, 2) == math.inf


def test_the_mixture_over_the_kept_count_is_a_sum_of_fractions() -> None:
    r, d, p = 2, 12, Fraction(1, 4)
    terms = [math.comb(d, k) * p**k * (1 - p) ** (d - k) for k in range(d + 1)]
    mean = sum(terms[k] * Fraction(d - r - 1, k - r - 1) for k in range(r + 2, d + 1))
    found = wishart.mixed_distance_factor(r, d, 0.25)
    assert found == pytest.approx((float(mean), float(sum(terms[r + 2 :]))), rel=1e-12)


def test_leverages_are_the_diagonal_of_the_hat_matrix_and_sum_to_n() -> None:
    x = heavy_tailed(5, 60)
    found = leverages(make_problem(x, p=0.5))
    assert found == pytest.approx(np.diag(np.linalg.pinv(x) @ x), rel=1e-9)
    assert found.sum() == pytest.approx(5, rel=1e-12)


def test_the_share_of_two_kinds_of_columns_solves_its_quadratic() -> None:
    """Half of the dimensions in columns that nothing replaces (tau = 1): p m of them are kept."""
    tau = np.array([0.5] * 8 + [0.1] * 40)  # n = 8
    p = 0.6
    c = effective_share(tau, p)
    assert p * (8 * 0.5 / (0.5 + 0.5 * c) + 40 * 0.1 / (0.1 + 0.9 * c)) == pytest.approx(8)
    assert effective_share(tau, 1.0) == pytest.approx(1.0)
    assert effective_share(tau, 8 / 48) == pytest.approx(0.0, abs=1e-9)
    assert effective_share(tau, 0.1) == 0.0


@pytest.mark.parametrize(("few", "many", "p"), [(4, 60, 0.7), (3, 200, 0.5)])
def test_two_blocks_of_tiled_identities_have_a_share_each_and_no_common_one(
    few: int, many: int, p: float
) -> None:
    """X = diag([I .. I], [I .. I]) with m_1 and m_2 copies: S = q_i m_i I, q_i = (p m_i-1)/(m_i-1).

    A column of the first block has leverage 1/m_1, whatever the second holds.
    """
    blocks = [np.tile(np.eye(5), few), np.tile(np.eye(5), many)]
    x = np.zeros((10, 5 * (few + many)))
    x[:5, : 5 * few], x[5:, 5 * few :] = blocks
    problem = make_problem(x, p=p)
    terms = [(1 / m, (p * m - 1) / (m - 1)) for m in (few, many)]
    exact = sum(tau / q for tau, q in terms) / sum(tau for tau, _ in terms)
    assert equivalent_growth(problem) == pytest.approx(exact, rel=1e-3)
    one_share = effective_share(leverages(problem), p)
    assert abs(one_share * exact - 1) > 0.05


def test_the_growth_is_one_where_all_is_kept_and_infinite_where_no_mask_has_rank_n() -> None:
    x = heavy_tailed(5, 60)
    assert equivalent_growth(make_problem(x, p=1 - 1e-9)) == pytest.approx(1, rel=1e-6)
    assert equivalent_growth(make_problem(x, p=0.08)) == math.inf


@pytest.mark.parametrize(("spare", "factor"), [(1.9, 2.11), (3.1, 1.47)])
@pytest.mark.parametrize("name", ["gaussian", "rademacher", "uniform"])
def test_the_distance_exceeds_the_law_in_one_over_p_as_predicted(
    name: str, spare: float, factor: float
) -> None:
    """At p d = 1.9 n and 3.1 n by 2.11 and 1.47: dense inverses of 60 masks."""
    n, d = 24, 6000
    p = spare * n / d
    assert p * (d - n) / (p * d - n) == pytest.approx(factor, rel=0.01)
    x = draw(name, n, d, seed=3).columns().T
    rng = np.random.default_rng(4)
    masks = [np.flatnonzero(rng.random(d) < p) for _ in range(60)]
    traces = [np.trace(np.linalg.inv(x[:, m] @ x[:, m].T)) for m in masks]
    seen = np.median(traces) * p / np.trace(np.linalg.inv(x @ x.T))
    assert seen == pytest.approx(factor, rel=0.12)


def test_unequal_leverages_need_their_own_share() -> None:
    finding = claim("distance-leverage").verify(make_problem("student", n=16, d=2000, p=0.04))
    details = finding.finding.details
    assert finding.verdict == "holds"
    assert details["median / (law in 1/c)"] == pytest.approx(1, abs=0.08)
    assert details["median / (law in 1/q)"] > 1.2
    assert details["median / (law in 1/p)"] > 1.5


def test_effective_columns_are_few_where_samples_see_few_features() -> None:
    tiled = make_problem("tiled", n=4, d=400, p=0.2)
    taken = leverages(tiled)
    share = effective_share(taken, 0.2)
    v4 = (1 / 100) ** 2 / (taken[0] + share * (1 - taken[0])) ** 2  # each sample: 100 columns
    assert fewest_columns(tiled, taken, share) == pytest.approx(1 / (0.2 * 100 * v4), rel=1e-9)
    assert claim("distance-leverage").verify(
        make_problem("sparse", n=8, d=900, p=0.05)
    ).verdict == ("vacuous")


def test_the_interval_of_a_median_misses_it_as_rarely_as_promised() -> None:
    low, high = median_interval(np.arange(128.0))
    j = int(low)
    assert 2 * stats.binom.cdf(j, 128, 0.5) <= 0.01 < 2 * stats.binom.cdf(j + 1, 128, 0.5)
    assert high == 127 - j
    values = np.linspace(0.99, 1.01, 128)
    assert [judge_median(values, x, 0.1) for x in (1.0, 1.3, 1.11)] == [
        "holds", "violated", "unsettled",
    ]  # fmt: skip


def test_features_with_a_direction_or_columns_that_dominate_are_not_isotropic() -> None:
    said = {
        name: isotropic(make_problem(name, n=8, d=2000))
        for name in ("gaussian", "rademacher", "uniform", "student")
    }
    assert said["gaussian"] == said["rademacher"] == ""
    assert said["uniform"].startswith("one direction dominates")
    assert said["student"].startswith("heavy columns")
