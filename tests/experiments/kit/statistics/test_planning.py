"""Power against scipy's noncentral t, against simulation and Cohen's numbers of subjects."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from experiments.kit.statistics import detectable, power, seeds_needed, unpaired


@pytest.mark.parametrize("freedom", [1, 1.7, 4, 33, 999])
@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0, -4.0])
def test_the_power_is_that_of_scipys_noncentral_t_where_scipy_has_one(shift, freedom) -> None:
    t, theirs = stats.t.ppf(0.975, freedom), stats.nct(freedom, abs(shift))
    assert power(shift, freedom) == pytest.approx(theirs.sf(t) + theirs.cdf(-t), rel=1e-10)


def test_the_power_grows_with_the_shift_to_one() -> None:
    found = [power(shift, 2) for shift in (0, 1, 5, 10, 20, 60, 1000)]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(1, abs=1e-9)


def test_a_difference_that_could_be_shown_is_shown_in_80_percent_of_studies() -> None:
    delta = detectable(2.0 / math.sqrt(5), 4)
    drawn = np.random.default_rng(0).normal(delta, 2.0, (4000, 5))
    shown = (stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean()
    assert abs(shown - 0.8) < 3 * math.sqrt(0.8 * 0.2 / 4000)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 50])
def test_scipys_noncentral_t_has_power_80_percent_at_what_could_be_shown(n) -> None:
    effect, t = detectable(3.0 / math.sqrt(n), n - 1) / 3.0, stats.t.ppf(0.975, n - 1)
    theirs = stats.nct(n - 1, effect * math.sqrt(n))
    assert theirs.sf(t) + theirs.cdf(-t) == pytest.approx(0.8, abs=1e-7)


def test_without_a_spread_nothing_is_said_of_what_could_be_shown() -> None:
    assert math.isnan(detectable(math.nan, 4))
    assert math.isnan(detectable(0.0, 4))


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_seeds_needed_are_cohens_and_one_fewer_does_not_suffice(effect, n) -> None:
    assert seeds_needed(effect, 1.0) == n == seeds_needed(-10 * effect, 10.0)
    assert power(effect * math.sqrt(n), n - 1) >= 0.8 > power(effect * math.sqrt(n - 1), n - 2)


def test_no_seeds_settle_what_is_zero_or_has_no_spread() -> None:
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(1.0, 0.0) is None
    assert seeds_needed(1.0, math.nan) is None
    assert seeds_needed(0.01, 1.0) is None
    assert seeds_needed(1e6, 1.0) == 2


def test_unpaired_arms_need_cohens_64_seeds_each_for_a_medium_effect() -> None:
    one = [-1.0, 1.0, -1.0, 1.0]
    deviation = float(np.std(one, ddof=1))
    found = unpaired([x + deviation / 2 for x in one], one)
    assert found.needed == 64
    n, effect = 4, found.could_show / deviation
    drawn = np.random.default_rng(1).normal(0, 1, (2, 4000, n))
    shown = (stats.ttest_ind(drawn[0] + effect, drawn[1], axis=1).pvalue < 0.05).mean()
    assert abs(shown - 0.8) < 3 * math.sqrt(0.8 * 0.2 / 4000)
