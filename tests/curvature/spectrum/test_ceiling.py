"""The bound of the norm from above, against prescribed spectra."""

from __future__ import annotations

import pytest
import torch
from oracles.curvature import with_spectrum

import landscape as ls
from landscape.curvature import MatrixOperator
from landscape.curvature.spectrum import ceiling
from landscape.errors import UserError

N = 120
SPECTRA = {
    "no gap": torch.linspace(-1, 1, N, dtype=torch.float64),
    "negative end": torch.linspace(-3, 0.5, N, dtype=torch.float64),
    "hidden outlier": torch.tensor([1.0] + [0.9] * 60 + [-0.5] * (N - 61), dtype=torch.float64),
    "cosine": torch.cos(torch.linspace(0, torch.pi, N, dtype=torch.float64)),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_the_norm_lies_between_its_bounds(name) -> None:
    operator = MatrixOperator(with_spectrum(SPECTRA[name]))
    norm = float(SPECTRA[name].abs().max())
    for seed in range(15):
        bound = ls.norm_bound(operator, steps=20, failure=1e-3, seed=seed)
        assert bound.lower <= norm * (1 + 1e-12)
        assert bound.upper >= norm * (1 - 1e-12)
        assert bound.num_matvecs <= 20


def test_the_bound_is_not_the_ritz_value_where_that_is_too_low() -> None:
    """Where it matters: few steps and no gap leave the Ritz value 2 % low."""
    operator = MatrixOperator(with_spectrum(SPECTRA["cosine"]))
    bound = ls.norm_bound(operator, steps=10, failure=0.1)
    assert bound.lower < 0.999
    assert 1.0 <= bound.upper < 2.0


@pytest.mark.parametrize(
    ("steps", "failure", "eps"),
    # (ln(1.648 sqrt(120) / (failure / 2)) / (2 steps - 1))^2, by hand
    [(10, 0.1, 0.096068695), (12, 1e-3, 0.208182343), (12, 0.5, 0.034621926)],
)
def test_the_upper_bound_is_the_theorems_over_the_ritz_values_of_a_dense_krylov_space(
    steps, failure, eps, monkeypatch
) -> None:
    A = with_spectrum(SPECTRA["cosine"])
    start = torch.randn(N, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    start /= start.norm()
    monkeypatch.setattr(ceiling, "random_unit", lambda operator, generator: start)
    basis = start[:, None]
    for _ in range(steps - 1):
        basis, _ = torch.linalg.qr(torch.cat([basis, A @ basis[:, -1:]], dim=1))
    ritz = torch.linalg.eigvalsh(basis.t() @ A @ basis)
    beyond = eps * float(ritz[-1] - ritz[0]) / (1 - 2 * eps)
    bound = ls.norm_bound(MatrixOperator(A), steps=steps, failure=failure)
    assert bound.lower == pytest.approx(float(ritz.abs().max()), rel=1e-9)
    assert bound.upper == pytest.approx(bound.lower + beyond, rel=1e-6)
    assert (bound.failure, bound.num_matvecs) == (failure, steps)


def test_the_upper_bound_holds_where_the_start_hardly_touches_the_largest_eigenvalue(
    monkeypatch,
) -> None:
    """A start as unlucky as the failure probability allows, and the matrix that is worst for it."""
    n, steps, failure = 400, 12, 0.05
    values = torch.cos(torch.linspace(0, torch.pi, n, dtype=torch.float64))
    values[0] = 1.0
    unlucky = torch.ones(n, dtype=torch.float64)
    # |<start, y_1>| is below failure / sqrt(n) with about this probability
    unlucky[0] = failure
    unlucky /= unlucky.norm()
    monkeypatch.setattr(ceiling, "random_unit", lambda operator, generator: unlucky)
    bound = ls.norm_bound(MatrixOperator(torch.diag(values)), steps=steps, failure=failure)
    assert bound.lower < 1.0 <= bound.upper


def test_more_steps_tighten_the_bound_and_all_rows_close_it() -> None:
    operator = MatrixOperator(with_spectrum(SPECTRA["negative end"]))
    uppers = [ls.norm_bound(operator, steps=s).upper for s in (12, 20, 60)]
    assert uppers[0] > uppers[1] > uppers[2]
    small = MatrixOperator(with_spectrum([3.0, -4.0, 1.0]))
    bound = ls.norm_bound(small, steps=30)
    assert (bound.lower, bound.num_matvecs) == (bound.upper, 3)
    assert bound.upper == pytest.approx(4.0, rel=1e-12)
    assert ls.norm_bound(MatrixOperator([[-3.0]]), steps=1).upper == 3.0


def test_arguments_out_of_range_are_refused() -> None:
    operator = MatrixOperator(with_spectrum(SPECTRA["no gap"]))
    for failure in (0.0, 1.0):
        with pytest.raises(UserError, match="above 0 and below 1"):
            ls.norm_bound(operator, failure=failure)
    with pytest.raises(UserError, match="at least 8 steps"):
        ls.norm_bound(operator, steps=7)
    assert ls.norm_bound(operator, steps=8).upper < float("inf")
