"""Sign-flip tests and Holm's adjustment against scipy and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from experiments.kit.statistics import holm, sign_flips
from landscape.errors import UserError


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_the_exact_p_is_scipys_permutation_test_of_pairs(n) -> None:
    d = np.random.default_rng(n).normal(0.5, 1, n)
    theirs = stats.permutation_test(
        (d,),
        lambda x, axis: np.abs(np.sum(x, axis)),
        permutation_type="samples",
        alternative="greater",
    )
    assert sign_flips(d.tolist()).p == pytest.approx(theirs.pvalue, abs=1e-12)


def test_ties_that_differ_by_rounding_count() -> None:
    # 0.1 + 0.2 - 0.3 and its like: in tenths, sums of ±1 ±2 ±3 ±4 reach |4| in ten patterns of 16
    d = [0.1, 0.2, -0.3, 0.4]
    hits = sum(abs(sum(s)) >= 4 for s in itertools.product(*((k, -k) for k in (1, 2, 3, 4))))
    assert sign_flips(d).p == hits / 16
    assert sign_flips([x * 1e-7 for x in d]).p == hits / 16


def test_no_seeds_so_few_reach_five_percent_before_six() -> None:
    assert [sign_flips([1.0 + k for k in range(n)]).smallest for n in (2, 3, 5, 6)] == [
        0.5, 0.25, 0.0625, 0.03125,
    ]  # fmt: skip
    assert sign_flips([1.0, 0.0, 2.0]).smallest == 0.5
    assert sign_flips([0.0, 0.0]).p == sign_flips([0.0, 0.0]).smallest == 1.0


def test_a_sampled_p_agrees_with_the_exact_one_of_a_binomial() -> None:
    # 17 equal differences, 13 of them positive: |sum| >= 9 is a binomial tail at both ends
    d = [1.0] * 13 + [-1.0] * 4
    exact = 2 * stats.binom.sf(12, 17, 0.5)
    found = sign_flips(d)
    assert not found.exact
    assert abs(found.p - exact) < 4 * math.sqrt(exact / 100_000)
    assert sign_flips(d) == found
    assert sign_flips(d, seed=2) != found
    assert sign_flips([1.0] * 40).p == pytest.approx(1e-5, rel=1e-4) == sign_flips(d * 3).smallest


def test_sixteen_seeds_are_still_exact() -> None:
    found = sign_flips([1.0] * 16)
    assert (found.p, found.exact) == (2.0**-15, True)


def test_arms_alike_are_told_apart_in_five_percent_at_most() -> None:
    drawn = np.random.default_rng(0).standard_cauchy((1000, 6))  # a spread that t cannot have
    rate = np.mean([sign_flips(row).p <= 0.05 for row in drawn.tolist()])
    assert abs(rate - 2 / 64) < 3 * math.sqrt(2 / 64 / 1000)


def test_holm_is_the_closed_test_of_bonferroni() -> None:
    p = dict(zip("abcd", (0.011, 0.02, 0.04, 0.5), strict=True))
    # a hypothesis is rejected at the largest Bonferroni p of all intersections that hold it
    subsets = [s for k in range(1, 5) for s in itertools.combinations(p, k)]
    closed = {
        name: max(min(1.0, len(s) * min(p[x] for x in s)) for s in subsets if name in s)
        for name in p
    }
    assert holm(p) == pytest.approx(closed)


def test_a_finding_without_p_counts_in_its_family_and_stays_without() -> None:
    found = holm({"a": 0.02, "b": math.nan, "c": 0.5})
    assert (found["a"], found["c"]) == (0.06, 1.0)
    assert math.isnan(found["b"])
    assert holm({}) == {}


def test_no_differences_are_refused() -> None:
    with pytest.raises(UserError, match="got none among 0"):
        sign_flips([])
