"""Geometric means and slopes of logarithms against scipy and power laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from experiments.kit.statistics import geometric_mean, slope
from landscape.errors import UserError

RATIOS = (1e-5, 1e-4, 1e-2)


def test_a_geometric_mean_and_its_interval_are_scipys_on_logarithms() -> None:
    values = [1e-4, 3e-3, 2e-2, 5e-5]
    found = geometric_mean(values)
    logs = np.log(values)
    ends = np.exp(stats.t.interval(0.95, 3, logs.mean(), stats.sem(logs)))
    assert found.value == pytest.approx(stats.gmean(values))
    assert (found.low, found.high) == pytest.approx(tuple(ends))
    assert found.how == "logarithms of 4 seeds, t"


def test_a_geometric_mean_refuses_what_has_no_logarithm() -> None:
    for bad in ([1.0, 0.0], [1.0, -2.0]):
        with pytest.raises(UserError, match="expected numbers above zero"):
            geometric_mean(bad)


def test_the_slope_is_the_mean_of_the_seeds_slopes_with_t_over_seeds() -> None:
    rng = np.random.default_rng(0)
    curves = {
        s: {x: float(np.exp(rng.standard_normal())) * x**-0.5 for x in RATIOS} for s in range(4)
    }
    each = [
        stats.linregress(np.log(list(c)), np.log(list(c.values()))).slope for c in curves.values()
    ]
    found = slope(curves)
    assert found.value == pytest.approx(np.mean(each))
    low, high = stats.t.interval(0.95, 3, np.mean(each), stats.sem(each))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.n, found.how) == (4, "4 slopes, t, one a seed")


def test_points_of_a_seed_are_no_repetitions() -> None:
    # a level and a slope for each seed, and many places without noise: n stays three
    places = np.geomspace(1e-5, 1e-1, 50)
    curves = {
        s: {x: (s + 1.0) * x**power for x in places} for s, power in enumerate((-0.5, -0.3, 0.1))
    }
    found = slope(curves)
    assert found.n == 3
    assert found.low < 0 < found.high
    assert found.value == pytest.approx(-0.7 / 3)


def test_a_single_seed_falls_back_to_its_points_and_says_so() -> None:
    x, y = [1.0, 2.0, 4.0, 8.0], [1.1, 1.9, 4.2, 7.7]
    fit = stats.linregress(np.log(x), np.log(y))
    half = stats.t.ppf(0.975, 2) * fit.stderr
    one = slope({0: dict(zip(x, y, strict=True))})
    each = slope({s: {a: b} for s, (a, b) in enumerate(zip(x, y, strict=True))})
    for found in (one, each):
        assert (found.value, found.low, found.high) == pytest.approx(
            (fit.slope, fit.slope - half, fit.slope + half)
        )
        assert found.n == 4
    assert one.how == "4 points of 1 seed, least squares"
    assert each.how == "4 points of 4 seeds, least squares"


def test_a_seed_that_lacks_a_place_is_left_out_and_told() -> None:
    whole = {x: x**-0.5 for x in RATIOS}
    bent = {s: {x: y * (1 + s * x) for x, y in whole.items()} for s in range(3)}
    found = slope(bent | {9: {1e-2: 1e9}})
    assert found.value == pytest.approx(slope(bent).value)
    assert found.how.endswith("1 left out: incomplete")
    assert slope({0: bent[1], 9: {1e-2: 1e9}}).how.endswith("1 left out: incomplete")


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_points_on_one_line_exactly_have_a_slope_and_no_interval(seeds) -> None:
    found = slope({s: {x: 3 * x**-0.5 for x in RATIOS} for s in range(seeds)})
    assert found.value == pytest.approx(-0.5)
    assert math.isnan(found.low)
    two = slope({0: {1.0: 1.0, 10.0: 3.0}})
    assert math.isnan(two.high)


def test_curves_without_two_places_or_a_whole_seed_are_refused() -> None:
    with pytest.raises(UserError, match="expected a curve over two places"):
        slope({0: {1e-2: 1.0}, 1: {1e-2: 2.0}})
    with pytest.raises(UserError, match="expected a seed with all 3 places"):
        slope({0: {1.0: 1.0, 2.0: 1.0}, 1: {2.0: 1.0, 3.0: 1.0}})
    with pytest.raises(UserError, match="expected numbers above zero"):
        slope({0: {1.0: 1.0, 2.0: 0.0}, 1: {1.0: 1.0, 2.0: 2.0}})
