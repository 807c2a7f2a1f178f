"""Features that are nearly dependent, huge or tiny, against 60 digits and exact fractions."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from oracles import theory as oracle

from landscape.errors import UserError
from theory import MaskedRegression, claims, from_array, make_problem, memory
from theory.factors import FLOOR, factor_of, masked_factors, rank, rank_note
from theory.statements.distance import distance_terms, pseudo_inverse, sampled_terms
from theory.statements.progress import steps_needed
from theory.statements.theorem51 import random_mask
from theory.suite import claim

EPS = np.finfo(np.float64).eps


def gaussian(n: int, d: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def twin_rows(noise: float | None) -> np.ndarray:
    """Return a Gaussian 6 x 400 whose second row is the first, rounded to float32 or disturbed."""
    x = gaussian(6, 400)
    x[1] = x[0].astype(np.float32) if noise is None else x[0] * (1 + noise * gaussian(1, 400, 2)[0])
    return x


#: features whose X X^T float64 cannot hold; condition numbers of X from 1e7 to 1e12
ILL = {
    "float32 row": twin_rows(None),
    "row with 1e-7 noise": twin_rows(1e-7),
    "row with 1e-9 noise": twin_rows(1e-9),
    "row with 1e-11 noise": twin_rows(1e-11),
    "diag(1, 1e-7)": np.diag([1.0, 1e-7]),
    "diag(1, 1e-12)": np.diag([1.0, 1e-12]),
    "rows scaled 1 to 1e-7": np.diag(10.0 ** -np.arange(8)) @ gaussian(8, 400),
    "columns scaled 1 to 1e-7": gaussian(8, 80) * 10.0 ** -(np.arange(80) % 8),
    "one column times 1e10": gaussian(8, 200) * np.where(np.arange(200) == 0, 1e10, 1.0),
}


@pytest.mark.parametrize("p", [0.5, 1.0])
@pytest.mark.parametrize("name", ILL)
def test_the_expected_distance_of_nearly_dependent_features_is_the_one_at_60_digits(
    name: str, p: float
) -> None:
    problem = make_problem(ILL[name], p=p)
    seed = next(seed for seed in range(99) if problem.draw(seed).k >= problem.n)
    finding = claim("prop-5.3").verify(problem, seed).finding
    columns = problem.draw(seed).columns
    noise, shift = oracle.exact_distance(columns, problem.signal, problem.sigma)
    condition = finding.details["condition number of XM"]
    assert finding.verdict == "holds"
    assert finding.prediction == pytest.approx(noise + shift, rel=1e-9 + 10 * EPS * condition)
    assert finding.details["bound of proposition 5.3"] == pytest.approx(
        noise, rel=1e-9 + 10 * EPS * condition
    )


@pytest.mark.parametrize("p", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("name", ILL)
def test_no_true_claim_is_violated_on_nearly_dependent_features(name: str, p: float) -> None:
    problem = make_problem(ILL[name], p=p)
    for c in claims():
        result = c.verify(problem)
        assert not result.surprising, (c.id, result.finding)


@pytest.mark.parametrize("name", ILL)
def test_singular_values_of_a_factor_are_those_of_the_columns(name: str) -> None:
    x = ILL[name]
    found = np.linalg.svd(factor_of(x.T), compute_uv=False)
    direct = np.linalg.svd(x, compute_uv=False)
    assert found == pytest.approx(direct, abs=10 * EPS * direct[0])


def test_distances_of_many_masks_are_those_at_60_digits() -> None:
    problem = make_problem(ILL["float32 row"], p=0.5)
    noise, shift, ranks = sampled_terms(problem, 3, 0)
    assert ranks.tolist() == [6, 6, 6]
    for mask, found in zip(next(problem.masks(3, 0)), noise + shift, strict=True):
        exact = sum(oracle.exact_distance(problem.features.take(mask), problem.signal, 1.0))
        assert found == pytest.approx(exact, rel=1e-5)


def test_two_routes_to_the_pseudo_inverse_agree_where_the_rank_is_deficient() -> None:
    x = gaussian(5, 3) @ gaussian(3, 60, 2)
    inverse, y = pseudo_inverse(x.T), gaussian(1, 5, 3)[0]
    assert inverse.shape == (3, 5)
    noise, shift, ranks = distance_terms(factor_of(x.T)[None], y, 1.0)
    assert ranks.tolist() == [3]
    assert (inverse**2).sum() == pytest.approx(noise[0], rel=1e-10)
    assert ((inverse @ y) ** 2).sum() == pytest.approx(shift[0], rel=1e-10)


@pytest.mark.parametrize("steps", [1, 7, 60])
@pytest.mark.parametrize("name", ["float32 row", "diag(1, 1e-7)", "rows scaled 1 to 1e-7"])
def test_the_closed_form_is_gradient_descent_at_60_digits(name: str, steps: int) -> None:
    mask = make_problem(ILL[name][:, :60], p=1.0).draw()
    eta = 1.9 * mask.n / mask.top
    exact = oracle.exact_step(mask.columns, mask.y, eta, steps)
    size = float(np.linalg.norm(mask.y)) / mask.top**0.5
    assert mask.closed_form(np.zeros(mask.k), eta, steps) == pytest.approx(
        exact, abs=10 * EPS * (steps + 10) * size
    )
    assert mask.filtered(eta, steps)[1] == pytest.approx(np.linalg.norm(exact), rel=1e-12 * steps)


@pytest.mark.parametrize(
    ("x", "exact"),
    [
        (np.diag([1.0, 1e-7, 1e-13]), 3),
        (np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]), 1),
        (np.array([[1.0, 1.0], [1.0, 1.0 + 2.0**-40]]), 2),
        (np.zeros((2, 3)), 0),
    ],
)
def test_the_rank_is_the_exact_one_where_float64_can_tell(x: np.ndarray, exact: int) -> None:
    assert oracle.exact_rank(x) == exact
    assert rank(np.linalg.svd(x, compute_uv=False)) == exact
    assert len(make_problem(x, p=1.0).draw().eigenvalues) == exact


def test_a_rank_that_depends_on_the_cut_is_named() -> None:
    """A singular value that is rounding is none, and the reader is told."""
    exact = gaussian(6, 400)
    exact[1] = exact[0]
    finding = claim("prop-5.3").verify(make_problem(exact, p=0.5)).finding
    assert finding.verdict == "holds"
    assert finding.note.startswith("numerically rank-deficient: 1 of 6 singular values")
    law = claim("distance-law").verify(make_problem(exact, p=0.5)).finding
    assert law.verdict == "vacuous"
    assert "numerically rank-deficient" in law.note


def test_singular_values_without_digits_make_the_distance_unsettled() -> None:
    finding = claim("prop-5.3").verify(make_problem(twin_rows(1e-13), p=0.5)).finding
    assert finding.verdict == "unsettled"
    assert "1 of 6 singular values below 1e-12 of the largest, 0 truncated to 0" in finding.note
    assert rank_note(np.array([1.0, 2 * FLOOR, FLOOR / 2])).endswith("1 truncated to 0")


@pytest.mark.parametrize("scale", [1e-100, 1e-50, 1e-19, 1e-3, 1e19, 1e50, 1e100])
def test_verdicts_and_distances_do_not_depend_on_the_unit_of_the_features(scale: float) -> None:
    """X to c X and sigma to c sigma leaves every distance as it is, steps go as c^-2."""
    x = gaussian(4, 300, 5)
    plain, scaled = (make_problem(c * x, p=0.2, sigma=c) for c in (1.0, scale))
    for c in claims():
        one, other = c.verify(plain), c.verify(scaled)
        assert one.verdict == other.verdict, (c.id, other.finding)
    for name in ("prop-5.3", "cor-distance", "distance-law"):
        one, other = (claim(name).verify(p).finding for p in (plain, scaled))
        assert other.prediction == pytest.approx(one.prediction, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-100, 1e100])
def test_features_in_another_unit_are_divided_exactly_and_say_so(scale: float) -> None:
    x = gaussian(2, 5)
    problem = make_problem(scale * x, p=1.0, sigma=3.0, r=float(np.abs(scale * x).max()))
    power = problem.features.exponent
    assert problem.name.startswith(f"array/2^{power} ")
    assert np.array_equal(np.ldexp(problem.features.columns().T, power), scale * x)
    assert problem.sigma == np.ldexp(3.0, -power)
    assert 0.5 <= problem.moments.max_abs <= 1
    assert problem.bound == problem.moments.max_abs
    target = MaskedRegression(from_array(scale * x), 1.0, target=np.array([1.0, 2.0])).y
    assert np.array_equal(np.ldexp(target, power), [1.0, 2.0])


def test_integers_and_half_precision_are_taken_without_a_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    for dtype in (np.float16, np.int8, np.bool_, np.uint64):
        x = np.array([[1, 0, 1], [0, 1, 1]], dtype=dtype)
        assert np.array_equal(from_array(x).columns(), x.T.astype(np.float64))
    assert from_array(np.array([[-128]], dtype=np.int8)).columns()[0, 0] == -128
    assert not recwarn.list


def test_a_rate_that_float64_cannot_tell_from_no_progress_needs_finitely_many_steps() -> None:
    """1 - eta lambda_i/n rounds to 1 in every direction: t = log(1/2) / (2 log(1 - x))."""
    mask = make_problem([[1e-9]], p=1.0).draw()
    x = 1e-19
    steps = steps_needed(mask, x * mask.n / mask.top, 0.5)
    assert steps == pytest.approx(np.log(2) / (2 * x), rel=1e-9)
    with pytest.raises(ValueError, match="0 < eta < 2n/lambda_1"):
        steps_needed(mask, 2.5 / mask.top, 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_finite_time_ends_where_a_mask_misses_a_column_ten_billion_times_larger(seed: int) -> None:
    problem = make_problem(ILL["one column times 1e10"], p=0.05, seed=seed)
    assert claim("finite-time").verify(problem, seed).verdict == "holds"


@pytest.mark.parametrize("claim_id", ["sign-descent", "adam-first-step"])
def test_columns_far_smaller_than_others_are_not_taken_in_another_unit(claim_id: str) -> None:
    """The first ten columns alone, or a mask without the large one, are below 2^-60."""
    x = np.random.default_rng(0).standard_normal((3, 40)) * 1e-25
    x[:, 39] = 1.0
    problem = make_problem(x, p=0.3)
    assert problem.features.exponent == 0
    seed = next(s for s in range(20) if 39 not in problem.draw(s).indices)
    assert claim(claim_id).verify(problem, seed).verdict == "holds"


def test_features_of_300_orders_of_magnitude_are_verified_and_none_is_found_violated() -> None:
    x = np.random.default_rng(0).standard_normal((3, 40)) * np.logspace(-150, 149, 40)
    problem = make_problem(x, p=0.4)
    assert [one.id for one in claims() if one.verify(problem).surprising] == []


@pytest.mark.parametrize("claim_id", ["prop-5.2", "nested-masks"])
def test_noise_that_is_1e150_times_the_features_does_not_hide_what_is_stable(claim_id: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 40)) * 1e-150
    assert claim(claim_id).verify(make_problem(x, p=0.4, sigma=1.0)).verdict == "holds"


def test_numbers_that_leave_float64_are_unsettled_and_never_a_verdict() -> None:
    x = np.array([[1e-200, 1.0], [1e-200, 1.0]])
    findings = {c.id: c.verify(make_problem(x, p=0.5)).finding for c in claims()}
    for claim_id, finding in findings.items():
        if finding.verdict == "unsettled" and "float64" in finding.note:
            assert "numbers beyond float64" in finding.note
        assert claim(claim_id).verify(make_problem(x, p=0.5)).surprising is False


TOO_LARGE = [{"n": 2_000_000, "d": 4}, {"n": 8000, "d": 4096}]


@pytest.mark.parametrize("sizes", TOO_LARGE, ids=lambda s: f"n={s['n']}")
def test_an_instance_that_does_not_fit_is_refused_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch, sizes: dict[str, int]
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 16 << 30)
    problem = make_problem("gaussian", **sizes)
    tracemalloc.start()
    with pytest.raises(
        UserError, match=r"16\.0 GiB of free memory, got gaussian n=.* GiB; n = 3,\d+ fits"
    ):
        claim("bernstein").verify(problem)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("claim_id", ["bernstein", "trace-identity", "cor-distance", "finite-time"])
def test_the_estimate_of_memory_is_above_what_is_used_and_not_ten_times_too_high(
    monkeypatch: pytest.MonkeyPatch, claim_id: str
) -> None:
    needed: list[int] = []
    monkeypatch.setattr(
        "theory.problems.require_bytes", lambda size, n, name: needed.append(size(n))
    )
    monkeypatch.setattr("theory.problems.KEPT_BYTES", 1 << 22)
    problem = make_problem("gaussian", n=100, d=3000, p=0.2)
    tracemalloc.start()
    claim(claim_id).verify(problem)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= needed[0] <= 10 * peak


def test_factors_of_streamed_features_have_the_singular_values_of_stored_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("theory.features.BLOCK", 64)
    stored, mask = from_array(ILL["row with 1e-7 noise"]), np.arange(0, 400, 3)
    (one,) = masked_factors(stored, [mask])
    monkeypatch.setattr("theory.features.STORED_BYTES", 0)
    (other,) = masked_factors(from_array(ILL["row with 1e-7 noise"]), [mask])
    values = [np.linalg.svd(r, compute_uv=False) for r in (one, other)]
    assert values[0] == pytest.approx(values[1], abs=20 * EPS * values[0][0])
    assert random_mask(make_problem(stored, p=0.5))
