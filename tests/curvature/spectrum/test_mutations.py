"""Broken twins of what asks operators for their spectrum: each mistake must be seen by a check.

A check is a test of this folder in miniature: it must accept the sound code and refuse its twin.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from oracles.curvature import with_spectrum
from torch import Tensor

import landscape as ls
from landscape.curvature import MatrixOperator, trace
from landscape.curvature.spectrum import density, recurrence
from landscape.curvature.spectrum.algebra import norm
from landscape.curvature.spectrum.krylov import Krylov
from landscape.errors import NotConvergedWarning, UserError

N = 60
SPECTRUM = torch.tensor(
    [8.0, 7.9, 5.0, 5.0, -3.0, *torch.linspace(-1, 2, N - 5).tolist()], dtype=torch.float64
)
DECAY = torch.tensor([10.0 / (i + 1) for i in range(N)], dtype=torch.float64)


def close(a: Tensor, b: Tensor, rtol: float = 1e-8) -> bool:
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=rtol, atol=1e-12))


# --- the checks -------------------------------------------------------------------------------


def moments_of_the_density() -> bool:
    matrix = with_spectrum(SPECTRUM, seed=1)
    result = ls.spectral_density(MatrixOperator(matrix), num_vectors=60, steps=6)
    for power in (1, 2, 3):
        value, error = result.moment(power)
        if not abs(value - float((SPECTRUM**power).mean())) < 4.5 * error:
            return False
    return abs(result.moment(0)[0] - 1) < 1e-10


def calibrated(estimate: Callable[[int], tuple[float, float]], exact: float) -> bool:
    """Unbiased within 4.5 standard errors, whose square is the variance within a factor of 2.5."""
    pairs = torch.tensor([estimate(seed) for seed in range(50)], dtype=torch.float64)
    values, errors = pairs.t()
    bias = abs(float(values.mean()) - exact) < 4.5 * float(values.std()) / 50**0.5
    return bias and 0.4 < float(errors.square().mean() / values.var()) < 2.5


def standard_errors_of_the_density() -> bool:
    A = MatrixOperator(with_spectrum(DECAY, seed=1))
    return calibrated(
        lambda seed: ls.spectral_density(A, num_vectors=8, steps=3, seed=seed).moment(1),
        float(DECAY.mean()),
    )


def standard_errors_of_the_trace() -> bool:
    A = MatrixOperator(with_spectrum(DECAY, seed=1))

    def estimate(seed: int) -> tuple[float, float]:
        result = ls.trace(A, max_matvecs=30, seed=seed)
        return result.value, result.standard_error

    return calibrated(estimate, float(DECAY.sum()))


def eigenvalues_are_prescribed() -> bool:
    # the copy of 5 comes up by rounding at 1e-6, and by looking for it at 1e-3
    restarted = {"max_basis": 9, "max_matvecs": 3000, "tol": 1e-6}
    for settings in ({"tol": 1e-6}, restarted, {"block": 2, "tol": 1e-6}, {"tol": 1e-3}):
        A = MatrixOperator(with_spectrum(SPECTRUM, seed=2))
        try:
            found = ls.lanczos(A, k=4, **settings)
        except (NotConvergedWarning, UserError, RuntimeError, IndexError):
            return False
        error = min(1e-4, settings["tol"])
        if not close(found.eigenvalues, torch.tensor([8.0, 7.9, 5, 5], dtype=torch.float64), error):
            return False
        if found.num_matvecs != A.num_matvecs:
            return False
    return True


def intervals_hold_an_eigenvalue() -> bool:
    A = MatrixOperator(with_spectrum(SPECTRUM, seed=2))
    with pytest.warns(NotConvergedWarning):
        found = ls.lanczos(A, k=2, tol=1e-12, max_matvecs=8)
    return all(
        bool(((low - 1e-9 <= SPECTRUM) & (high + 1e-9 >= SPECTRUM)).any())
        for low, high in found.intervals
    )


# --- the broken twins -------------------------------------------------------------------------


def weights_not_squared(patch) -> None:
    sound = torch.linalg.eigh

    def eigh(T):
        values, vectors = sound(T)
        first = vectors[0].abs()
        return values, torch.cat([(first / first.sum()).sqrt()[None], vectors[1:]])

    patch.setattr(density.torch.linalg, "eigh", eigh)


def without_reorthogonalisation_weights_uniform(patch) -> None:
    sound = torch.linalg.eigh

    def eigh(T):
        values, vectors = sound(T)
        return values, torch.full_like(vectors, len(values) ** -0.5)

    patch.setattr(density.torch.linalg, "eigh", eigh)


def start_not_random(patch) -> None:
    def ones(operator, generator):
        return torch.ones(operator.size, dtype=operator.dtype) / operator.size**0.5

    patch.setattr(density, "random_unit", ones)


def density_error(factor: Callable[[int], float]) -> Callable:
    def patched(patch) -> None:
        sound = density.SpectralDensity.mean

        def mean(self, values):
            value, error = sound(self, values)
            return value, error * factor(len(self.nodes))

        patch.setattr(density.SpectralDensity, "mean", mean)

    return patched


def trace_error(factor: Callable[[int], float]) -> Callable:
    def patched(patch) -> None:
        sound = trace.__globals__["Trace"]

        def wrong(value, error, spent, samples):
            return sound(value, error * factor(max(samples, 1)), spent, samples)

        patch.setitem(trace.__globals__, "Trace", wrong)

    return patched


def remainder_not_projected(patch) -> None:
    """Hutch++ that counts the captured part twice."""
    sound = trace.__globals__["_range"]

    def spread(operator, count, generator):
        return sound(operator, count, generator) * 0.9

    patch.setitem(trace.__globals__, "_range", spread)


def signs_not_centred(patch) -> None:
    sound = trace.__globals__["_signs"]
    patch.setitem(trace.__globals__, "_signs", lambda o, g: sound(o, g).abs())


def no_reorthogonalisation(patch) -> None:
    """What the recurrence knows alone is removed, as in the textbook's three terms."""

    def remove(rows, w):
        return torch.zeros(len(rows), dtype=torch.float64), norm(w)

    patch.setattr(recurrence, "remove", remove)


