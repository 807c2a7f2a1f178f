"""Sharp constants: against mpmath's moments, an explicit minimum, and exact binomials."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scipy import optimize, stats

from theory import bounds, make_problem
from theory.statements import net
from theory.statements.sharp import (
    best_constant,
    net_loss,
    net_points,
    sharp_excess,
    sub_gaussian,
    theorem_51_sharp,
)
from theory.suite import claim


@pytest.mark.parametrize("radius", [0.01, 1 / 8, 0.5])
@pytest.mark.parametrize("n", [2, 3, 6])
def test_a_net_sees_at_least_the_cosine_of_twice_its_angle(n: int, radius: float) -> None:
    """A top eigenvector and any unit vector within the radius of it, for the worst other end."""
    rng, angle = np.random.default_rng(n), 2 * math.asin(radius / 2)
    assert net_loss(radius) == pytest.approx(math.cos(2 * angle), rel=1e-12)
    values = np.append(1.0, np.append(rng.uniform(-1, 1, n - 2), -1.0))
    for _ in range(200):
        other = rng.standard_normal(n) * [0, *np.ones(n - 1)]
        turn = angle * rng.random()
        v = math.cos(turn) * np.eye(n)[0] + math.sin(turn) * other / np.linalg.norm(other)
        assert v @ (values * v) >= net_loss(radius) - 1e-12
    worst = math.cos(angle) * np.eye(n)[0] + math.sin(angle) * np.eye(n)[-1]
    assert worst @ (values * worst) == pytest.approx(net_loss(radius), rel=1e-12)
    assert np.linalg.norm(worst - np.eye(n)[0]) == pytest.approx(radius, rel=1e-9)


def test_the_points_of_a_net_are_what_a_shell_holds() -> None:
    for n, radius in ((1, 0.3), (2, 1 / 8), (3, 0.5), (7, 0.2)):
        half = radius / 2
        shell = ((1 + half) ** n - (1 - half) ** n) / half**n
        assert net_points(n, radius) == pytest.approx(shell, rel=1e-12)
        assert net_points(n, radius) < (1 + 2 / radius) ** n
    assert net.net_bound(3) == (pytest.approx(1.032128, abs=1e-6), 1538)


@pytest.mark.parametrize(("n", "d", "r", "delta"), [(2, 50, 1.0, 0.05), (32, 1000, 0.5, 1e-9)])
def test_the_sharp_bound_is_the_best_net_and_inverts_its_own_tail(
    n: int, d: int, r: float, delta: float
) -> None:
    size = d * n**2 * r**4

    def at(radius: float) -> float:
        entropy = math.log(net_points(n, radius) / delta)
        return math.sqrt(size * entropy / 2) / net_loss(radius)

    best = optimize.minimize_scalar(at, bounds=(1e-3, 0.7), method="bounded")
    said = theorem_51_sharp(n, d, r, delta)
    assert said == pytest.approx(best.fun, rel=1e-4)
    tail = net_points(n, best.x) * math.exp(-2 * (net_loss(best.x) * said) ** 2 / size)
    assert tail == pytest.approx(delta, rel=0.02)
    closed = math.sqrt(size * (1.42 * n + 0.62 * math.log(1 / delta)))
    assert said <= closed < bounds.theorem_51_corrected(n, d, r, delta) / 1.6


def test_the_constants_in_the_statement_are_those_of_e_022_rounded_up() -> None:
    twice = 2 * net_loss(0.22) ** 2
    assert (math.log1p(2 / 0.22) / twice, 1 / twice) == pytest.approx((1.4131, 0.6113), abs=1e-4)
    many = [math.log1p(2 / e) / (2 * net_loss(e) ** 2) for e in np.linspace(0.1, 0.4, 301)]
    assert min(many) == pytest.approx(1.4124, abs=1e-4)
    # the first terms alone: 2 sqrt(2 n S) against sqrt(1.42 n S)
    assert 2 * math.sqrt(2 / 1.42) == pytest.approx(2.37, abs=0.01)


def test_for_one_sample_it_is_hoeffdings_bound() -> None:
    for delta in (0.5, 1e-3, 1e-30):
        hoeffding = 4 * math.sqrt(70 * math.log(2 / delta) / 2)
        assert theorem_51_sharp(1, 70, 2.0, delta) == pytest.approx(hoeffding, rel=1e-9)


def test_the_sharp_bound_survives_exact_binomials_and_097_of_it_does_not() -> None:
    assert not sharp_excess(theorem_51_sharp).refutes
    assert sharp_excess(lambda n, d, r, e: 0.97 * theorem_51_sharp(n, d, r, e)).refutes
    deep = 0.97 * theorem_51_sharp(1, 10_000, 1.0, 1e-100)
    tail = 2 * stats.binom.sf(math.ceil(5000 + deep) - 1, 10_000, 0.5)
    assert tail > 1e-100


@pytest.mark.parametrize("p", [1e-5, 0.01, 0.3, 0.5, 0.8, 0.99])
def test_kearns_and_sauls_constant_bounds_every_moment_and_is_attained(p: float) -> None:
    odds = math.log((1 - p) / p)
    with mpmath.workdps(40):
        q = mpmath.mpf(p)
        for t in {2 * odds, *np.linspace(-30, 30, 61).tolist()} - {0.0}:
            moment = mpmath.log(1 - q + q * mpmath.exp(t)) - q * t
            assert float(2 * moment / t**2) <= sub_gaussian(p) * (1 + 1e-12)
        if odds:
            t = 2 * odds
            moment = mpmath.log(1 - q + q * mpmath.exp(t)) - q * t
            assert float(2 * moment / t**2) == pytest.approx(sub_gaussian(p), rel=1e-12)
    assert p * (1 - p) <= sub_gaussian(p) <= 0.25
    assert sub_gaussian(p) == pytest.approx(sub_gaussian(1 - p), rel=1e-9)
    assert best_constant(p)[1] == pytest.approx(sub_gaussian(p), rel=1e-3)


def test_sub_gaussian_proofs_shrink_like_one_over_log_and_not_like_p() -> None:
    for p in (1e-3, 1e-6, 1e-12):
        assert sub_gaussian(p) * 2 * math.log(1 / p) == pytest.approx(1, abs=3 * p**0.5)
    assert sub_gaussian(1e-5) == pytest.approx(0.0434, abs=5e-5)
    assert sub_gaussian(0.0) == sub_gaussian(1.0) == 0.0
    near = 0.5 - 1e-9  # no digits are lost where both of its parts vanish
    assert sub_gaussian(near) == pytest.approx(0.25, rel=1e-12)


def test_the_net_is_certified_once_and_sampled_by_name() -> None:
    net.certificate.cache_clear()
    for features in ("uniform", "gaussian"):
        finding = claim("net-lemma").verify(make_problem(features, n=3, d=60)).finding
        assert finding.method == "Monte Carlo"
        assert finding.prediction == pytest.approx(finding.details["attained at n = 2"], rel=1e-9)
        assert finding.details["on sampled Q"] < finding.prediction
    assert net.certificate.cache_info().misses == 1
