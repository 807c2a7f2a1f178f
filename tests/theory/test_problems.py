"""One mask's regression against dense d x d algebra, step by step; bad input gets a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import theory as oracle

from landscape.errors import UserError
from theory import DISTRIBUTIONS, MaskedRegression, claims, from_array, load_features, make_problem
from theory.restricted import Restricted
from theory.stability import averaged_map, descent_map, grows, largest_stable_step
from theory.statements.progress import steps_needed
from theory.statements.updates import count_updates
from theory.suite import claim

EPS = np.finfo(np.float64).eps


def embed(mask: Restricted, w: np.ndarray, d: int) -> np.ndarray:
    """Put k trainable weights back among d."""
    full = np.zeros(d)
    full[mask.indices] = w
    return full


@st.composite
def problems(rng: st.DrawFn) -> MaskedRegression:
    """Small instances with the corners: n = 1, d = n, p = 0 and 1, duplicates, low rank, zero X."""
    n = rng(st.integers(1, 5))
    d = rng(st.sampled_from([n, 1, n + 1, 40]))
    p = rng(st.sampled_from([0.0, 1.0, 0.5, 0.02, 0.9]))
    seed = rng(st.integers(0, 2**31))
    kind = rng(st.sampled_from([*DISTRIBUTIONS, "duplicates", "zero", "rank one", "tiny"]))
    sigma = rng(st.sampled_from([1.0, 0.0, 0.1]))
    if kind in DISTRIBUTIONS:
        return make_problem(kind, n=n, d=d, p=p, seed=seed, sigma=sigma)
    x = np.random.default_rng(seed).standard_normal((n, d))
    if kind == "duplicates":
        x[:] = x[:, :1]
    elif kind == "zero":
        x[:] = 0
    elif kind == "rank one":
        x = np.outer(x[:, 0], x[0])
    else:
        x *= 1e-30
    return make_problem(x, p=p, seed=seed, sigma=sigma)


@pytest.mark.filterwarnings("error")
@settings(max_examples=300, deadline=None, derandomize=True)  # verdicts are statistical
@given(problem=problems(), index=st.integers(0, len(claims()) - 1), seed=st.integers(0, 2**31))
def test_no_corner_of_the_sizes_makes_a_claim_surprising(
    problem: MaskedRegression, index: int, seed: int
) -> None:
    result = claims()[index].verify(problem, seed)
    assert not result.surprising, f"{problem.name}: {result.finding}"
    for number in (result.finding.prediction, result.finding.measurement):
        assert not np.isnan(number)


@settings(max_examples=150, deadline=None)
@given(problem=problems(), fraction=st.sampled_from([0.1, 0.5, 1.0, 1.5, 1.99]))
def test_trajectories_equal_dense_gradient_descent_and_the_printed_equation(
    problem: MaskedRegression, fraction: float
) -> None:
    mask = problem.draw(3)
    x = problem.features.columns().T
    eta = fraction * problem.n / mask.top if mask.top else 1.0
    start = np.random.default_rng(0).standard_normal(problem.d)
    scale = np.linalg.norm(start) + np.linalg.norm(mask.minimum_norm())
    for steps in (0, 1, 5, 40):
        dense = oracle.descend(x, problem.y, mask.indices, start, eta, steps)
        engine = embed(mask, mask.descend(start[mask.indices], eta, steps), problem.d)
        closed = embed(mask, mask.closed_form(start[mask.indices], eta, steps), problem.d)
        printed = oracle.equation_3(x, problem.y, mask.indices, start, eta, steps)
        kept = oracle.selector(problem.d, mask.indices)
        tolerance = 1e-9 * scale  # the pseudo-inverse amplifies eps by the condition number
        if mask.eigenvalues.size and mask.eigenvalues[-1] < 1e-7 * mask.top:
            continue  # beyond what two cut-offs of zero singular values need agree on
        assert engine == pytest.approx(kept @ dense, abs=tolerance)
        assert closed == pytest.approx(kept @ dense, abs=tolerance)
        assert printed == pytest.approx(dense, abs=tolerance)
        # coordinates outside the mask never move
        assert np.array_equal(dense[kept.diagonal() == 0], start[kept.diagonal() == 0])


@settings(max_examples=80, deadline=None)
@given(problem=problems())
def test_loss_gradient_and_hessian_are_those_of_the_dense_quadratic(
    problem: MaskedRegression,
) -> None:
    mask, x = problem.draw(1), problem.features.columns().T
    w = np.random.default_rng(2).standard_normal(mask.k)
    full = embed(mask, w, problem.d)
    residual = problem.y - x @ oracle.selector(problem.d, mask.indices) @ full
    scale = 1 + np.linalg.norm(x) ** 2 + float(problem.y @ problem.y)
    assert mask.loss(w) == pytest.approx((residual**2).sum() / (2 * problem.n), abs=1e-12 * scale)
    dense = oracle.hessian(x, mask.indices)[np.ix_(mask.indices, mask.indices)]
    assert np.allclose(mask.hessian(), dense, rtol=0, atol=1e-12 * scale)
    # central differences of a quadratic are exact up to rounding, eps scale / step
    step, direction = 1e-3, np.random.default_rng(3).standard_normal(mask.k)
    slope = (mask.loss(w + step * direction) - mask.loss(w - step * direction)) / (2 * step)
    assert mask.gradient(w) @ direction == pytest.approx(slope, abs=1e-8 * scale * (1 + mask.k))


@pytest.mark.parametrize("features", DISTRIBUTIONS)
def test_loss_and_distance_after_t_steps_are_those_of_the_dense_iterates(features: str) -> None:
    problem = make_problem(features, n=4, d=60, p=0.3, seed=8)
    mask, x = problem.draw(8), problem.features.columns().T
    eta = 1.3 * problem.n / mask.top
    for steps in (0, 1, 10, 300):
        w = oracle.descend(x, problem.y, mask.indices, np.zeros(problem.d), eta, steps)
        loss, distance = mask.filtered(eta, steps)
        residual = problem.y - x @ w
        assert loss == pytest.approx(residual @ residual / (2 * problem.n), rel=1e-9, abs=1e-15)
        assert distance == pytest.approx(np.linalg.norm(w), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("features", DISTRIBUTIONS)
def test_the_minimum_norm_solution_is_numpys_least_squares(features: str) -> None:
    problem = make_problem(features, n=4, d=60, p=0.3, seed=1)
    mask = problem.draw(1)
    solution = np.linalg.lstsq(mask.columns.T, problem.y, rcond=1e-12)[0]
    gap = np.linalg.norm(mask.minimum_norm() - solution)  # at a condition of 1e6, eps becomes 1e-10
    assert gap <= 1e-8 * np.linalg.norm(solution)


def test_steps_needed_is_the_first_step_that_reaches_the_share() -> None:
    problem = make_problem("power-law", n=5, d=80, p=0.4)
    mask, eta = problem.draw(), problem.n / problem.moments.top
    limit = mask.filtered(eta, 10**7)[0]
    excess = [mask.filtered(eta, t)[0] - limit for t in range(400)]
    for share in (0.5, 0.1, 0.02):
        first = next(t for t, value in enumerate(excess) if value <= share * excess[0])
        assert steps_needed(mask, eta, share) == first


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_growth_by_squaring_agrees_with_the_spectral_radius(beta: float) -> None:
    curvature = np.diag([3.0, 1.0, 0.2])
    for build, threshold in (
        (descent_map(curvature, beta), 2 * (1 + beta) / 3),
        (averaged_map(curvature, beta), 2 * (1 + beta) / (1 - beta) / 3),
    ):
        for factor in (0.5, 1 - 1e-6, 1 + 1e-6, 2.0):
            update, observer = build(factor * threshold)
            assert grows(update, observer) is (oracle.spectral_radius(update) > 1 + 1e-9)
        found = largest_stable_step(build, 1e-6, 1e-5)  # both ends stable: the bracket must widen
        assert found == pytest.approx(threshold, rel=1e-7)


def test_directions_without_curvature_do_not_count_as_growth() -> None:
    update, observer = descent_map(np.diag([1.0, 0.0]))(1.0)
    assert not grows(update, observer)
    assert not grows(*averaged_map(np.diag([1.0, 0.0]), 0.9)(37.0))
    assert not grows(*descent_map(np.diag([1.0, -1e-9]))(1.9))  # rounding of a zero eigenvalue


def test_selection_in_increments_updates_as_often_as_a_loop_by_hand() -> None:
    problem = make_problem("gaussian", n=3, d=100, p=0.5)
    assert count_updates(problem, 6, 3, seed=0) == (6 + 6 + 6, 2 + 4 + 6)


def test_a_true_claim_whose_assumption_fails_says_nothing() -> None:
    problem = make_problem(np.ones((1, 50)), p=0.5)
    broken = MaskedRegression(problem.features, 0.5)
    broken.__dict__["bound"] = 0.5  # as if |x| <= 1/2 had been promised
    finding = claim("lemma-a.1").verify(broken).finding
    assert finding.verdict == "vacuous"
    assert "|x| <= r" in finding.note


BAD_X: list[tuple[Any, str]] = [
    ([[1.0, np.nan]], "expected finite features of .*, got nan in row 0, column 1"),
    ([[np.inf]], "finite features of .*, got inf"),
    ([1.0, 2.0], r"shape \(n samples, d features\), got shape \(2,\)"),
    (np.zeros((2, 2, 2)), r"got shape \(2, 2, 2\)"),
    (np.zeros((0, 3)), "got shape"),
    ([["a", "b"]], "real numbers, got dtype"),
    (np.zeros((2, 2), dtype=complex), "real numbers, got dtype complex128"),
    ([[1e160]], "finite features of at most 1e.150, got 1e.160 in row 0.*rescale X"),
    ([[1e-160]], "largest entry is 0 or between 1e-150 and 1e.150, got 1e-160"),
]


@pytest.mark.parametrize(("x", "sentence"), BAD_X, ids=[s for _, s in BAD_X])
def test_features_that_are_no_matrix_of_numbers_are_refused(x: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        from_array(x)


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"p": -0.1}, "p to be a finite number of at least 0 and of at most 1, got -0.1"),
    ({"p": 1.01}, "p to be .* of at most 1, got 1.01"),
    ({"p": float("nan")}, "p to be .*, got nan"),
    ({"delta": 0.0}, "delta to be a finite number above 0 and below 1, got 0"),
    ({"delta": 1.0}, "delta to be .*, got 1.0"),
    ({"sigma": -1.0}, "sigma to be a finite number of at least 0, got -1"),
    ({"sigma": float("inf")}, "sigma to be a finite number .*, got inf"),
    ({"r": 0.5}, r"all \|x\| <= r=0.5, got an entry of size 0.99"),
    ({"features": "gaussian", "r": 1.0}, r"all \|x\| <= r=1, got an entry of size"),
    ({"features": "normal"}, "features among uniform, .*, got 'normal'"),
    ({"n": 0}, "n to be a whole number of at least 1, got 0"),
    ({"d": -3}, "d to be a whole number of at least 1, got -3"),
]


@pytest.mark.parametrize(("options", "sentence"), BAD_OPTIONS, ids=[s for _, s in BAD_OPTIONS])
def test_a_problem_out_of_range_is_refused_with_a_sentence(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        make_problem(**{"d": 50, "p": 0.5, **options})


@pytest.mark.parametrize("target", [np.zeros(3), np.array([1.0, np.nan])])
def test_a_target_that_does_not_fit_is_refused(target: np.ndarray) -> None:
    with pytest.raises(UserError, match="target to be 2 finite numbers, got"):
        MaskedRegression(from_array(np.ones((2, 4))), 0.5, target=target)


def test_ones_own_matrix_is_read_from_npy_and_npz(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((3, 20)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "one.npz", anything=x)
    np.savez_compressed(tmp_path / "named.npz", X=x, y=np.zeros(3))
    for name in ("x.npy", "one.npz", "named.npz"):
        assert np.array_equal(load_features(tmp_path / name).columns(), x.T.astype(np.float64))


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


BAD_FILES = {
    "missing.npy": (lambda path: None, "is missing"),
    "folder.npy": (lambda path: path.mkdir(), "is missing"),
    "text.npy": (lambda path: write(path, b"1,2,3"), "cannot be read"),
    "empty.npy": (lambda path: write(path, b""), "cannot be read"),
    "cut.npy": (lambda path: write(path, b"\x93NUMPY\x01\x00"), "cannot be read"),
    "cut.npz": (lambda path: write(path, b"PK\x03\x04rubbish"), "cannot be read"),
    "two.npz": (lambda path: np.savez(path, a=np.ones(1), b=np.ones(1)), "array named X"),
    "objects.npz": (lambda path: np.savez(path, X=np.array([None])), "cannot be read"),
    "flat.npy": (lambda path: np.save(path, np.ones(4)), "n samples, d features"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_without_a_feature_matrix_is_refused(tmp_path: Path, name: str) -> None:
    make, sentence = BAD_FILES[name]
    make(tmp_path / name)
    with pytest.raises(UserError, match=sentence):
        load_features(tmp_path / name)
