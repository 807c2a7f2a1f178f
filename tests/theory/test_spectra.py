"""Eigenvalues and moments from selected columns against dense d x d matrices."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import theory as oracle

from theory import DISTRIBUTIONS, draw, from_array, make_problem, prescribed, spectra
from theory import features as features_module
from theory.factors import rank
from theory.features import BLOCK, Features
from theory.spectra import (
    draw_mask,
    every_mask,
    gram_of,
    masked_eigenvalues,
    masked_grams,
    moments,
)

EPS = np.finfo(np.float64).eps


@st.composite
def matrices(rng: st.DrawFn) -> np.ndarray:
    """X (n, d) with n = 1, d = n, d < n, duplicate or zero columns, low rank, all scales."""
    n, d = rng(st.integers(1, 6)), rng(st.integers(1, 30))
    d = rng(st.sampled_from([d, n]))
    generator = np.random.default_rng(rng(st.integers(0, 2**32)))
    x = generator.standard_normal((n, d)) * 10.0 ** rng(st.integers(-6, 6))
    kind = rng(st.sampled_from(["plain", "duplicates", "rank one", "zero columns", "zero"]))
    if kind == "duplicates":
        x[:, : d // 2] = x[:, :1]
    elif kind == "rank one":
        x = np.outer(x[:, 0], generator.standard_normal(d))
    elif kind == "zero columns":
        x[:, ::2] = 0
    elif kind == "zero":
        x[:] = 0
    return x


masks = st.sampled_from(["empty", "full", "half", "one"])


def pick(kind: str, d: int) -> np.ndarray:
    chosen = {"empty": 0, "full": d, "half": (d + 1) // 2, "one": 1}[kind]
    return np.sort(np.random.default_rng(d).permutation(d)[:chosen]).astype(np.int64)


@settings(max_examples=150, deadline=None)
@given(x=matrices(), kind=masks)
def test_small_and_large_gram_matrices_have_the_same_eigenvalues(x: np.ndarray, kind: str) -> None:
    indices = pick(kind, x.shape[1])
    gram = masked_grams(from_array(x), [indices])[0]
    dense = oracle.eigenvalues(x, indices)
    scale = np.linalg.norm(x) ** 2
    assert np.linalg.eigvalsh(gram)[::-1] == pytest.approx(dense, abs=100 * EPS * scale)
    restricted = make_problem(x, p=0.5).restrict(indices)
    assert restricted.top == pytest.approx(dense[0], abs=100 * EPS * scale)
    assert len(restricted.eigenvalues) == np.linalg.matrix_rank(x[:, indices], tol=1e-13 * (
        np.linalg.norm(x[:, indices], 2) if len(indices) else 1))  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(x=matrices())
def test_dropping_features_lowers_every_eigenvalue_and_never_past_the_next(x: np.ndarray) -> None:
    """Cauchy: with one column less, the new lambda_i is between the old lambda_{i+1}, lambda_i."""
    d = x.shape[1]
    full, less = masked_grams(from_array(x), [np.arange(d), np.arange(1, d)])
    before, after = np.linalg.eigvalsh(full)[::-1], np.linalg.eigvalsh(less)[::-1]
    slack = 100 * EPS * np.linalg.norm(x) ** 2
    assert (after <= before + slack).all()
    assert (after[:-1] >= before[1:] - slack).all()


@settings(max_examples=60, deadline=None)
@given(x=matrices())
def test_moments_equal_sums_over_dense_columns(x: np.ndarray) -> None:
    found, norms = moments(from_array(x)), (x**2).sum(0)
    tolerance = {"rel": 1e-12, "abs": 1e-300}
    assert np.allclose(found.gram, x @ x.T, rtol=0, atol=100 * EPS * np.linalg.norm(x) ** 2)
    assert np.allclose(found.weighted, (x * norms) @ x.T, rtol=0, atol=100 * EPS * norms.sum() ** 2)
    assert found.max_norm2 == pytest.approx(norms.max(), **tolerance)
    assert found.sum_norm4 == pytest.approx((norms**2).sum(), **tolerance)
    assert found.sum_norm8 == pytest.approx((norms**4).sum(), **tolerance)
    assert (found.low, found.high) == (x.min(), x.max())
    assert found.max_abs == np.abs(x).max()


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (3, 129), (5, 64)])
def test_results_do_not_depend_on_how_the_columns_are_cut(
    monkeypatch: pytest.MonkeyPatch, block: int, stored: bool, n: int, d: int
) -> None:
    x = np.random.default_rng(n).standard_normal((n, d))
    indices = [np.sort(np.random.default_rng(s).permutation(d)[: d // s]) for s in (1, 2, 3)]
    monkeypatch.setattr(features_module, "BLOCK", block)
    monkeypatch.setattr(features_module, "STORED_BYTES", 1 << 28 if stored else 0)
    features = from_array(x)
    assert features.stored is stored
    assert np.array_equal(features.columns(), x.T)
    grams = masked_grams(features, indices)
    for gram, mask in zip(grams, indices, strict=True):
        assert np.allclose(gram, x[:, mask] @ x[:, mask].T, rtol=0, atol=1e-12)
        assert np.array_equal(features.take(mask), x[:, mask].T)
    assert np.allclose(moments(features).gram, x @ x.T, rtol=0, atol=1e-12)
    problem = make_problem(features, p=0.5)
    assert np.allclose(problem.signal, x @ problem.truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_named_features_are_the_same_stored_and_streamed_across_blocks(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    d = BLOCK + 77
    stored = draw(name, 2, d, seed=3).columns()
    monkeypatch.setattr(features_module, "STORED_BYTES", 0)
    streamed = draw(name, 2, d, seed=3)
    assert not streamed.stored
    assert np.array_equal(np.concatenate([block for _, block in streamed.blocks()]), stored)
    indices = np.array([0, BLOCK - 1, BLOCK, d - 1])
    assert np.array_equal(streamed.take(indices), stored[indices])
    if name != "tiled":  # the only one without chance
        assert not np.array_equal(draw(name, 2, d, seed=4).columns(), stored)


def test_a_streamed_problem_holds_a_few_blocks_and_never_the_whole_matrix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features_module, "STORED_BYTES", 0)
    n, d = 8, 20 * BLOCK
    features = draw("gaussian", n, d)
    tracemalloc.start()
    moments(features)
    masked_grams(features, [draw_mask(np.random.default_rng(0), d, 0.01) for _ in range(4)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * BLOCK * n * 8 < n * d * 8 / 3  # a block, its scaled copy, products


@pytest.mark.parametrize("k", [0, 1, 63, 64, 65, 5000])
def test_a_gram_matrix_cut_in_pieces_equals_the_whole_product(k: int) -> None:
    columns = np.random.default_rng(k).standard_normal((k, 33))
    assert np.allclose(gram_of(columns), columns.T @ columns, rtol=0, atol=1e-11)


def test_every_mask_of_three_columns_appears_once_with_its_probability() -> None:
    columns = np.array([[1.0], [10.0], [100.0]])
    weights, kept = every_mask(columns, 0.25)
    found = dict(zip((kept**2).sum(axis=(1, 2)).tolist(), weights.tolist(), strict=True))
    assert len(found) == 8
    assert found[1 + 10000] == 0.25**2 * 0.75
    assert found[0] == 0.75**3
    assert sum(found.values()) == 1


@pytest.mark.parametrize("p", [0.0, 0.03, 0.5, 1.0])
def test_a_drawn_mask_keeps_each_feature_with_probability_p(p: float) -> None:
    rng, d, count = np.random.default_rng(5), 50, 4000
    kept = np.zeros(d)
    for _ in range(count):
        mask = draw_mask(rng, d, p)
        assert mask.dtype == np.int64
        assert (np.diff(mask) > 0).all()
        kept[mask] += 1
    error = (p * (1 - p) / count) ** 0.5
    assert np.abs(kept / count - p).max() <= 5 * error  # 5 s.e. over 50 features: 3e-5


def test_counts_of_drawn_masks_vary_like_a_binomial() -> None:
    rng, d, p, count = np.random.default_rng(6), 300, 0.2, 4000
    sizes = np.array([len(draw_mask(rng, d, p)) for _ in range(count)])
    variance = d * p * (1 - p)
    assert abs(sizes.mean() - d * p) <= 5 * (variance / count) ** 0.5
    assert abs(sizes.var() / variance - 1) <= 5 * (2 / count) ** 0.5  # a fixed size would give 0


@pytest.mark.parametrize("spread", [0, spectra.SPREAD])
@pytest.mark.parametrize("p", [0.15, 0.4])
def test_every_subset_of_five_features_is_drawn_as_often_as_it_should(
    monkeypatch: pytest.MonkeyPatch, p: float, spread: int
) -> None:
    """Chi-squared over all 32 subsets; gaps are also drawn in several goes (spread 0)."""
    monkeypatch.setattr(spectra, "SPREAD", spread)
    rng, count = np.random.default_rng(8), 20_000
    seen = np.zeros(32)
    for _ in range(count):
        seen[(1 << draw_mask(rng, 5, p)).sum()] += 1
    sizes = np.array([bin(subset).count("1") for subset in range(32)])
    wanted = count * p**sizes * (1 - p) ** (5 - sizes)
    distance = float(((seen - wanted) ** 2 / wanted).sum())
    assert distance < 70.0  # exceeded by chi-squared of 31 degrees once in 12,000


@pytest.mark.parametrize("p", [5e-324, 1e-300, 1e-17])
def test_a_share_too_small_for_any_gap_to_fit_keeps_nothing(p: float) -> None:
    rng = np.random.default_rng(0)
    assert all(len(draw_mask(rng, 10**6, p)) == 0 for _ in range(20))


def test_eigenvalues_of_many_masks_do_not_depend_on_the_batch() -> None:
    features = draw("student", 4, 200, seed=1)
    whole = masked_eigenvalues(features, 0.1, 20, seed=2)
    assert np.array_equal(whole, masked_eigenvalues(features, 0.1, 20, seed=2, batch=7))
    assert whole.shape == (20, 4)
    assert (np.diff(whole, axis=1) <= 0).all()


@pytest.mark.parametrize("room", [1 << 28, 0, 2 * 40 * 4 * 4 * 8])
def test_matrices_kept_in_memory_are_those_of_the_masks_drawn_again(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """All of them are kept, none, or the first batch only."""
    monkeypatch.setattr("theory.problems.KEPT_BYTES", room)
    problem = make_problem("gaussian", n=4, d=50, p=0.3)
    for count in (70, 10, 40, 100, 100):
        masks = [mask for some in problem.masks(count, 1) for mask in some]
        grams = np.concatenate(list(problem.grams(count, 1)))
        factors = np.concatenate(list(problem.factors(count, 1)))
        assert len(grams) == len(factors) == count
        for mask, gram, factor in zip(masks, grams, factors, strict=True):
            columns = problem.features.take(mask)
            assert np.allclose(gram, columns.T @ columns, rtol=0, atol=1e-12)
            assert np.allclose(factor.T @ factor, gram, rtol=0, atol=1e-12)


def test_full_and_empty_masks_give_the_whole_spectrum_and_nothing() -> None:
    features = draw("gaussian", 3, 90)
    x = features.columns().T
    full = masked_eigenvalues(features, 1.0, 2)
    assert full == pytest.approx(np.tile(np.linalg.svd(x)[1] ** 2, (2, 1)), rel=1e-12)
    assert not masked_eigenvalues(features, 0.0, 2).any()


def test_prescribed_features_have_exactly_the_spectrum_asked_for() -> None:
    spectrum = [100.0, 1.0, 1e-3, 0.0]
    x = prescribed(spectrum, 50, seed=4).columns().T
    assert np.linalg.svd(x, compute_uv=False) ** 2 == pytest.approx(spectrum, abs=1e-12)


def moment(features: Features, power: int) -> float:
    return float((features.columns() ** power).mean())


def test_each_distribution_is_what_its_name_says() -> None:
    n, d = 6, 20_000
    x = {name: draw(name, n, d, seed=9) for name in DISTRIBUTIONS}
    assert 0 <= x["uniform"].columns().min() < 1e-4 < 0.9999 < x["uniform"].columns().max() <= 1
    assert moment(x["gaussian"], 4) == pytest.approx(3, abs=5 * (96 / (n * d)) ** 0.5)
    assert set(np.unique(x["rademacher"].columns())) == {-1.0, 1.0}
    assert np.abs(x["student"].columns()).max() == 30  # truncated there
    assert moment(x["student"], 4) > 10 * moment(x["student"], 2) ** 2  # heavy tails
    assert (x["sparse"].columns() != 0).mean() == pytest.approx(
        0.05, abs=5 * (0.05 / (n * d)) ** 0.5
    )
    spectrum = moments(x["power-law"]).eigenvalues / d
    assert spectrum == pytest.approx(np.arange(1, n + 1.0) ** -1.5, rel=0.1)
    assert rank(np.linalg.svd(x["rank-deficient"].columns(), compute_uv=False)) == n // 2
    assert np.array_equal(x["tiled"].columns()[: 2 * n], np.tile(np.eye(n), (2, 1)))
    shares = (x["dominant"].columns() ** 2).sum(1)
    assert shares[0] > 0.5 * shares.sum() / 2
    assert shares.argmax() == 0
