"""Every claim on five seeds and all feature distributions, and its broken twin rejected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from theory import DISTRIBUTIONS, MaskedRegression, bounds, claims, make_problem
from theory.statements import contraction, distance, dynamics, id3, law, lemma, prose, work
from theory.statements.spectral import chernoff_interval
from theory.suite import claim

SEEDS = range(5)
IDS = [c.id for c in claims()]
#: bounds that may say nothing on a small instance; every other claim must decide on it
LOOSE = {"thm-5.1-corrected", "bernstein", "chernoff", "distance-law"}


@cache
def instance(features: str, seed: int) -> MaskedRegression:
    """Return a small instance; kept, so that the masks' Gram matrices are computed once."""
    return make_problem(features, n=4, d=300, p=0.2, seed=seed)


@dataclass(frozen=True)
class Twin:
    """A formula that is wrong in one place, and the distributions on which the error shows."""

    id: str
    error: str
    formula: Callable[..., Any]
    on: tuple[str, ...] = tuple(DISTRIBUTIONS)


#: every formula here is false, and the claim that carries it must be found violated
TWINS = [
    Twin("thm-5.1-corrected", "printed second term", bounds.theorem_51_printed),
    Twin(
        "thm-5.1-corrected",
        "root of the features forgotten",
        lambda n, d, r, delta: bounds.theorem_51_corrected(n, d, r, delta) / d**0.5,
    ),
    Twin(
        "eq-3",
        "exponent t+1, as in the proof of proposition 5.2",
        lambda mask, w0, eta, t: mask.closed_form(w0, eta, t + 1),
    ),
    Twin(
        "eq-3",
        "rate without 1/n",
        lambda mask, w0, eta, t: mask.closed_form(w0, eta * mask.n, t),
    ),
    Twin(
        "eq-3",
        "decays to 0, not to the solution",
        lambda mask, w0, eta, t: mask.closed_form(w0, eta, t) - mask.minimum_norm(),
    ),
    Twin("prop-5.2", "factor 2 missing", lambda n, top: n / top),
    Twin("prop-5.2", "samples missing", lambda n, top: 2 / top),
    Twin("prop-5.2", "too high by 1e-5", lambda n, top: 2 * n / top * (1 + 1e-5)),
    Twin(
        "prop-5.3",
        "equality without the signal term",
        lambda mask, signal, sigma: 2 * (distance.noise_term(mask.eigenvalues, sigma),),
        tuple(set(DISTRIBUTIONS) - {"geometric", "near-duplicate"}),  # 1e-12 of the noise term
    ),
    Twin(
        "prop-5.3",
        "noise term doubled",
        lambda mask, signal, sigma: tuple(
            value + distance.noise_term(mask.eigenvalues, sigma)
            for value in distance.expected_distance(mask, signal, sigma)
        ),
    ),
    Twin(
        "prop-5.3",
        "bound above the identity",
        lambda mask, signal, sigma: (
            distance.expected_distance(mask, signal, sigma)[0],
            1.001 * distance.expected_distance(mask, signal, sigma)[0],
        ),
    ),
    Twin("thm-5.1-usefulness", "constant 1 % too large", lambda n, d: 2.02 * (2 * n / d) ** 0.5),
    Twin("thm-5.1-usefulness", "no root", lambda n, d: 2 * (2 * n / d) ** 0.25),
    Twin("thm-5.1-usefulness", "one root of n too many", lambda n, d: 2 * n * (2 / d) ** 0.5),
    Twin(
        "thm-5.1-corrected",
        "0.4 times the bound",
        lambda n, d, r, delta: 0.4 * bounds.theorem_51_corrected(n, d, r, delta),
    ),
    Twin(
        "bernstein",
        "without the factor 2n",
        lambda m, p, delta: bounds.bernstein(m, p, 2 * len(m.gram) * delta),
    ),
    Twin(
        "bernstein",
        "without L",
        lambda m, p, delta: bounds.bernstein(replace(m, max_norm2=0.0), p, delta),
    ),
    Twin(
        "bernstein",
        "L/2",
        lambda m, p, delta: bounds.bernstein(replace(m, max_norm2=m.max_norm2 / 2), p, delta),
    ),
    Twin(
        "bernstein",
        "0.6 times the bound",
        lambda m, p, delta: 0.6 * bounds.bernstein(m, p, delta),
    ),
    Twin(
        "chernoff",
        "L/2",
        lambda m, p, delta: chernoff_interval(replace(m, max_norm2=m.max_norm2 / 2), p, delta),
    ),
    Twin(
        "chernoff",
        "upper end without the factor n",
        lambda m, p, delta: replace(
            chernoff_interval(m, p, delta),
            top_high=p * m.top * bounds.chernoff_upper(p * m.top, m.max_norm2, delta / 2, 1),
        ),
    ),
    Twin(
        "chernoff",
        "lower end of lambda_n without the factor n",
        lambda m, p, delta: replace(
            chernoff_interval(m, p, delta),
            bottom_low=max(0.0, p * float(m.eigenvalues[-1]))
            * bounds.chernoff_lower(p * float(m.eigenvalues[-1]), m.max_norm2, delta, 1),
        ),
    ),
    Twin(
        "distance-law",
        "without the factor n",
        lambda whole, tau, n, p, delta: law.distance_interval(whole, tau, 1, p, delta),
    ),
    Twin(
        "distance-law",
        "half the leverage",
        lambda whole, tau, n, p, delta: law.distance_interval(whole, tau / 2, n, p, delta),
    ),
    Twin(
        "distance-law",
        "0.3 times as wide in the logarithm",
        lambda whole, tau, n, p, delta: tuple(
            whole / p * (end * p / whole) ** 0.3
            for end in law.distance_interval(whole, tau, n, p, delta)
        ),
    ),
    Twin(
        "cor-distance",
        "1 % too high",
        lambda sigma, rank, p, norm2: 1.01 * distance.distance_floor(sigma, rank, p, norm2),
    ),
    Twin(
        "lemma-a.1",
        "0.9 times the exponent",
        lambda t, sum_a2, d, n, r: (
            0.9 * t**2 * sum_a2 / 8,
            lemma.log_moment_bound(t, sum_a2, d, n, r)[1],
        ),
    ),
    Twin("net-lemma", "below the circle's worst net", lambda n: (1.03, 17**n)),
    Twin("net-lemma", "too few points", lambda n: (2.0, 5**n)),
    Twin(
        "bernstein",
        "one standard deviation, no confidence term",
        lambda m, p, delta: (p * (1 - p) * bounds.weighted_norm(m)) ** 0.5,
    ),
    Twin(
        "bernstein",
        "units: the square root of the deviation",
        lambda m, p, delta: bounds.bernstein(m, p, delta) ** 0.5,
    ),
    Twin(
        "chernoff",
        "upper end at the mean",
        lambda m, p, delta: replace(chernoff_interval(m, p, delta), top_high=p * m.top),
    ),
    Twin(
        "chernoff",
        "lower end of lambda_1 above its mean",
        lambda m, p, delta: replace(chernoff_interval(m, p, delta), top_low=1.3 * p * m.top),
    ),
    Twin(
        "chernoff",
        "lambda_n as large as its mean",
        lambda m, p, delta: replace(
            chernoff_interval(m, p, delta), bottom_low=p * float(m.eigenvalues[-1])
        ),
    ),
    Twin(
        "lemma-a.1",
        "1/16 for the 1/8 of Hoeffding's lemma",
        lambda t, sum_a2, d, n, r: (
            t**2 * sum_a2 / 16,
            lemma.log_moment_bound(t, sum_a2, d, n, r)[1],
        ),
    ),
    Twin(
        "lemma-a.1",
        "sum over the d features forgotten in the last step",
        lambda t, sum_a2, d, n, r: lemma.log_moment_bound(t, sum_a2, 1, n, r),
    ),
    Twin("net-lemma", "a net loses nothing", lambda n: (1.0, 17**n)),
    Twin(
        "trace-identity",
        "p^2 in the trace",
        lambda p, s2, s4: (p * p * s2, p * (1 - p) * s4),
    ),
    Twin("trace-identity", "variance p^2", lambda p, s2, s4: (p * s2, p * p * s4)),
    Twin(
        "trace-identity",
        "trace off by 1e-9",
        lambda p, s2, s4: (p * s2 * (1 + 1e-9), p * (1 - p) * s4),
    ),
    Twin(
        "cor-distance",
        "mean column in place of the Frobenius norm",
        lambda sigma, rank, p, norm2: 300 * distance.distance_floor(sigma, rank, p, norm2),
    ),
    Twin(
        "distance-law",
        "distance in place of its square: p^2",
        lambda whole, tau, n, p, delta: law.distance_interval(whole / p, tau, n, p, delta),
    ),
    Twin(
        "distance-law",
        "mean leverage n/d, divided by d once more",
        lambda whole, tau, n, p, delta: law.distance_interval(whole, n / 300**2, 1, p, delta),
    ),
    Twin("finite-time", "one step late", lambda mask, eta, t: mask.filtered(eta, t + 1)),
    Twin("finite-time", "twice the rate", lambda mask, eta, t: mask.filtered(2 * eta, t)),
    Twin(
        "finite-time",
        "square of the distance",
        lambda mask, eta, t: (mask.filtered(eta, t)[0], mask.filtered(eta, t)[1] ** 2),
    ),
    Twin("momentum", "no momentum", lambda n, top, beta: dynamics.gd_threshold(n, top)),
    Twin("momentum", "sign of beta", lambda n, top, beta: 2 * (1 - beta) * n / top),
    Twin("momentum", "too low by 1e-5", lambda n, top, beta: 2 * (1 + beta) * n / top * (1 - 1e-5)),
    Twin("adam", "heavy ball's threshold", lambda top, beta: 2 * (1 + beta) / top),
    Twin("adam", "plain gradient descent's threshold", lambda top, beta: 2 / top),
    Twin(
        "adam",
        "too high by 1e-5",
        lambda top, beta: dynamics.adam_threshold(top, beta) * (1 + 1e-5),
    ),
    Twin(
        "id3-thm-1-corrected",
        "eps forgotten",
        lambda theta, eps, exponent: np.abs(theta) ** -exponent,
    ),
    Twin(
        "id3-thm-1-corrected",
        "sign of the exponent",
        lambda theta, eps, exponent: id3.heuristic_factor(theta, eps, -exponent),
    ),
    Twin(
        "thm-5.1-needed-d",
        "n^2 for n^3",
        lambda n, p: (prose.needed_columns(n, p)[0], 1152 * n**2 / p**2),
    ),
    Twin("thm-5.1-needed-d", "the mean forgotten", lambda n, p: 2 * (1152 * n**3 / p**2,)),
    Twin(
        "thm-5.1-needed-d",
        "p for p^2",
        lambda n, p: tuple(p * d for d in prose.needed_columns(n, p)),
    ),
    Twin("id3-updates", "as many as static", lambda b, t: (t * b, t * b)),
    Twin("id3-updates", "first batch not counted", lambda b, t: (t * b, b * (t - 1) // 2)),
]

#: a claim known to be false with its error repaired: the verifier must no longer refute it
REPAIRS: dict[str, tuple[str, Callable[..., Any]]] = {
    "thm-5.1-printed": ("second term the right way up", bounds.theorem_51_corrected),
    "thm-5.1-every-n": (
        "second term the right way up",
        lambda n, d, r, log: (8 * d * n**3 * r**4, 2 * log * d * n**2 * r**4),
    ),
    "thm-5.1-sharp": (
        "each eigenvalue in place of the trace",
        lambda bound, eigenvalues, p: bound / (p * eigenvalues),
    ),
    "prop-5.2-norm": ("at most 1", lambda eta, positive, steps: 1),
    "prop-5.2-limit": (
        "with the kernel's component of w_0",
        lambda x, y, w0: tuple(
            w + (y - contraction.dot(x, w0)) * xi / contraction.dot(x, x) for xi, w in zip(x, w0)
        ),
    ),
    "sparser-is-farther": (
        "only where p d is at least 4 n",
        lambda copies, p: int(p * copies >= 4),
    ),
    "id3-thm-1": (
        "absolute value of the exponent",
        lambda theta, eps, exponent: id3.heuristic_factor(theta, eps, abs(exponent)),
    ),
    "id3-importance": (
        "order by the information itself",
        lambda heuristics, information: int(np.argmax([float(i) for i in information])),
    ),
    "id3-literal": ("first batch not counted", lambda b, t: (t * b, b * (t - 1) // 2)),
    "id3-sums": (
        "T terms, and u_i inside",
        lambda u: (len(u) * sum(u), sum(sum(u[: t + 1]) for t in range(len(u)))),
    ),
    "id3-sign": ("minus", lambda w, gradient, eta: w - eta * gradient),
    "id3-work": (
        "the ratio counted",
        lambda *size: work.work_of(*size, grows=True) / work.work_of(*size, grows=False),
    ),
}


@pytest.mark.parametrize("features", DISTRIBUTIONS)
@pytest.mark.parametrize("claim_id", IDS)
def test_a_true_claim_is_never_violated_and_a_false_one_always_is(
    claim_id: str, features: str
) -> None:
    for seed in SEEDS:
        result = claim(claim_id).verify(instance(features, seed), seed)
        assert not result.surprising, f"seed {seed}: {result.finding}"


@pytest.mark.parametrize("twin", TWINS, ids=lambda t: f"{t.id}: {t.error}")
def test_a_claim_with_one_error_in_its_formula_is_violated(twin: Twin) -> None:
    broken = claim(twin.id).twin(twin.formula)
    for features in twin.on:
        for seed in SEEDS:
            result = broken.verify(instance(features, seed), seed)
            assert result.verdict == "violated", f"{features}, seed {seed}: {result.finding}"


@pytest.mark.parametrize("claim_id", REPAIRS)
def test_a_false_claim_with_its_error_repaired_is_no_longer_violated(claim_id: str) -> None:
    repaired = claim(claim_id).twin(REPAIRS[claim_id][1])
    for features in DISTRIBUTIONS:
        for seed in SEEDS:
            result = repaired.verify(instance(features, seed), seed)
            assert result.verdict != "violated"
            assert result.surprising  # it is listed as false


def test_every_claim_has_a_twin_or_a_repair() -> None:
    assert {twin.id for twin in TWINS} | set(REPAIRS) == set(IDS)
    assert set(REPAIRS) == {c.id for c in claims() if c.expected == "violated"}


def test_the_errors_that_a_claim_names_are_those_that_are_rejected_here() -> None:
    for c in claims():
        here = [twin.error for twin in TWINS if twin.id == c.id]
        here += [REPAIRS[c.id][0]] if c.id in REPAIRS else []
        assert sorted(c.rejects) == sorted(here), c.id


@pytest.mark.parametrize("claim_id", sorted(set(IDS) - LOOSE))
def test_an_exact_claim_decides_on_every_distribution(claim_id: str) -> None:
    verdicts = {claim(claim_id).verify(instance(name, 0), 0).verdict for name in DISTRIBUTIONS}
    assert verdicts == {claim(claim_id).expected}


@pytest.mark.parametrize("claim_id", sorted(LOOSE))
@pytest.mark.parametrize("features", ["uniform", "rademacher"])
def test_a_loose_bound_decides_where_there_are_many_features(claim_id: str, features: str) -> None:
    problem = make_problem(features, n=2, d=5000, p=0.3)
    assert claim(claim_id).verify(problem).verdict == "holds"


def test_the_same_seed_gives_the_same_finding_and_another_seed_another() -> None:
    for name in ("trace-identity", "eq-3"):
        first, again, other = (
            claim(name).verify(make_problem("student", n=3, d=80, p=0.4), seed).finding
            for seed in (1, 1, 2)
        )
        assert first == again
        assert first != other
