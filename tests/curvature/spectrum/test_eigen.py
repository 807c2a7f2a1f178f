"""Lanczos and power iteration on matrices with a prescribed spectrum."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from oracles.curvature import net, regression_data, squares, with_spectrum
from scipy.sparse.linalg import eigsh

import landscape as ls
from landscape.curvature import LinearOperator, MatrixOperator
from landscape.curvature.spectrum.result import conclude, random_unit, start_vector
from landscape.errors import NotConvergedWarning, UserError

N = 60
rest = torch.linspace(-0.5, 1.0, N - 8, dtype=torch.float64)
#: name -> eigenvalues; each is hard for some algorithm
SPECTRA = {
    "outlier": [10.0, 4.0, 3.9, 3.0, -3.0, -2.0, 2.0, 1.5, *rest],
    "clustered": [5.0, 4.999, 4.998, 4.99, -5.5, -5.499, 2.0, 1.5, *rest],
    "repeated": [5.0, 5.0, 5.0, 4.0, -6.0, -6.0, 2.0, 2.0, *rest],
    "negative": [-1.0, -1.1, -2.0, -3.0, -4.0, -4.0, -7.0, -9.0, *(rest - 2.0)],
    "mirrored": [8.0, -7.99, 6.0, -6.0, 3.0, -3.0, 1.2, -1.2, *rest],
    "low rank": [4.0, 3.0, 1.0, -2.0, 0.0, 0.0, 0.0, 0.0, *(0 * rest)],
    "tiny": [1e-9, 5e-10, 3e-10, -2e-10, 0.0, 0.0, 0.0, 0.0, *(1e-10 * rest)],
    "indefinite decay": [(-1) ** i / (i + 1) ** 2 for i in range(N)],
}


def wanted(values, which: str, k: int) -> torch.Tensor:
    values = torch.as_tensor(values, dtype=torch.float64)
    key = {"LA": values, "SA": -values, "LM": values.abs()}[which]
    return values[torch.argsort(key, descending=True, stable=True)[:k]]


@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_lanczos_finds_the_prescribed_eigenvalues(spectrum, k, which) -> None:
    matrix = with_spectrum(SPECTRA[spectrum], seed=1)
    result = ls.lanczos(MatrixOperator(matrix), k=k, which=which, tol=1e-8, seed=0)
    expected, scale = wanted(SPECTRA[spectrum], which, k), matrix.norm()
    found = result.eigenvalues
    if which == "LM":  # of a pair +-x either may come first
        found, expected = found.abs(), expected.abs()
    # the error of an eigenvalue is below its residual, 1e-8 of it
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-13 * float(scale))
    assert result.converged
    assert result.which == which
    overlap = result.eigenvectors.t() @ result.eigenvectors
    assert float((overlap - torch.eye(k)).abs().max()) < 1e-10  # repeated eigenvalues too


@pytest.mark.parametrize("spectrum", ["outlier", "clustered", "negative", "indefinite decay"])
@pytest.mark.parametrize("method", [ls.lanczos, ls.power_iteration])
def test_both_methods_return_the_same_frozen_type_with_recomputed_residuals(
    spectrum, method
) -> None:
    matrix = with_spectrum(SPECTRA[spectrum], seed=2)
    result = method(MatrixOperator(matrix), tol=1e-2, max_matvecs=2000, seed=3)
    assert type(result) is ls.EigenResult
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.num_matvecs = 0
    y, value = result.eigenvectors[:, 0], result.eigenvalues[0]
    assert float(y.norm()) == pytest.approx(1.0, abs=1e-12)
    assert float(y @ matrix @ y) == pytest.approx(float(value), rel=1e-12)
    residual = float((matrix @ y - value * y).norm())
    assert float(result.residuals[0]) == pytest.approx(residual, rel=1e-6)
    assert residual <= 1e-2 * abs(float(value))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tol", [0.3, 1e-2])
def test_every_interval_contains_a_true_eigenvalue_converged_or_not(seed, tol) -> None:
    values = torch.tensor(SPECTRA["clustered"], dtype=torch.float64)
    operator = MatrixOperator(with_spectrum(values, seed=seed))
    with pytest.warns(NotConvergedWarning):
        short = ls.lanczos(operator, k=3, tol=1e-12, max_matvecs=9, seed=seed)
    assert not short.converged
    for result in (short, ls.lanczos(operator, k=3, tol=tol, seed=seed)):
        for low, high in result.intervals:
            assert ((values >= low - 1e-13) & (values <= high + 1e-13)).any()
        assert float(result.eigenvalues[0]) <= 5.0 + 1e-13  # a Ritz value is never above the top


@pytest.mark.parametrize("method", [ls.lanczos, ls.power_iteration])
def test_a_spent_budget_is_never_exceeded_and_warns(method) -> None:
    operator = MatrixOperator(with_spectrum(SPECTRA["mirrored"], seed=3))
    with pytest.warns(NotConvergedWarning, match="after 7 matvecs"):
        result = method(operator, tol=1e-10, max_matvecs=7)
    assert not result.converged
    assert result.num_matvecs == operator.num_matvecs == 7


@pytest.mark.parametrize("method", [ls.lanczos, ls.power_iteration])
@pytest.mark.parametrize("start", ["random", "warm"])
def test_the_products_counted_are_the_products_made(method, start) -> None:
    matrix = with_spectrum(SPECTRA["outlier"], seed=3)
    operator = MatrixOperator(matrix)
    v0 = None if start == "random" else torch.ones(N)
    result = method(operator, tol=1e-3, v0=v0)
    assert result.num_matvecs == operator.num_matvecs


def test_power_iteration_says_that_it_did_not_converge_on_a_mirrored_spectrum() -> None:
    """At initialisation the smallest eigenvalue is about minus the largest.

    Successive Rayleigh quotients agree there to 1e-3 and are wrong: another tool stops on them.
    """
    operator = MatrixOperator(with_spectrum(SPECTRA["mirrored"], seed=3))
    with pytest.warns(NotConvergedWarning):
        assert not ls.power_iteration(operator, tol=1e-3, max_matvecs=100).converged
    assert ls.lanczos(operator, which="LA").num_matvecs < 60


def test_agreement_of_successive_quotients_would_have_stopped_power_iteration_too_early() -> None:
    spectrum = [1.0, 0.99, *torch.linspace(0, 0.98, N - 2).tolist()]
    matrix = with_spectrum(spectrum, seed=0)
    v = torch.randn(N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before, quotient = 0.0, 1.0
    while abs(quotient - before) > 1e-3 * abs(quotient):
        v = v / v.norm()
        before, quotient = quotient, float(v @ matrix @ v)
        v = matrix @ v
    assert quotient < 0.995  # the rule says 1e-3, the error is above 5e-3
    honest = ls.power_iteration(MatrixOperator(matrix), tol=1e-3, max_matvecs=3000)
    assert float(honest.eigenvalues[0]) > 0.999


def test_the_default_of_one_eigenvalue_is_right_not_two_steps() -> None:
    """Another tool takes 2 k steps for k = 1, 36 to 100 % low."""
    spectrum = torch.linspace(0, 1, N, dtype=torch.float64) ** 3
    result = ls.lanczos(MatrixOperator(with_spectrum(spectrum)))
    assert result.num_matvecs > 2
    assert float(result.eigenvalues[0]) == pytest.approx(1.0, rel=1e-3)


def test_a_warm_start_costs_fewer_products_and_finds_the_same() -> None:
    spectrum = torch.linspace(0, 1, 300, dtype=torch.float64) ** 2
    spectrum[-1] = 1.05
    matrix = with_spectrum(spectrum, seed=5)
    near = with_spectrum(spectrum, seed=5) + 1e-4 * with_spectrum(spectrum, seed=6)
    cold = ls.lanczos(MatrixOperator(matrix), tol=1e-3)
    warm = ls.lanczos(MatrixOperator(near), tol=1e-3, v0=cold.eigenvectors[:, 0])
    again = ls.lanczos(MatrixOperator(near), tol=1e-3)
    assert warm.num_matvecs < again.num_matvecs
    assert float(warm.eigenvalues[0]) == pytest.approx(float(again.eigenvalues[0]), rel=1e-5)


@pytest.mark.parametrize("method", [ls.lanczos, ls.power_iteration])
def test_a_warm_start_at_a_wrong_eigenvector_escapes(method) -> None:
    """Its Krylov space is one vector: without a random part the residual is zero at once."""
    spectrum = [5.0, 3.0, *torch.linspace(0, 1, N - 2).tolist()]
    matrix = with_spectrum(spectrum, seed=7)
    vectors = torch.linalg.eigh(matrix).eigenvectors
    result = method(MatrixOperator(matrix), tol=1e-3, v0=vectors[:, -2])
    assert float(result.eigenvalues[0]) == pytest.approx(5.0, rel=1e-4)


@pytest.mark.parametrize("max_basis", [6, 9])
def test_a_restarted_basis_finds_what_the_whole_one_finds(max_basis) -> None:
    matrix = with_spectrum(SPECTRA["clustered"], seed=8)
    result = ls.lanczos(
        MatrixOperator(matrix), k=3, tol=1e-6, max_basis=max_basis, max_matvecs=5000
    )
    torch.testing.assert_close(
        result.eigenvalues, wanted(SPECTRA["clustered"], "LA", 3), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
@pytest.mark.parametrize("block", [1, 2, 4])
def test_a_thick_restart_finds_a_hard_spectrum_with_the_smallest_basis(which, block) -> None:
    """Both ends in clusters of spread 1e-2, one eigenvalue repeated: many restarts."""
    middle = torch.linspace(-1, 1, 50, dtype=torch.float64)
    values = [3.0, 3.0, 2.99, 2.98, 2.97, *middle, -3.5, -3.49, -3.49, -3.48, -3.47]
    operator, k = MatrixOperator(with_spectrum(values, seed=8)), 3
    max_basis = k + 4 * block
    result = ls.lanczos(
        operator, k=k, which=which, tol=1e-5, block=block, max_basis=max_basis,
        max_matvecs=4000, confirm=True,
    )  # fmt: skip
    torch.testing.assert_close(result.eigenvalues, wanted(values, which, k), rtol=1e-6, atol=0)
    assert result.converged
    assert result.num_matvecs == operator.num_matvecs > 2 * max_basis
    direct = operator._matrix @ result.eigenvectors - result.eigenvectors * result.eigenvalues
    torch.testing.assert_close(direct.norm(dim=0), result.residuals, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
@pytest.mark.parametrize("block", [2, 3, 5])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_block_lanczos_finds_the_prescribed_eigenvalues(spectrum, block, which) -> None:
    """Three of them; with block >= 3 no copy of a repeated one needs the second sweep."""
    matrix = with_spectrum(SPECTRA[spectrum], seed=1)
    operator = MatrixOperator(matrix)
    result = ls.lanczos(operator, k=3, which=which, tol=1e-8, block=block)
    expected, found = wanted(SPECTRA[spectrum], which, 3), result.eigenvalues
    if which == "LM":
        found, expected = found.abs(), expected.abs()
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-13 * float(matrix.norm()))
    assert result.converged
    assert result.num_matvecs == operator.num_matvecs
    overlap = result.eigenvectors.t() @ result.eigenvectors
    assert float((overlap - torch.eye(3)).abs().max()) < 1e-10
    for low, high in result.intervals:
        values = torch.tensor(SPECTRA[spectrum], dtype=torch.float64)
        assert ((values >= low - 1e-12) & (values <= high + 1e-12)).any()


def test_without_a_confirmation_a_block_sees_the_copies_that_a_vector_cannot() -> None:
    operator = MatrixOperator(with_spectrum(SPECTRA["repeated"], seed=4))
    alone = ls.lanczos(operator, k=3, tol=1e-6, confirm=False).eigenvalues
    block = ls.lanczos(operator, k=3, tol=1e-6, block=3, confirm=False).eigenvalues
    assert float(alone[1]) == pytest.approx(4.0, rel=1e-5)  # 5 is there three times
    torch.testing.assert_close(block, torch.tensor([5.0, 5.0, 5.0], dtype=torch.float64))


def test_a_block_of_warm_vectors_costs_fewer_products_and_finds_the_same() -> None:
    spectrum = torch.linspace(0, 1, 200, dtype=torch.float64) ** 2
    spectrum[-3:] = torch.tensor([1.2, 1.3, 1.3])
    near = with_spectrum(spectrum, seed=5) + 1e-4 * with_spectrum(spectrum, seed=6)
    before = ls.lanczos(MatrixOperator(with_spectrum(spectrum, seed=5)), k=3, block=3)
    cold = ls.lanczos(MatrixOperator(near), k=3, tol=1e-2, block=3)
    warm = ls.lanczos(MatrixOperator(near), k=3, tol=1e-2, block=3, v0=before.eigenvectors)
    assert warm.num_matvecs < cold.num_matvecs
    expected = torch.linalg.eigvalsh(near).flip(0)[:3]
    torch.testing.assert_close(warm.eigenvalues, expected, rtol=1e-3, atol=0)
    with pytest.raises(UserError, match="at most 2 start vectors"):
        ls.lanczos(MatrixOperator(near), k=3, block=2, v0=before.eigenvectors)
    # two columns that are one: the second gets a random direction instead of a division by zero
    twice = before.eigenvectors[:, [0, 0]]
    again = ls.lanczos(MatrixOperator(near), k=2, tol=1e-4, block=2, v0=twice)
    torch.testing.assert_close(again.eigenvalues, expected[:2], rtol=1e-5, atol=0)


@pytest.mark.parametrize(("block", "budget"), [(2, 6), (3, 11), (5, 20)])
def test_a_block_never_exceeds_its_budget(block, budget) -> None:
    operator = MatrixOperator(with_spectrum(SPECTRA["mirrored"], seed=3))
    with pytest.warns(NotConvergedWarning):
        result = ls.lanczos(operator, k=2, tol=1e-12, block=block, max_matvecs=budget)
    assert result.num_matvecs == operator.num_matvecs <= budget
    assert len(result.eigenvalues) == 2


@pytest.mark.parametrize("block", [-1, 0, 61])
def test_a_block_that_is_no_number_of_vectors_is_refused(block) -> None:
    with pytest.raises(UserError, match="block of 1 to 60 vectors"):
        ls.lanczos(MatrixOperator(with_spectrum(SPECTRA["outlier"])), block=block)


@pytest.mark.parametrize(("n", "block"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
def test_all_eigenvalues_of_the_smallest_matrices(n, block, which) -> None:
    values = [-3.0, 2.0, 1.0][:n]
    result = ls.lanczos(
        MatrixOperator(with_spectrum(values)), k=n, which=which, tol=1e-10, block=block
    )
    torch.testing.assert_close(result.eigenvalues, wanted(values, which, n))


@pytest.mark.parametrize("k", [1, 2])
def test_the_zero_matrix_has_eigenvalue_zero_and_converges(k) -> None:
    result = ls.lanczos(MatrixOperator(torch.zeros(9, 9)), k=k)
    assert result.converged
    assert result.eigenvalues.tolist() == [0.0] * k
    alone = ls.lanczos(MatrixOperator(torch.zeros(9, 9)), k=k, confirm=False)
    assert alone.num_matvecs == 2 * k  # one, and one for its residual: nothing is in doubt


def test_float32_operators_reach_float32_accuracy() -> None:
    matrix = with_spectrum(SPECTRA["outlier"], seed=9)
    result = ls.lanczos(MatrixOperator(matrix.float()), k=4, tol=1e-5)
    assert result.eigenvectors.dtype == torch.float32
    torch.testing.assert_close(
        result.eigenvalues, wanted(SPECTRA["outlier"], "LA", 4), rtol=1e-5, atol=0
    )
    overlap = result.eigenvectors.double().t() @ result.eigenvectors.double()
    assert float((overlap - torch.eye(4)).abs().max()) < 1e-5  # orthonormal to float32


@pytest.mark.parametrize("method", [ls.lanczos, ls.power_iteration])
def test_results_are_bit_identical_when_repeated_and_follow_the_seed(method) -> None:
    operator = MatrixOperator(with_spectrum(SPECTRA["outlier"], seed=1))
    torch.manual_seed(1)
    first = method(operator, seed=4)
    torch.manual_seed(2)  # the global generator takes no part
    state = torch.get_rng_state()
    second = method(operator, seed=4)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.eigenvectors, second.eigenvectors)
    assert torch.equal(first.eigenvalues, second.eigenvalues)
    assert not torch.equal(first.eigenvectors, method(operator, seed=5).eigenvectors)


@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
def test_scipy_finds_the_same_eigenvalues_through_to_scipy(which) -> None:
    x, y, _ = regression_data()
    H = ls.HessianOperator(net(), [(x, y)], loss=squares)
    ours = ls.lanczos(H, k=3, which=which, tol=1e-9)
    theirs = eigsh(H.to_scipy(), k=3, which=which, return_eigenvectors=False)
    np.testing.assert_allclose(
        np.sort(ours.eigenvalues.numpy()), np.sort(theirs), rtol=1e-9, atol=1e-13
    )


@pytest.mark.parametrize("k", [1, 3])
def test_eigenvalues_of_nested_masks_interlace_and_grow(k) -> None:
    """A principal submatrix with m of n rows: lambda_(i+n-m)(A) <= lambda_i(B) <= lambda_i(A)."""
    x, y, _ = regression_data()
    model = net()
    H = ls.HessianOperator(model, [(x, y)], loss=squares)
    whole = torch.linalg.eigvalsh(torch.stack([H @ e for e in torch.eye(H.size)])).flip(0)
    tops = []
    everything = ls.random_mask(model, density=1.0, targets=["*.weight", "*.bias"])
    for keep in (0.4, 0.6, 0.9):
        indices = {name: i[: round(keep * len(i))] for name, i in everything.indices.items()}
        mask = dataclasses.replace(everything, indices=indices)
        ls.attach(model, mask)
        top = ls.lanczos(
            ls.HessianOperator(model, [(x, y)], loss=squares), k=k, tol=1e-9
        ).eigenvalues
        ls.detach(model)
        n, m = len(whole), mask.count
        for i in range(k):
            assert whole[i + n - m] - 1e-12 <= top[i] <= whole[i] + 1e-12
        tops.append(top)
    assert all((small <= large + 1e-12).all() for small, large in pairwise(tops))


def test_the_sharpness_over_batches_of_unequal_size_is_that_of_the_whole() -> None:
    """Equal weights a batch turned 66.2 into 129.5 in another tool."""
    x, y, _ = regression_data()
    model = net()
    parts = [(x[:1], y[:1]), (x[1:], y[1:])]
    top = [
        float(ls.lanczos(ls.HessianOperator(model, b, loss=squares), tol=1e-9).eigenvalues[0])
        for b in ([(x, y)], parts)
    ]
    assert top[0] == pytest.approx(top[1], rel=1e-9)


class Counting(LinearOperator):
    """A matrix whose n-th product is not finite."""

    size, dtype, device, description = 5, torch.float64, torch.device("cpu"), {}  # type: ignore

    def __init__(self, fails_at: int) -> None:
        self.fails_at = fails_at

    def _apply(self, v):
        bad = float("nan") if self.num_matvecs == self.fails_at else 1.0
        return v * torch.arange(5.0, dtype=torch.float64) * bad

    _apply_rows = _apply_afresh = _apply


@pytest.mark.parametrize("method", [ls.lanczos, ls.power_iteration])
def test_a_product_that_is_not_finite_is_refused_not_returned(method) -> None:
    with pytest.raises(UserError, match="finite products"):
        method(Counting(3), tol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"k": 0}, "k between 1 and the operator's size 60, got 0"),
        ({"k": 61}, "k between 1 and the operator's size 60, got 61"),
        ({"tol": 0.0}, "positive relative residual"),
        ({"tol": float("nan")}, "expected tol to be a number, got nan"),
        ({"k": 3, "max_matvecs": 5}, "max_matvecs of at least 6, got 5"),
        ({"v0": torch.zeros(60)}, "finite positive norm, got 0"),
        ({"v0": torch.full((60,), float("inf"))}, "finite positive norm, got inf"),
        ({"v0": torch.ones(59)}, r"shape \(60,\), got \(59,\)"),
        ({"max_basis": 2}, "max_basis of at least"),
        ({"which": "BE"}, "LA, SA or LM, got 'BE'"),
    ],
)
def test_arguments_out_of_range_are_refused_with_a_sentence(arguments, words) -> None:
    operator = MatrixOperator(with_spectrum(SPECTRA["outlier"]))
    with pytest.raises(UserError, match=words):
        ls.lanczos(operator, **arguments)


@pytest.mark.parametrize("matrix", [torch.zeros(0, 0), torch.zeros(2, 3), torch.zeros(2)])
def test_what_is_no_square_matrix_is_refused(matrix) -> None:
    with pytest.raises(UserError, match="square matrix"):
        MatrixOperator(matrix)


def test_the_result_prints_and_turns_into_plain_values() -> None:
    result = ls.lanczos(MatrixOperator(with_spectrum(SPECTRA["outlier"])), k=2)
    assert "lanczos" in repr(result)
    assert "converged" in repr(result)
    plain = result.to_dict()
    assert plain["eigenvalues"] == result.eigenvalues.tolist()
    assert plain["num_matvecs"] == result.num_matvecs
    with pytest.warns(NotConvergedWarning):
        short = ls.lanczos(
            MatrixOperator(with_spectrum(SPECTRA["outlier"])), tol=1e-12, max_matvecs=4
        )
    assert "NOT converged" in repr(short)


def test_an_estimated_error_is_the_residual_squared_over_the_gap_or_the_residual() -> None:
    """4 and 1 among 4, 1, 3.5, 2, and 3.5 whose residual is wider than its gap."""
    A = MatrixOperator(torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)))
    result = conclude(
        A, torch.eye(3, dtype=torch.float64),
        values=torch.tensor([1.0, 4.0, 3.5], dtype=torch.float64),
        residuals=torch.tensor([0.2, 0.1, 0.75], dtype=torch.float64),
        ritz_values=torch.tensor([1.0, 4.0, 3.5, 2.0], dtype=torch.float64),
        num_matvecs=3, norm=4.0, method="lanczos", which="LA", tol=0.5,
    )  # fmt: skip
    assert result.eigenvalues.tolist() == [4.0, 3.5, 1.0]
    assert result.eigenvectors.argmax(dim=0).tolist() == [1, 2, 0]
    assert result.estimated_errors.tolist() == pytest.approx([0.01 / 0.5, 0.75, 0.04 / 1.0])
    assert result.residuals.tolist() == [0.1, 0.75, 0.2]


def test_a_random_direction_is_a_unit_vector_to_the_operators_own_rounding() -> None:
    A = MatrixOperator(torch.eye(1000, dtype=torch.float64))
    found = random_unit(A, torch.Generator().manual_seed(0))
    assert float(found.norm()) == pytest.approx(1.0, rel=0, abs=1e-14)
    narrow = random_unit(MatrixOperator(torch.eye(1000)), torch.Generator().manual_seed(0))
    assert torch.equal(narrow, found.float())


@pytest.mark.parametrize("method", [ls.lanczos, ls.power_iteration])
def test_eigenvalues_are_found_whatever_torchs_default_device(method) -> None:
    A = MatrixOperator(with_spectrum(SPECTRA["outlier"], seed=1))
    expected = method(A, seed=3)
    with torch.device("meta"):
        found = method(A, seed=3)
        drawn = random_unit(A, torch.Generator().manual_seed(0))
    assert found.to_dict() == expected.to_dict()
    assert drawn.device == A.device


@pytest.mark.parametrize("value", [4.0, -4.0])
def test_what_has_not_converged_says_its_residual_over_the_size_of_its_value(value) -> None:
    A = MatrixOperator(torch.eye(2, dtype=torch.float64))
    told = torch.tensor([value], dtype=torch.float64)
    with pytest.warns(NotConvergedWarning, match=r"relative residual of 0\.1, tolerance 0\.001"):
        conclude(
            A, torch.eye(2, dtype=torch.float64)[:1], values=told, residuals=told.abs() / 10,
            ritz_values=told, num_matvecs=3, norm=4.0, method="lanczos", which="LA", tol=1e-3,
        )  # fmt: skip


@pytest.mark.parametrize(("tol", "part"), [(1e-3, 0.03), (1e-2, 0.3), (0.1, 1.0)])
def test_a_warm_start_has_a_random_part_of_three_tolerances_an_entry(tol, part) -> None:
    """Of norm 3 tol sqrt(size) beside the vector given, at most 1."""
    A, unit = MatrixOperator(torch.eye(100, dtype=torch.float64)), torch.eye(100).double()
    found = start_vector(A, 7 * unit[0], tol, unit[1])
    assert float(found.norm()) == pytest.approx(1.0)
    assert float(found[1] / found[0]) == pytest.approx(part)
    assert not bool(found[2:].any())


def test_estimated_errors_lie_between_the_true_error_and_the_residual() -> None:
    matrix = with_spectrum(SPECTRA["outlier"], seed=1)
    result = ls.lanczos(MatrixOperator(matrix), tol=1e-2)
    error = abs(float(result.eigenvalues[0]) - 10.0)
    assert error <= 2 * float(result.estimated_errors[0]) <= 2 * float(result.residuals[0])
