"""The negative share of a spectrum's magnitude: its interval covers the exact one."""

from __future__ import annotations

import pytest
import torch
from oracles.curvature import small_model, with_spectrum

import landscape as ls
from landscape.curvature import MatrixOperator, SpectralDensity, exact_spectrum, negative_share

N = 120
draw = torch.Generator().manual_seed(0)
SPECTRA = {
    "ten outliers and a narrow bulk": torch.cat(
        [torch.linspace(5, 15, 10), 0.01 * torch.rand(N - 10, generator=draw) - 0.005]
    ).double(),
    "a cluster at zero": torch.cat(
        [torch.tensor([3.0, 2.0, -1.0, -0.5]).double(), 1e-17 * torch.randn(N - 4, generator=draw)]
    ),
    "symmetric": torch.randn(N, generator=draw).double(),
    "heavy tails": torch.randn(N, generator=draw).double() ** 3,
}  # fmt: skip


def exact(values: torch.Tensor) -> float:
    return float(values.clamp(max=0).abs().sum() / values.abs().sum())


@pytest.mark.parametrize("name", SPECTRA)
def test_the_interval_covers_the_exact_share_as_often_as_it_says(name) -> None:
    """95 of 100: of 30, fewer than 25 have a chance of 0.3 %. Counting nodes covered none."""
    operator = MatrixOperator(with_spectrum(SPECTRA[name], seed=1))
    share, hits = exact(SPECTRA[name]), 0
    for seed in range(30):
        found = negative_share(ls.spectral_density(operator, steps=16, seed=seed))
        assert found.low <= found.value <= found.high
        hits += found.low - 1e-12 <= share <= found.high + 1e-12
    assert hits >= 25


def test_a_zero_eigenvalue_that_rounding_makes_negative_does_not_count() -> None:
    values = torch.zeros(60, dtype=torch.float64)
    values[:2] = torch.tensor([2.0, 1.0])
    values[2:] = -1e-17
    found = negative_share(ls.spectral_density(MatrixOperator(torch.diag(values)), steps=8))
    assert found.value < 1e-12
    assert found.high < 1e-6


def test_known_eigenvalues_count_exactly() -> None:
    operator = MatrixOperator(torch.diag(torch.tensor([3.0, -1.0])).double())
    density = ls.spectral_density(operator, num_vectors=2, known=[ls.lanczos(operator, k=2)])
    found = negative_share(density)
    assert [found.value, found.low, found.high] == pytest.approx([0.25] * 3)


def test_one_vector_tells_no_interval_and_a_zero_matrix_no_share() -> None:
    operator = MatrixOperator(with_spectrum(SPECTRA["symmetric"]))
    alone = negative_share(ls.spectral_density(operator, num_vectors=1, steps=4))
    assert (alone.low, alone.high) == (0.0, 1.0)
    zero = negative_share(ls.spectral_density(MatrixOperator(torch.zeros(5, 5))))
    assert zero.value != zero.value


def test_a_quadrature_bounds_its_own_vector_s_measure() -> None:
    """Three steps on 120 eigenvalues: far off, and the bounds say how far."""
    values = SPECTRA["symmetric"]
    for seed in range(20):
        v = torch.randn(N, generator=torch.Generator().manual_seed(seed)).double()
        v /= v.norm()
        weights, rows = v.square(), [v]
        for _ in range(3):  # Lanczos, written out
            w = values * rows[-1]
            for row in rows:
                w = w - (row @ w) * row
            rows.append(w / w.norm())
        Q = torch.stack(rows[:3])
        T, S = torch.linalg.eigh((Q * values) @ Q.t())
        share = float((weights * values.clamp(max=0).abs()).sum() / (weights * values.abs()).sum())
        one = SpectralDensity(T.expand(2, 3), S[0].square().expand(2, 3), N, 0)
        found = negative_share(one)  # two equal rows: no sampling error
        assert found.low - 1e-12 <= share <= found.high + 1e-12


def test_the_share_of_a_tiny_llama_lies_in_its_interval() -> None:
    model = small_model("llama")
    ls.attach(model, ls.random_mask(model, count=60, seed=0, targets="*.weight"))
    ids = torch.randint(4, 60, (2, 6), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    H = ls.HessianOperator(model, [batch])
    truth = exact(exact_spectrum(H, block=16).eigenvalues)
    found = negative_share(ls.spectral_density(H, steps=32))
    assert found.low <= truth <= found.high
