"""Eigenvalues that a single random vector hardly sees are found, or said not to be settled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles.curvature import with_spectrum
from scipy.sparse.linalg import eigsh

import landscape as ls
from landscape.curvature import LinearOperator, MatrixOperator
from landscape.errors import NotConvergedWarning

NAMED = [-132.0, 0.41, 0.31, 0.22]


class Diagonal(LinearOperator):
    """A few named eigenvalues in a bulk of equal ones."""

    device, description = torch.device("cpu"), {"operator": "diagonal"}  # type: ignore

    def __init__(self, named, n, *, bulk=0.0, dtype=torch.float32) -> None:
        self.entries = torch.full((n,), bulk, dtype=dtype)
        self.entries[: len(named)] = torch.as_tensor(named, dtype=dtype)

    size = property(lambda self: len(self.entries))  # type: ignore
    dtype = property(lambda self: self.entries.dtype)  # type: ignore

    def _apply(self, v):
        return self.entries * v

    _apply_rows = _apply_afresh = _apply


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_small_top_eigenvalue_is_found_beside_a_large_negative_one(sign, dtype) -> None:
    """Rounding beside 132 allowed a value of the bulk, 6e-07 +- 0.001, as converged."""
    operator = Diagonal([sign * value for value in NAMED], 10**6, dtype=dtype)
    found = ls.lanczos(operator, which="LA" if sign > 0 else "SA")
    assert found.converged
    assert float(found.eigenvalues[0]) == pytest.approx(sign * 0.41, rel=1e-5)
    assert found.num_matvecs <= 10
    assert found.ceiling is not None
    assert 0.41 <= sign * found.ceiling < 0.45  # an eigenvalue at 0.42 is ruled out


@pytest.mark.parametrize("n", [10**4, 10**5, 10**6])
@pytest.mark.parametrize("ratio", [10, 30, 100, 300, 1000])
def test_no_ratio_of_the_two_ends_hides_the_top_eigenvalue(n, ratio) -> None:
    found = ls.lanczos(Diagonal([-132.0, 132 / ratio], n))
    assert float(found.eigenvalues[0]) == pytest.approx(132 / ratio, rel=1e-4)
    assert found.converged


@pytest.mark.parametrize(("k", "block"), [(1, 2), (2, 1), (3, 3)])
def test_blocks_and_several_eigenvalues_see_past_the_bulk_too(k, block) -> None:
    found = ls.lanczos(Diagonal(NAMED, 10**5), k=k, block=block)
    np.testing.assert_allclose(found.eigenvalues, NAMED[1 : 1 + k], rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tol", [0.05, 1e-2, 1e-3])
def test_a_value_that_very_many_share_is_not_taken_for_the_largest(tol, dtype) -> None:
    """Away from zero the bulk passes any relative tolerance, in float64 as well."""
    found = ls.lanczos(Diagonal(NAMED, 10**6, bulk=0.3, dtype=dtype), tol=tol)
    assert float(found.eigenvalues[0]) == pytest.approx(0.41, rel=tol)
    assert found.converged


def test_a_top_eigenvalue_at_the_level_of_rounding_is_settled_by_a_sweep_or_not_claimed() -> None:
    """Nothing is above 0.002 beside a norm of 132; few products cannot know it, many can."""
    bulk = torch.linspace(-1, 2e-3, 20_000, dtype=torch.float64)
    operator = Diagonal([-132.0, *bulk.tolist()], 20_001)
    with pytest.warns(NotConvergedWarning):
        short = ls.lanczos(operator, max_matvecs=60)
    assert not short.converged
    settled = ls.lanczos(operator, max_matvecs=600)
    assert settled.converged
    assert settled.num_matvecs > 80
    floor = 100 * torch.finfo(torch.float32).eps * 132
    assert abs(float(settled.eigenvalues[0]) - 2e-3) < floor
    assert settled.ceiling is None or settled.ceiling >= 2e-3


@pytest.mark.parametrize("n", [50, 10**5])
def test_what_has_one_eigenvalue_is_settled_at_once(n) -> None:
    for value in (0.0, 1.0):
        found = ls.lanczos(Diagonal([], n, bulk=value), tol=0.1)
        assert found.converged
        assert float(found.eigenvalues[0]) == pytest.approx(value, rel=1e-6)
        assert found.num_matvecs < 30


@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
@pytest.mark.parametrize("k", [1, 4])
def test_no_other_eigenvalue_lies_beyond_the_ceiling(which, k) -> None:
    """It may fail once in a hundred: none of these thirty-six."""
    values = torch.linspace(-1.2, 1, 150, dtype=torch.float64) ** 3
    wanted = {"LA": values, "SA": -values, "LM": values.abs()}[which].sort(descending=True).values
    stated = 0
    for seed in range(6):
        operator = MatrixOperator(with_spectrum(values, seed=seed))
        found = ls.lanczos(operator, k=k, which=which, seed=seed, tol=1e-2, confirm=k > 1)
        if found.ceiling is not None:
            stated += 1
            assert abs(found.ceiling) >= float(wanted[k if k > 1 else 0]) - 1e-9
    assert stated >= 3


def test_power_iteration_does_not_stop_on_rounding() -> None:
    operator = Diagonal([-132.0, 0.41], 10**5)
    found = ls.power_iteration(operator)
    assert float(found.eigenvalues[0]) == pytest.approx(-132, rel=1e-4)


def test_scipy_and_lanczos_agree_on_a_hidden_top_eigenvalue() -> None:
    operator = Diagonal(NAMED, 10**4, dtype=torch.float64)
    theirs = eigsh(operator.to_scipy(), k=3, which="LA", return_eigenvectors=False)
    ours = ls.lanczos(operator, k=3, tol=1e-8).eigenvalues
    np.testing.assert_allclose(np.sort(theirs), np.sort(ours.numpy()), rtol=1e-8)


def test_a_norm_is_not_called_exact_where_rounding_hides_an_eigenvalue() -> None:
    """1.0002 in a bulk of ones: a step beyond the random vector is below rounding."""
    operator = Diagonal([1.0002], 10**6, bulk=1.0)
    bound = ls.norm_bound(operator)
    assert bound.upper >= 1.0002 > bound.lower


def test_forty_eigenvalues_hold_no_more_vectors_than_stated(monkeypatch) -> None:
    """At most max_basis, the block and its product, and k at the end."""
    held, made = [], torch.empty

    def counting(*shape, **options):
        if len(shape) == 2 and shape[1] == 3000:
            held.append(shape[0])
        return made(*shape, **options)

    values = 0.9 ** torch.arange(3000, dtype=torch.float64)
    monkeypatch.setattr(torch, "empty", counting)
    found = ls.lanczos(Diagonal(values, 3000), k=40, max_basis=88, confirm=False)
    assert found.converged
    assert sum(held) <= 88 + 2
