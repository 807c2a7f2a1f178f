"""The recurrence: an orthonormal basis and A inside it, against dense float64 algebra."""

from __future__ import annotations

import math

import pytest
import torch
from oracles.curvature import with_spectrum

from landscape.curvature import MatrixOperator
from landscape.curvature.spectrum.algebra import append
from landscape.curvature.spectrum.recurrence import Recurrence, tridiagonal

N = 30
A = with_spectrum(torch.linspace(-2, 3, N, dtype=torch.float64), seed=4)


def directions(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, N, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("block", [1, 3])
def test_the_basis_is_orthonormal_and_its_matrix_is_a_inside_it(block) -> None:
    recurrence = Recurrence(MatrixOperator(A), capacity=12, block=block)
    recurrence.follow(directions(block))
    assert sum(recurrence.extend() for _ in range(12 // block)) == recurrence.count == 12
    Q, T = recurrence.rows[:12], recurrence.projected
    torch.testing.assert_close(Q @ Q.t(), torch.eye(12).double(), rtol=0, atol=1e-13)
    torch.testing.assert_close(T, Q @ A @ Q.t(), rtol=0, atol=1e-13)
    # what the last products have outside the basis, in the directions that follow
    outside = Q[-block:] @ A - Q[-block:] @ A @ Q.t() @ Q
    torch.testing.assert_close(recurrence.coupling.t() @ recurrence.following, outside)
    assert recurrence.outside == pytest.approx(float(outside.norm()), rel=1e-12)


def test_outside_known_rows_the_whole_space_gives_the_other_eigenvalues() -> None:
    values, vectors = torch.linalg.eigh(A)
    known = vectors.t()[[0, -1]]
    T, left = tridiagonal(MatrixOperator(A), directions(1)[0], N - 2, known)
    torch.testing.assert_close(torch.linalg.eigvalsh(T), values[1:-1], rtol=1e-10, atol=1e-12)
    assert left <= 1e-10


def test_a_space_that_is_invariant_ends_the_recurrence() -> None:
    diagonal = MatrixOperator(torch.diag(torch.arange(N, dtype=torch.float64)))
    v = torch.zeros(N, dtype=torch.float64)
    v[[3, 7, 20]] = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    T, _ = tridiagonal(diagonal, v, 12)
    torch.testing.assert_close(
        torch.linalg.eigvalsh(T), torch.tensor([3.0, 7.0, 20.0], dtype=torch.float64)
    )


@pytest.mark.parametrize("angle", [0.0, 1e-3, 1.0, math.pi / 2])
def test_a_vector_adds_the_sine_of_its_angle_to_the_rows_before_it(angle) -> None:
    rows = torch.eye(4, dtype=torch.float64)[:3].clone()
    x, y = 7 * math.cos(angle), 7 * math.sin(angle)
    share = append(rows, 2, torch.tensor([0.6 * x, 0.8 * x, 0.0, y], dtype=torch.float64))
    assert share == pytest.approx(math.sin(angle), abs=1e-15)
    if angle:
        torch.testing.assert_close(rows[2], torch.eye(4).double()[3], rtol=0, atol=1e-12)


def test_a_zero_vector_adds_nothing() -> None:
    rows = torch.ones(1, 4, dtype=torch.float64)
    assert append(rows, 0, torch.zeros(4, dtype=torch.float64)) == 0
    assert rows.tolist() == [[0.0] * 4]
