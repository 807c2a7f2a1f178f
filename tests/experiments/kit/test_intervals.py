"""Intervals and exponents against tables, normal equations and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from experiments.kit.intervals import describe_margin, exponent, interval, margins, mean_std


@pytest.mark.parametrize("power", [1.0, -0.5, 0.0])
def test_the_exponent_of_a_power_law_is_its_power_without_error(power) -> None:
    x = [1e-5, 1e-4, 1e-2]
    fit = exponent(x, [3 * value**power for value in x])
    assert fit.value == pytest.approx(power, abs=1e-12)
    assert fit.error == pytest.approx(0, abs=1e-7)
    assert (fit.low, fit.high) == pytest.approx((power, power), abs=1e-6)


def test_the_exponent_and_its_error_equal_the_normal_equations() -> None:
    rng = np.random.default_rng(0)
    x, y = np.exp(rng.standard_normal(20)), np.exp(rng.standard_normal(20))
    design = np.stack([np.ones(20), np.log(x)], axis=1)
    fit, (squares,), *_ = np.linalg.lstsq(design, np.log(y))
    covariance = np.linalg.inv(design.T @ design) * squares / 18
    found = exponent(x.tolist(), y.tolist())
    assert found.value == pytest.approx(fit[1], rel=1e-9)
    assert found.error == pytest.approx(math.sqrt(covariance[1, 1]), rel=1e-9)


def test_two_points_fit_an_exponent_without_an_error_and_one_place_none() -> None:
    fit = exponent([1.0, 10.0], [1.0, 100.0])
    assert fit.value == pytest.approx(2)
    assert math.isnan(fit.error)
    assert math.isnan(fit.low)
    assert math.isnan(exponent([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).value)


def test_mean_and_deviation_are_those_of_numpy_and_one_run_has_no_deviation() -> None:
    values = [0.5, 0.75, 0.6]
    assert mean_std(values, ".4f") == f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"
    assert mean_std([0.5]) == "0.5"


def test_the_interval_of_a_mean_is_students() -> None:
    mean, low, high = interval([1.0, 2.0, 3.0])
    # t(0.975, 2) = 4.302652729696, s = 1: the table's value
    assert mean == 2.0
    assert high - 2 == pytest.approx(4.302652729696 / 3**0.5, rel=1e-9)
    assert 2 - low == pytest.approx(4.302652729696 / 3**0.5, rel=1e-9)
    assert "undecided" in describe_margin([-1.0, 1.0, 0.5])
    assert "undecided" not in describe_margin([1.0, 1.1, 1.05])


def test_an_interval_of_equal_values_has_no_width() -> None:
    assert interval([0.25, 0.25, 0.25]) == (0.25, 0.25, 0.25)


def test_the_interval_of_an_exponent_is_students() -> None:
    x, y = [1.0, 2.0, 4.0, 8.0], [1.1, 1.9, 4.2, 7.7]
    found = exponent(x, y)
    fit = stats.linregress([math.log(v) for v in x], [math.log(v) for v in y])
    half = stats.t.ppf(0.975, 2) * fit.stderr
    ends = (found.value, found.low, found.high)
    assert ends == pytest.approx((fit.slope, fit.slope - half, fit.slope + half), rel=1e-9)


def test_margins_pair_ratio_and_seed_and_leave_out_what_has_no_partner() -> None:
    rows = [
        {"arm": arm, "ratio": ratio, "seed": seed, "value": value}
        for arm, ratio, seed, value in (
            ("a", 0.1, 0, 5.0), ("b", 0.1, 0, 3.0), ("a", 0.1, 1, 9.0), ("b", 0.2, 1, 1.0),
            ("c", 0.1, 0, 7.0),
        )
    ]  # fmt: skip
    assert margins(rows, "arm", "a", "b", "value") == {(0.1, 0): 2.0}
