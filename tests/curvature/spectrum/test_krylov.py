"""What a growing basis knows, against dense algebra on a matrix of prescribed spectrum."""

from __future__ import annotations

import sys

import pytest
import torch
from oracles.curvature import with_spectrum

from landscape.curvature import MatrixOperator, lanczos
from landscape.curvature.spectrum.krylov import Krylov
from landscape.curvature.spectrum.result import random_unit
from landscape.errors import NotConvergedWarning

BULK = torch.linspace(0, 1, 57, dtype=torch.float64).tolist()


def grown(values, steps: int, *, which: str = "LA", capacity: int = 40) -> Krylov:
    operator = MatrixOperator(with_spectrum(values, seed=3))
    krylov = Krylov(operator, which, capacity)
    krylov.start(random_unit(operator, torch.Generator().manual_seed(0))[None])
    for _ in range(steps):
        krylov.extend()
    return krylov


def beyond(krylov: Krylov, first: int) -> tuple[float, float]:
    """The largest Ritz value of the basis from a row on, and its residual."""
    rows, matrix = krylov.basis.rows[first : krylov.basis.count], krylov.operator._matrix
    values, vectors = torch.linalg.eigh(rows @ matrix @ rows.t())
    y = rows.t() @ vectors[:, -1]
    return float(values[-1]), float((matrix @ y - values[-1] * y).norm())


@pytest.mark.parametrize(
    ("k", "capacity", "which", "known"),
    [
        (1, 40, "LA", [-200.0, -500.0, -1000.0]),
        (6, 10, "LA", [-500.0, -1000.0]),  # half of the room beside k
        (7, 40, "LA", [-500.0, -1000.0]),  # one is left between
        (9, 40, "LA", []),
        (1, 40, "LM", []),  # both ends are wanted
    ],
)
def test_the_far_end_is_what_is_known_to_rounding_there(k, capacity, which, known) -> None:
    krylov = grown([-1000.0, -500.0, -200.0, *BULK], 10, which=which, capacity=capacity)
    far = krylov._far(k)
    assert krylov.values[far].tolist() == pytest.approx(known, rel=1e-12)
    assert far == list(range(10 - len(known), 10))


@pytest.mark.parametrize("restarts", [0, 1])
def test_the_next_is_found_when_its_residual_is_below_the_tolerance(restarts) -> None:
    """Outside 50 and the two at the far end, which are known, the largest is 1."""
    krylov = grown([50.0, -1000.0, -500.0, *BULK], 18)
    krylov.sweep(1, torch.Generator().manual_seed(1))
    assert krylov.basis.count == 3
    for _ in range(12):
        krylov.extend()
    if restarts:
        krylov.restart(6)
        krylov.extend()
        value, gone = float(krylov.values[1]), krylov.ritz_vectors(2)[1]
        size = float((krylov.operator._matrix @ gone - value * gone).norm())
    else:
        value, size = beyond(krylov, 3)
    assert value == pytest.approx(1.0, abs=0.05)
    assert krylov._has_found_the_next(1, 1.001 * size / value)
    assert not krylov._has_found_the_next(1, 0.999 * size / value)


@pytest.mark.parametrize(("lowest", "is_due"), [(-1000.0, True), (-0.6, False), (0.0, False)])
def test_a_search_is_due_when_the_known_far_end_is_more_than_half_the_spread(
    lowest, is_due
) -> None:
    """And after the 12 steps that bound it to 0.35^2 of the spread: ln(1.648 60^0.5 / 0.005)."""
    for steps, wanted in ((11, False), (25, is_due)):
        krylov = grown([lowest, 0.5, 0.5, *BULK], steps)
        assert krylov.is_sweep_due(1, 1e-3, at_once=False) is wanted
        assert krylov.is_sweep_due(1, 1e-3, at_once=True)
    assert krylov.is_sweep_due(2, 1e-3, at_once=False)  # for several there is no other bound


@pytest.mark.parametrize(("part", "is_few"), [(0.44, True), (0.45, False), (-0.45, False)])
def test_a_vector_stands_for_its_part_of_a_random_one_squared_times_the_size(part, is_few) -> None:
    """19.4 and 20.3 of a hundred; a single one is more than 20 once in 130,000 times."""
    krylov = Krylov(MatrixOperator(torch.eye(100, dtype=torch.float64)), "LA", capacity=3)
    assert krylov._stands_for_few(part) is is_few


def test_a_copy_of_an_eigenvalue_is_found_where_one_search_has_ended() -> None:
    """A Krylov space of two vectors, whose matrix is known wholly, has one of the two 5."""
    A = MatrixOperator(with_spectrum([5.0, 5.0, *[1.0] * 10], seed=2))
    assert lanczos(A, k=2, tol=1e-6).eigenvalues.tolist() == pytest.approx([5.0, 5.0])


@pytest.mark.parametrize(
    ("k", "block", "max_matvecs", "room"),
    [(1, 1, 100, 25), (10, 1, 100, 34), (30, 1, 100, 68), (1, 4, 100, 34), (1, 1, 12, 12)],
)
def test_a_basis_begins_with_24_vectors_or_what_k_and_blocks_need_where_memory_is_dear(
    monkeypatch, k, block, max_matvecs, room
) -> None:
    """24 + k or 2 k + 8 blocks, and never more than there are products."""
    module, rooms = sys.modules[lanczos.__module__], []

    class Watched(Krylov):
        def extend(self) -> int:
            rooms.append(self.capacity)
            return super().extend()

    monkeypatch.setattr(module, "Krylov", Watched)
    monkeypatch.setattr(module, "_CHEAP", 0)
    A = MatrixOperator(torch.diag(torch.arange(200.0, dtype=torch.float64)))
    with pytest.warns(NotConvergedWarning):
        lanczos(A, k=k, block=block, max_matvecs=max_matvecs, tol=1e-12)
    assert rooms[0] == room
