"""Lanczos and power iteration on matrices with a prescribed spectrum."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from oracles.curvature import SPECTRA, N, net, regression_data, squares, with_spectrum
from scipy.sparse.linalg import eigsh

import landscape as ls
from landscape.curvature import MatrixOperator
from landscape.errors import NotConvergedWarning, UserError


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


@pytest.mark.parametrize("matrix", [torch.zeros(0, 0), torch.zeros(2, 3), torch.zeros(2)])
def test_what_is_no_square_matrix_is_refused(matrix) -> None:
    with pytest.raises(UserError, match="square matrix"):
        MatrixOperator(matrix)
