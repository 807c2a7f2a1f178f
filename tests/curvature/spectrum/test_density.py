"""Spectral density and trace against prescribed spectra; statistics with stated standard errors."""

from __future__ import annotations

import pytest
import torch
from oracles.curvature import dense, net, regression_data, squares, with_spectrum

import landscape as ls
from landscape.curvature import MatrixOperator
from landscape.curvature.spectrum.recurrence import tridiagonal
from landscape.errors import UserError

N = 150
DECAY = torch.tensor([10.0 / (i + 1) ** 1.5 for i in range(N)], dtype=torch.float64)
SPECTRA = {
    "decay": DECAY,
    "indefinite": torch.where(torch.arange(N) % 3 == 0, -0.5 * DECAY, DECAY),
    "flat": torch.linspace(0.5, 1.5, N, dtype=torch.float64),
    "two masses": torch.tensor([0.0] * 120 + [2.0] * 30, dtype=torch.float64),
}


@pytest.fixture(params=SPECTRA)
def spectrum(request: pytest.FixtureRequest) -> torch.Tensor:
    return SPECTRA[request.param]


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_the_quadrature_of_a_vector_is_exact_for_polynomials_up_to_degree_2m_minus_1(steps) -> None:
    matrix = with_spectrum(SPECTRA["indefinite"], seed=1)
    v = torch.randn(N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v /= v.norm()
    values, vectors = torch.linalg.eigh(tridiagonal(MatrixOperator(matrix), v, steps)[0])
    w = v
    for power in range(2 * steps):
        expected = float(v @ w)
        assert float((vectors[0].square() * values**power).sum()) == pytest.approx(
            expected, rel=1e-10, abs=1e-10
        )
        w = matrix @ w


def test_known_eigenpairs_have_their_share_and_the_vectors_see_the_rest() -> None:
    values = torch.cat([torch.tensor([-4.0, 9.0, 7.0]), SPECTRA["flat"][:-3]]).double()
    operator = MatrixOperator(with_spectrum(values, seed=5))
    ends = [ls.lanczos(operator, k=k, which=w, tol=1e-9) for k, w in ((2, "LA"), (1, "SA"))]
    options = {"num_vectors": 4, "steps": 6, "seed": 1}
    plain = ls.spectral_density(operator, **options)
    found = ls.spectral_density(operator, known=ends, **options)
    assert found.nodes.shape == found.weights.shape == (4, 9)
    assert found.num_matvecs == plain.num_matvecs == 24
    torch.testing.assert_close(found.weights.sum(1), torch.ones(4, dtype=torch.float64))
    assert bool((found.nodes.diff(dim=1) >= 0).all())
    for value in (-4.0, 7.0, 9.0):
        near = (found.nodes - value).abs() < 1e-6
        assert near.sum(1).tolist() == [1] * 4
        assert found.weights[near].tolist() == pytest.approx([1 / N] * 4)
        drawn = torch.where((plain.nodes - value).abs() < 0.3, plain.weights, 0.0).sum(1)
        assert float((N * drawn - 1).abs().max()) > 0.3  # anything, without
    for power in (1, 2):
        exact = float((values**power).mean())
        value, error = found.moment(power)
        assert abs(value - exact) < 5 * error
    # the outliers have 9,218 of the sum of lambda^4, the rest about 200
    assert found.moment(2)[1] < 0.5 * plain.moment(2)[1]


def test_nothing_is_drawn_where_everything_is_known() -> None:
    operator = MatrixOperator(torch.diag(torch.tensor([3.0, -1.0])).double())
    known = [ls.lanczos(operator, k=2)]
    before = operator.num_matvecs
    found = ls.spectral_density(operator, num_vectors=2, known=known)
    assert operator.num_matvecs == before
    assert found.num_matvecs == 0
    torch.testing.assert_close(found.nodes, torch.tensor([[-1.0, 3.0]] * 2).double())
    assert found.weights.tolist() == [[0.5, 0.5]] * 2


def test_known_pairs_that_cannot_be_are_refused() -> None:
    operator = MatrixOperator(with_spectrum(DECAY))
    top = ls.lanczos(operator)
    with pytest.raises(UserError, match="once, got the one of 10 twice"):
        ls.spectral_density(operator, known=[top, ls.lanczos(operator, which="LM")])
    with pytest.raises(UserError, match="of size 3, got vectors of 150"):
        ls.spectral_density(MatrixOperator(torch.eye(3)), known=[top])


def test_with_as_many_steps_as_rows_the_nodes_are_the_eigenvalues() -> None:
    values = torch.tensor([-2.0, -1.0, 0.3, 1.0, 4.0], dtype=torch.float64)
    result = ls.spectral_density(MatrixOperator(with_spectrum(values)), steps=9, num_vectors=3)
    torch.testing.assert_close(result.nodes, values.expand(3, 5), rtol=1e-10, atol=1e-10)
    assert result.num_matvecs == 15


def test_runs_that_end_early_put_no_weight_on_what_they_did_not_see() -> None:
    operator = MatrixOperator(with_spectrum(SPECTRA["two masses"], seed=2))
    result = ls.spectral_density(operator, steps=20, num_vectors=6)
    assert result.num_matvecs == operator.num_matvecs < 6 * 4  # two distinct eigenvalues
    torch.testing.assert_close(result.weights.sum(1), torch.ones(6, dtype=torch.float64))
    share, error = result.cumulative(torch.tensor([1.0]))
    # v'Pv for a uniform v: variance 2 p (1 - p) / (n + 2) a vector
    exact = (2 * 0.8 * 0.2 / (N + 2) / 6) ** 0.5
    # the spread of six is known to a third: a factor of two either way is within three errors
    assert 0.3 < float(error) / exact < 2
    assert abs(float(share) - 0.8) < 4 * exact


def estimates(spectrum: torch.Tensor, estimate) -> list:
    """Return an estimate with each of 60 seeds."""
    operator = MatrixOperator(with_spectrum(spectrum, seed=1))
    return [estimate(operator, seed) for seed in range(60)]


def assert_calibrated(pairs: list[tuple[float, float]], exact: float) -> None:
    """Unbiased, with a squared standard error that is the variance of the estimates on average.

    The mean of the estimates is within four of their standard errors. The variance of 60 skewed
    estimates is known to about a quarter: 0.4 to 2 is more than three standard errors, and a
    standard error that is wrong by a factor of 1.6 shows.
    """
    values, errors = torch.tensor(pairs, dtype=torch.float64).t()
    assert abs(float(values.mean()) - exact) < 4 * float(values.std()) / len(pairs) ** 0.5
    assert 0.4 < float(errors.square().mean() / values.var()) < 2.0


def test_moments_are_unbiased_with_honest_standard_errors(spectrum) -> None:
    def estimate(A, seed):
        return ls.spectral_density(A, num_vectors=10, steps=2, seed=seed)

    densities = estimates(spectrum, estimate)
    for power in (1, 2):
        assert_calibrated([d.moment(power) for d in densities], float((spectrum**power).mean()))


def test_the_smoothed_density_is_that_of_the_prescribed_spectrum() -> None:
    spectrum = SPECTRA["flat"]
    result = ls.spectral_density(
        MatrixOperator(with_spectrum(spectrum)), num_vectors=12, steps=40, seed=1
    )
    grid = torch.linspace(0.2, 1.8, 60, dtype=torch.float64)
    width = 0.1
    expected = torch.distributions.Normal(spectrum[None], width).log_prob(grid[:, None]).exp()
    density, error = result.density(grid, width)
    # 60 correlated points: 4.5 standard errors (12 vectors), and 1e-6 where the error vanishes
    assert ((density - expected.mean(1)).abs() <= 4.5 * error + 1e-6).all()
    area = float(torch.trapezoid(*result.density(result.grid(margin=0.6), width)[:1], dx=1.0))
    step = float(result.grid(margin=0.6).diff()[0])
    assert area * step == pytest.approx(1.0, abs=1e-3)


def test_the_standard_error_of_a_single_vector_is_unknown_not_zero() -> None:
    result = ls.spectral_density(MatrixOperator(with_spectrum(DECAY)), num_vectors=1, steps=5)
    assert result.moment(1)[1] == float("inf")
    for values in result.density(torch.zeros(4), 0.1), result.cumulative(torch.zeros(4)):
        assert [v.shape for v in values] == [(4,), (4,)]
        assert bool((values[1] == float("inf")).all())


def test_hutch_plus_plus_is_unbiased_with_honest_standard_errors(spectrum) -> None:
    if torch.equal(spectrum, SPECTRA["two masses"]):
        pytest.skip("rank 30 of 150: most of it is found exactly, see the next test")

    def estimate(A, seed):
        result = ls.trace(A, max_matvecs=45, seed=seed)
        return result.value, result.standard_error

    assert_calibrated(estimates(spectrum, estimate), float(spectrum.sum()))


def test_a_matrix_of_low_rank_has_its_trace_exactly() -> None:
    values = torch.zeros(N, dtype=torch.float64)
    values[:8] = torch.tensor([5.0, -4.0, 3.0, 2.0, 1.0, 0.5, 0.1, -0.2])
    operator = MatrixOperator(with_spectrum(values, seed=4))
    result = ls.trace(operator, max_matvecs=36)
    assert result.value == pytest.approx(float(values.sum()), rel=1e-10)
    assert result.standard_error < 1e-10
    assert result.num_matvecs == operator.num_matvecs == 36


def test_hutch_plus_plus_beats_random_vectors_alone_where_the_spectrum_decays() -> None:
    errors, plain = [], []
    for seed in range(20):
        matrix = with_spectrum(DECAY, seed=seed)
        errors.append(ls.trace(MatrixOperator(matrix), max_matvecs=60, seed=seed).value)
        signs = torch.randint(0, 2, (60, N), generator=torch.Generator().manual_seed(seed)) * 2.0
        signs = signs.double() - 1
        plain.append(float(((signs @ matrix) * signs).sum(1).mean()))
    exact = float(DECAY.sum())
    rms = [float((torch.tensor(e) - exact).square().mean() ** 0.5) for e in (errors, plain)]
    assert rms[0] < rms[1] / 2


@pytest.mark.parametrize("budget", [37, 60])
def test_a_budget_of_all_rows_makes_the_trace_exact(budget) -> None:
    x, y, _ = regression_data()
    H = ls.HessianOperator(net(), [(x, y)], loss=squares)
    exact = float(dense(H).trace())
    result = ls.trace(H, max_matvecs=budget)
    assert result.value == pytest.approx(exact, rel=1e-10)
    assert (result.standard_error, result.num_matvecs) == (0.0, 37)
    estimated = ls.trace(H, max_matvecs=30)
    # 10 vectors: 5 standard errors of Student's t with 9 degrees have a chance of 7e-4
    assert abs(estimated.value - exact) < 5 * estimated.standard_error


def test_both_are_bit_identical_when_repeated_and_follow_the_seed() -> None:
    operator = MatrixOperator(with_spectrum(DECAY))
    assert ls.trace(operator, seed=3) == ls.trace(operator, seed=3) != ls.trace(operator, seed=4)
    one, two = (ls.spectral_density(operator, num_vectors=2, seed=3) for _ in range(2))
    assert torch.equal(one.nodes, two.nodes)
    assert torch.equal(one.weights, two.weights)
    assert "matvecs" in repr(one)
    assert one.to_dict()["nodes"] == one.nodes.tolist()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda A: ls.trace(A, max_matvecs=5), "at least 6, got 5"),
        (
            lambda A: ls.spectral_density(A, steps=0),
            "steps to be a whole number of at least 1, got 0",
        ),
        (
            lambda A: ls.spectral_density(A, num_vectors=0),
            "num_vectors to be a whole number of at least 1, got 0",
        ),
        (lambda A: ls.spectral_density(A).density(torch.ones(2), 0.0), "positive width"),
        (lambda A: ls.spectral_density(MatrixOperator(A._matrix / 0)), "finite products"),
        (lambda A: ls.trace(MatrixOperator(A._matrix * float("nan"))), "finite products"),
    ],
)
def test_bad_arguments_and_products_are_refused(call, words) -> None:
    with pytest.raises(UserError, match=words):
        call(MatrixOperator(with_spectrum(DECAY)))
