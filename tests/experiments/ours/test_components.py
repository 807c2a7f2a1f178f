"""Two-way variance components: against sums typed by hand, a known law, and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.ours.components import components, of_examples

#: rows 1, 3, 8; columns -1, 1; a rest of +-0.5 in one row pair
TABLE = {
    ("a", 0): 0.5, ("a", 1): 1.5, ("b", 0): 2.0, ("b", 1): 4.0, ("c", 0): 6.5, ("c", 1): 9.5,
}  # fmt: skip


def test_mean_squares_are_those_of_an_analysis_of_variance_by_hand() -> None:
    # means: rows 1, 3, 8; columns 3, 5; all 4. SS rows 2 (9 + 1 + 16) = 52, columns 3 (1 + 1) = 6,
    # all 12.25 + 6.25 + 4 + 0 + 6.25 + 30.25 = 59, so the rest is 1
    found = components(TABLE)
    assert found is not None
    assert found.rest == pytest.approx(np.sqrt(1 / 2))
    assert found.rows == pytest.approx(np.sqrt((26 - 0.5) / 2))
    assert found.columns == pytest.approx(np.sqrt((6 - 0.5) / 3))
    assert found.ratio == pytest.approx(26 / 6)


def test_an_incomplete_table_has_no_components() -> None:
    assert components({k: v for k, v in TABLE.items() if k != ("c", 1)}) is None
    assert components({("a", 0): 1.0, ("a", 1): 2.0}) is None


def test_a_value_that_a_run_lacks_leaves_the_table_incomplete() -> None:
    assert components(TABLE | {("c", 1): None}) is None


def test_what_was_known_of_rows_is_taken_off_them_alone() -> None:
    found, plain = components(TABLE, 1.0), components(TABLE)
    assert found is not None
    assert plain is not None
    assert found.rows == pytest.approx(np.sqrt((26 - 2 - 0.5) / 2))
    assert (found.columns, found.rest) == (plain.columns, plain.rest)
    assert found.ratio == pytest.approx((26 - 2) / 6)
    assert found.ratio_low < plain.ratio_low
    nothing = components(TABLE, 1e-9)  # the other way to an interval, with next to nothing known
    assert nothing is not None
    # its quantiles of B are 4000: they miss a little of a tail of one degree of freedom
    assert [nothing.ratio_low, nothing.ratio_high] == pytest.approx(
        [plain.ratio_low, plain.ratio_high], rel=2e-3
    )


def test_the_interval_less_a_known_part_is_that_of_draws_of_both_expectations() -> None:
    found = components(TABLE, 1.0)
    assert found is not None
    draw = np.random.default_rng(1)
    a, b = 2 * 26 / draw.chisquare(2, 400_000), 1 * 6 / draw.chisquare(1, 400_000)
    low, high = np.quantile((a - 2 * 1.0) / b, [0.025, 0.975])
    assert found.ratio_low == pytest.approx(low, rel=0.05)
    assert found.ratio_high == pytest.approx(high, rel=0.05)


def test_the_interval_of_the_ratio_covers_the_truth_in_95_of_100() -> None:
    draw, covered, trials = np.random.default_rng(0), 0, 2000
    truth = (5 * 2.0**2 + 1) / (5 * 1.0**2 + 1)  # expected mean squares: rows 2, columns 1, rest 1
    for _ in range(trials):
        y = draw.normal(0, 2, (5, 1)) + draw.normal(0, 1, (1, 5)) + draw.normal(0, 1, (5, 5))
        found = components({(i, j): float(y[i, j]) for i in range(5) for j in range(5)})
        assert found is not None
        covered += found.ratio_low <= truth <= found.ratio_high
    assert covered / trials == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / trials))


def test_the_interval_less_a_known_part_covers_the_truth_in_95_of_100_or_more() -> None:
    draw, missed, trials = np.random.default_rng(4), np.zeros(2), 300
    truth = (5 * 1.0**2 + 1) / (5 * 0.5**2 + 1)  # rows 1 beyond a known 1.5, columns .5, rest 1
    for _ in range(trials):
        y = draw.normal(0, np.hypot(1, 1.5), (5, 1)) + draw.normal(0, 0.5, (1, 5))
        y = y + draw.normal(0, 1, (5, 5))
        found = components({(i, j): float(y[i, j]) for i in range(5) for j in range(5)}, 1.5**2)
        assert found is not None
        missed += found.ratio_low > truth, found.ratio_high < truth
    assert missed.sum() / trials < 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)
    assert missed.min() > 0  # it is no wider than it need be at either end


def drawn_square(draw: np.random.Generator) -> tuple[dict, dict, np.ndarray, np.ndarray]:
    """Draw a 5 x 5 square on 150 test examples of 30 of 60 films; of rows, data and examples alone.

    Films, films under one data seed and examples are harder or easier, beside data seeds with a
    deviation of .06 and masks with one of .03; the rest is chance.
    """
    films, reviews = draw.normal(0, 0.1, 60), draw.normal(0, 0.1, (60, 5))
    data, masks = draw.normal(0, 0.06, 5), draw.normal(0, 0.03, 5)
    right, groups, examples = {}, {}, []
    for i in range(5):
        drawn = np.repeat(draw.permutation(60)[:30], 5)
        groups[i] = drawn.tolist()
        seen = films[drawn] + draw.normal(0, 0.05, 60)[drawn] + reviews[drawn, np.arange(150) % 5]
        examples.append(seen.mean())
        for j in range(5):
            right[i, j] = (draw.random(150) < 0.6 + data[i] + masks[j] + seen).astype(int).tolist()
    return right, groups, data, np.array(examples)


def test_what_examples_give_is_taken_off_once_so_that_components_have_no_bias() -> None:
    draw, trials, found = np.random.default_rng(0), 200, []
    for _ in range(trials):
        right, groups, data, examples = drawn_square(draw)
        y = np.array([[np.mean(right[i, j]) for j in range(5)] for i in range(5)])
        rest = (y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()).var() * 25 / 16
        own = examples.var(ddof=1)
        alone = of_examples(right, {i: [(i, k) for k in range(150)] for i in groups})
        found.append((
            y.mean(1).var(ddof=1) - rest / 5 - (data + examples).var(ddof=1),
            of_examples(right, groups) - own, rest / 5, alone - own,
        ))  # fmt: skip
    mean, error = np.mean(found, 0), np.std(found, 0) / np.sqrt(trials)
    assert np.all(np.abs(mean[:2]) < 3 * error[:2])
    assert mean[2] > 3 * error[0]  # the rest's part, taken off once more, would show
    assert mean[3] < -5 * error[3]  # films taken for single examples are too little


def test_an_example_that_every_row_has_is_no_spread_of_rows() -> None:
    right = {(i, j): [1, 1, 0, 1] for i in range(3) for j in range(2)}
    assert of_examples(right, {i: list(range(4)) for i in range(3)}) == pytest.approx(0, abs=1e-12)
    lone = of_examples(right, {i: [(i, k) for k in range(4)] for i in range(3)})
    assert lone == pytest.approx(3 / 16 / 4 * 4 / 3)
