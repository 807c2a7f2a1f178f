"""Conditional bounds given the mask on a few heavy columns, by enumeration of all light masks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from landscape.errors import UserError
from theory import (
    Certified,
    HeavyLight,
    divide,
    draw,
    from_array,
    largest_leverages,
    sharpness_interval,
    squared_distance_interval,
)
from theory.conditional import projections, top_shortfall


def heavy_tailed(n: int, d: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((n, d))
    x[:, ::4] *= 6
    return x


def light_masks(d: int, p: float) -> list[tuple[tuple[int, ...], float]]:
    """Return every subset of range(d) with its probability."""
    return [
        (kept, p ** len(kept) * (1 - p) ** (d - len(kept)))
        for size in range(d + 1)
        for kept in itertools.combinations(range(d), size)
    ]


def test_heavy_columns_are_those_of_largest_norm_and_light_sums_are_dense_sums() -> None:
    x = heavy_tailed(3, 12)
    norms = (x**2).sum(0)
    parts = divide(from_array(x), 4)
    assert set(parts.heavy) == set(np.argsort(norms)[-4:])
    light = np.setdiff1d(np.arange(12), parts.heavy)
    assert parts.light.gram == pytest.approx(x[:, light] @ x[:, light].T, rel=1e-12)
    weighted = (x[:, light] * norms[light]) @ x[:, light].T
    assert parts.light.weighted == pytest.approx(weighted, rel=1e-12)
    assert parts.light.max_norm2 == pytest.approx(norms[light].max(), rel=1e-12)
    u = np.array([0.6, 0.0, 0.8])
    a = (x[:, light].T @ u) ** 2
    assert projections(parts.light_blocks(), u) == pytest.approx(((a**2).sum(), a.max()))


def test_light_sums_survive_a_column_that_is_a_million_times_larger() -> None:
    x = np.random.default_rng(0).standard_normal((3, 40))
    alone = x[:, 1:] @ x[:, 1:].T
    x[:, 0] *= 1e9
    assert divide(from_array(x), 1).light.gram == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("kept_heavy", [(), (0,), (0, 4, 8)])
@pytest.mark.parametrize(("p", "delta"), [(0.1, 0.2), (0.5, 0.05), (0.8, 0.6)])
def test_given_the_heavy_mask_the_interval_fails_as_rarely_as_promised_over_all_light_masks(
    kept_heavy: tuple[int, ...], p: float, delta: float
) -> None:
    x = heavy_tailed(3, 12)
    parts = divide(from_array(x), np.array([0, 4, 8]))
    light = [j for j in range(12) if j not in (0, 4, 8)]
    below = above = 0.0
    mean = np.zeros((3, 3))
    for some, chance in light_masks(len(light), p):
        mask = np.sort([*kept_heavy, *(light[j] for j in some)]).astype(int)
        gram = x[:, mask] @ x[:, mask].T
        mean += chance * gram
        found = sharpness_interval(parts, mask, p, delta=delta)
        sharpness = np.linalg.eigvalsh(gram)[-1] / 3
        below += chance * (sharpness < found.low * (1 - 1e-12))
        above += chance * (sharpness > found.high * (1 + 1e-12))
    assert parts.centre(np.array(kept_heavy, dtype=int), p) == pytest.approx(mean, rel=1e-9)
    assert found.middle == pytest.approx(np.linalg.eigvalsh(mean)[-1] / 3, rel=1e-9)
    assert below <= delta / 2
    assert above <= delta / 2


def test_the_interval_is_bernsteins_formula_with_the_light_columns_alone() -> None:
    x, p, delta = heavy_tailed(3, 400, 1), 0.2, 0.05
    parts, mask = divide(from_array(x), 100), np.arange(0, 400, 5)
    found = sharpness_interval(parts, mask, p, delta=delta)
    kept, light = np.intersect1d(parts.heavy, mask), np.setdiff1d(np.arange(400), parts.heavy)
    centre = x[:, kept] @ x[:, kept].T + p * x[:, light] @ x[:, light].T
    values, vectors = np.linalg.eigh(centre)
    norms, a = (x[:, light] ** 2).sum(0), (x[:, light].T @ vectors[:, -1]) ** 2
    surplus, shortfall = 3 * found.high - values[-1], values[-1] - 3 * found.low
    v = p * (1 - p) * np.linalg.norm((x[:, light] * norms) @ x[:, light].T, 2)
    r = (1 - p) * norms.max()
    assert 3 * math.exp(-(surplus**2) / 2 / (v + r * surplus / 3)) == pytest.approx(delta / 2)
    v, r = p * (1 - p) * (a**2).sum(), p * a.max()
    assert math.exp(-(shortfall**2) / 2 / (v + r * shortfall / 3)) == pytest.approx(delta / 2)


def test_one_row_of_ones_has_binomial_sharpness_and_distance_inside_both_intervals() -> None:
    """X = (1, .., 1), H the first 20 of 200: lambda_1 = h + K, K ~ Binomial(180, p), exactly."""
    p, delta, h = 0.4, 0.05, 7
    parts = divide(from_array(np.ones((1, 200))), np.arange(20))
    mask = np.arange(h)
    ends = sharpness_interval(parts, mask, p, delta=delta)
    assert ends.middle == pytest.approx(h + 0.4 * 180, rel=1e-12)
    for found in (
        ends,
        squared_distance_interval(parts, mask, p, signal=np.zeros(1), sigma=1.0, delta=delta),
    ):
        low, high = found.low, found.high
        if found is not ends:
            assert found.middle == pytest.approx(1 / 79, rel=1e-12)
            low, high = 1 / high, 1 / low
        assert 0.25 * delta / 100 < stats.binom.cdf(math.ceil(low - h) - 1, 180, p) <= delta / 2
        assert stats.binom.sf(math.floor(high - h), 180, p) <= delta / 2


def test_a_distance_interval_holds_the_dense_pseudo_inverse_and_knows_the_signal() -> None:
    rng = np.random.default_rng(0)
    x, y, p = rng.standard_normal((4, 3000)), rng.standard_normal(4), 0.2
    x[:, 5] *= 100
    features = from_array(x)
    heavy = largest_leverages(features, 10)
    hat = np.linalg.pinv(x) @ x
    assert set(heavy) == set(np.argsort(np.diag(hat))[-10:])
    assert 5 in heavy
    parts, widths = divide(features, heavy), []
    for _ in range(20):
        mask = np.flatnonzero(rng.random(3000) < p)
        found = squared_distance_interval(parts, mask, p, signal=y, sigma=2.0)
        inverse = np.linalg.pinv(x[:, mask])
        exact = 4 * (inverse**2).sum() + ((inverse @ y) ** 2).sum()
        assert found.holds(exact)
        widths.append(found.high / found.low)
    assert max(widths) < 4
    empty = squared_distance_interval(divide(features, 0), mask, p, signal=y, sigma=2.0)
    assert empty.high == math.inf  # one column of leverage near 1 decides, and is not looked at


def test_a_count_of_heavy_columns_out_of_range_is_refused() -> None:
    with pytest.raises(UserError, match="heavy to be a whole number from 0 to 5, got 6"):
        divide(from_array(np.ones((2, 5))), 6)
    with pytest.raises(
        UserError, match="sorted indices of distinct columns below d=5, got 1 after 3;"
    ):
        divide(from_array(np.ones((2, 5))), np.array([3, 1]))
    with pytest.raises(UserError, match="rank n = 2, got rank 1; leave out rows"):
        largest_leverages(from_array(np.ones((2, 5))), 1)
    assert isinstance(divide(from_array(np.ones((2, 5))), 5), HeavyLight)
    assert Certified(1.0, 2.0, 4.0).relative_width == 0.75


def test_slack_widens_an_interval_at_both_of_its_ends() -> None:
    found = Certified(1.0, 2.0, 4.0)
    assert found.holds(1.0)
    assert found.holds(4.0)
    assert not found.holds(0.99)
    assert not found.holds(4.01)
    assert found.holds(0.95, slack=0.1)
    assert found.holds(4.3, slack=0.1)
    assert not found.holds(0.85, slack=0.1)
    assert not found.holds(4.5, slack=0.1)


ONE = divide(from_array(np.ones((1, 9))), 3)
WRONG = {
    "a boolean mask": ({"mask": np.ones(9, dtype=bool)}, "got bool of shape"),
    "twice the same": ({"mask": np.array([1, 1])}, "distinct columns below d=9"),
    "beyond the last": ({"mask": np.array([0, 9])}, "below d=9"),
    "below the first": ({"mask": np.array([-1, 2])}, "below d=9"),
    "two masks": ({"mask": np.zeros((2, 1), dtype=int)}, r"of shape \(2, 1\)"),
    "p above 1": ({"p": 1.5}, "p to be .*, got 1.5"),
    "no delta": ({"delta": 0.0}, "delta to be .*, got 0.0"),
    "a signal of two rows": (
        {"signal": np.ones(2)},
        r"signal to be 1 finite numbers, got shape \(2,\)",
    ),
    "a signal of nan": ({"signal": np.array([math.nan])}, "signal to be .*, got nan at place 0"),
    "an infinite signal": ({"signal": np.array([math.inf])}, "got inf at place 0; remove"),
    "negative noise": ({"sigma": -1.0}, "sigma to be .*, got -1.0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_drawn_mask_is_refused_by_both_intervals(name: str) -> None:
    changed, sentence = WRONG[name]
    given = {"mask": np.array([1, 8]), "p": 0.5, "delta": 0.05} | changed
    mask, p, delta = given.pop("mask"), given.pop("p"), given.pop("delta")
    with pytest.raises(UserError, match=sentence):
        squared_distance_interval(
            ONE, mask, p, delta=delta, **{"signal": np.ones(1), "sigma": 1.0} | given
        )
    if not given:
        with pytest.raises(UserError, match=sentence):
            sharpness_interval(ONE, mask, p, delta=delta)


def test_heavy_tailed_features_get_a_certified_sharpness_that_plain_bernstein_denies() -> None:
    """Half-width over lambda_1: vacuous without H, below a third with 400 of 4000 columns."""
    features, p = draw("student", 8, 4000), 0.05
    mask = np.flatnonzero(np.random.default_rng(1).random(4000) < p)
    top = np.linalg.norm(features.columns()[mask].T, 2) ** 2 / 8
    plain, sharp = (sharpness_interval(divide(features, h), mask, p) for h in (0, 400))
    assert plain.relative_width > 2
    assert sharp.relative_width < 0.34
    assert sharp.holds(top)


@pytest.mark.parametrize("p", [0.02, 0.5, 0.95])
@pytest.mark.parametrize("delta", [0.3, 0.01, 1e-8])
def test_a_binomial_falls_below_the_scalar_bound_as_rarely_as_it_says(
    p: float, delta: float
) -> None:
    t = top_shortfall((500.0, 1.0), p, delta)
    assert stats.binom.cdf(math.floor(500 * p - t), 500, p) <= delta
    variance, largest = p * (1 - p) * 500, p
    assert math.exp(-(t**2) / 2 / (variance + largest * t / 3)) == pytest.approx(delta, rel=1e-9)