def restart_forgets_values(patch) -> None:
    sound = Krylov._compress

    def compress(self, chosen):
        sound(self, chosen)
        self.basis.projected.zero_()

    patch.setattr(Krylov, "_compress", compress)


def never_confirms(patch) -> None:
    patch.setattr(Krylov, "is_doubtful", lambda self, k, tol: False)
    patch.setattr(Krylov, "is_settled", lambda self, k, tol: True)


def residual_of_half(patch) -> None:
    sound = ls.EigenResult.intervals.fget

    def intervals(self):
        middle = self.eigenvalues[:, None]
        return middle + (sound(self) - middle) * 1e-3

    patch.setattr(ls.EigenResult, "intervals", property(intervals))


MUTATIONS = [
    (moments_of_the_density, weights_not_squared),
    (moments_of_the_density, without_reorthogonalisation_weights_uniform),
    (standard_errors_of_the_density, start_not_random),
    (standard_errors_of_the_density, density_error(lambda n: n**0.5)),
    (standard_errors_of_the_density, density_error(lambda n: n**-0.5)),
    (standard_errors_of_the_trace, trace_error(lambda n: n**0.5)),
    (standard_errors_of_the_trace, trace_error(lambda n: n**-0.5)),
    (standard_errors_of_the_trace, remainder_not_projected),
    (standard_errors_of_the_trace, signs_not_centred),
    (eigenvalues_are_prescribed, no_reorthogonalisation),
    (eigenvalues_are_prescribed, restart_forgets_values),
    (eigenvalues_are_prescribed, never_confirms),
    (intervals_hold_an_eigenvalue, residual_of_half),
]


@pytest.mark.parametrize("check", sorted({c for c, _ in MUTATIONS}, key=lambda c: c.__name__))
def test_the_check_accepts_the_sound_code(check) -> None:
    assert check()


@pytest.mark.filterwarnings("ignore::landscape.errors.NotConvergedWarning")
@pytest.mark.parametrize(
    ("check", "mutate"), MUTATIONS, ids=[f"{c.__name__}-{n}" for n, (c, _) in enumerate(MUTATIONS)]
)
def test_the_check_sees_the_mistake(check, mutate, monkeypatch) -> None:
    mutate(monkeypatch)
    assert not check()
