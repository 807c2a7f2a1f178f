"""Every claim on five seeds and all feature distributions, and its broken twin rejected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from theory import DISTRIBUTIONS, MaskedRegression, bounds, claims, make_problem
from theory.claims import distance
from theory.suite import claim

SEEDS = range(5)
IDS = [c.id for c in claims()]
FALSE = {"thm-5.1-printed"}


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
        "equality as the paper's proof writes it: no signal term",
        lambda mask, signal, sigma: distance.noise_term(mask.eigenvalues, sigma),
    ),
    Twin(
        "prop-5.3",
        "sigma in place of its square",
        lambda mask, signal, sigma: sigma / 2 * (1 / mask.eigenvalues).sum(),
    ),
]


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


def test_the_printed_theorem_with_its_error_repaired_is_no_longer_violated() -> None:
    repaired = claim("thm-5.1-printed").twin(bounds.theorem_51_corrected)
    for seed in SEEDS:
        result = repaired.verify(instance("uniform", seed), seed)
        assert result.verdict != "violated"
        assert result.surprising  # it was listed as false
