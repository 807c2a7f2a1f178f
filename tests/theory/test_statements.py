"""Every claim on five seeds and all feature distributions, and its broken twin rejected."""

from __future__ import annotations

from functools import cache

import pytest
from twins import distance, dynamics, id3, spectral, theorem51
from twins.repairs import REPAIRS
from twins.twin import Twin

from theory import DISTRIBUTIONS, MaskedRegression, claims, make_problem
from theory.suite import claim

SEEDS = range(5)
IDS = [c.id for c in claims()]
#: bounds that may say nothing on a small instance; every other claim must decide on it
LOOSE = {
    "thm-5.1-corrected", "thm-5.1-sharp", "bernstein", "chernoff", "distance-law", "heavy-light",
    "top-below", "sign-rate", "sgd-rate",
}  # fmt: skip
#: laws of some features only, vacuous on all others
ASSUMING = {"step-gaussian", "step-isotropic", "distance-haar", "distance-leverage"}


@cache
def instance(features: str, seed: int) -> MaskedRegression:
    """Return a small instance; kept, so that the masks' Gram matrices are computed once."""
    return make_problem(features, n=4, d=300, p=0.2, seed=seed)


#: every formula here is false, or not the best: the claim that carries it must be found violated
TWINS = [
    *theorem51.TWINS, *spectral.TWINS, *dynamics.TWINS, *distance.TWINS, *id3.TWINS
]  # fmt: skip


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


@pytest.mark.parametrize("claim_id", sorted(set(IDS) - LOOSE - ASSUMING))
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
