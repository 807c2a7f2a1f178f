"""The solvers' own arithmetic follows no ambient precision, device or default type."""

from __future__ import annotations

import contextlib

import pytest
import torch
from oracles.curvature import with_spectrum

import landscape as ls
from landscape.curvature import LinearOperator

CPU = torch.device("cpu")
VALUES = [10.0, 4.0, 3.9, 3.0, -3.0, -2.0, 2.0, 1.5, *torch.linspace(-0.5, 1, 112).tolist()]


class Given(LinearOperator):
    """A matrix that multiplies in its own type whatever surrounds it."""

    size, dtype, device, description = len(VALUES), torch.float32, CPU, {}  # type: ignore

    def __init__(self) -> None:
        self.matrix = with_spectrum(VALUES, seed=1).float()

    def _apply(self, v):
        with torch.autocast("cpu", enabled=False):
            return self.matrix @ v

    def _apply_rows(self, rows):
        with torch.autocast("cpu", enabled=False):
            return rows @ self.matrix

    _apply_afresh = _apply


@contextlib.contextmanager
def default_type(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


CONTEXTS = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "a default type of bfloat16": lambda: default_type(torch.bfloat16),
    "another default device": lambda: torch.device("meta"),
}
SOLVERS = {
    "lanczos": lambda A: ls.lanczos(A, k=3).eigenvalues.tolist(),
    "restarted blocks": lambda A: ls.lanczos(A, k=3, block=2, max_basis=8).eigenvalues.tolist(),
    "power iteration": lambda A: ls.power_iteration(A).eigenvalues.tolist(),
    "density": lambda A: ls.spectral_density(A, num_vectors=2, steps=8).nodes.tolist(),
    "density, known": lambda A: ls.spectral_density(
        A, num_vectors=2, steps=4, known=[ls.lanczos(A, k=2)]
    ).weights.tolist(),
    "trace": lambda A: ls.trace(A).value,
    "norm": lambda A: ls.norm_bound(A).upper,
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_solver_returns_the_same_bits_inside(context, solver) -> None:
    """Inside autocast Lanczos found 0.0548 for 0.8258 after 299 products."""
    operator = Given()
    plain = SOLVERS[solver](operator)
    with CONTEXTS[context]():
        inside = SOLVERS[solver](operator)
    assert inside == plain


def test_the_top_eigenvalue_inside_autocast_is_that_of_the_matrix() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ls.lanczos(Given())
    assert float(found.eigenvalues[0]) == pytest.approx(10.0, rel=1e-5)
    assert found.num_matvecs < 20
