"""What eigenvalues are returned as, how far off they say they are, and what is refused."""

from __future__ import annotations

import pytest
import torch
from oracles.curvature import SPECTRA, with_spectrum

import landscape as ls
from landscape.curvature import LinearOperator, MatrixOperator
from landscape.curvature.spectrum.result import conclude, random_unit, start_vector
from landscape.errors import NotConvergedWarning, UserError


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
