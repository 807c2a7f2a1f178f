"""The two-level bootstrap against closed forms, a slow reference, scipy and simulated truths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from experiments.kit.statistics import examples_deviation, student, two_level
from experiments.kit.statistics.bootstrap import paired_counts
from landscape.errors import UserError

Texts = dict[int, str]


def study(
    rng, n: int, examples: int, spread: float, changed: float, gap: float
) -> tuple[Texts, Texts]:
    """Draw two arms whose seeds differ by gap ± spread, on a share of examples."""
    one, other = {}, {}
    for seed, mean in enumerate(rng.normal(gap, spread, n)):
        mean = float(np.clip(mean, -changed, changed))
        worse, same = (changed - mean) / 2, 1 - changed
        kind = rng.choice(3, examples, p=[worse, same, 1 - worse - same])
        one[seed] = "".join("011"[k] for k in kind)
        other[seed] = "".join("110"[k] for k in kind)
    return one, other


ONE, OTHER = study(np.random.default_rng(0), 4, 60, 0.1, 0.4, 0.1)


def indices(one: Texts, other: Texts, resamples: int) -> np.ndarray:
    """Resample seeds and then examples one by one: slow, and plainly what is meant."""
    rng = np.random.default_rng(5)
    gaps = [np.array([int(a) - int(b) for a, b in zip(one[s], other[s], strict=True)]) for s in one]
    n, means = len(gaps), []
    for _ in range(resamples):
        drawn = [gaps[s] for s in rng.integers(0, n, n)]
        means.append(np.mean([rng.choice(gap, len(gap)).mean() for gap in drawn]))
    return np.array(means)


def test_counts_drawn_give_the_interval_of_examples_drawn_one_by_one() -> None:
    found = two_level(ONE, OTHER)
    slow = indices(ONE, OTHER, 4000)
    assert found.value == pytest.approx(np.mean([
        (ONE[s].count("1") - OTHER[s].count("1")) / 60 for s in ONE
    ]))  # fmt: skip
    # a quantile of 4000 draws errs by √(.025 * .975 / 4000) / density, about 2 % of the width
    width = found.high - found.low
    assert (found.low, found.high) == pytest.approx(
        tuple(np.quantile(slow, [0.025, 0.975])), abs=0.06 * width
    )


def test_the_interval_is_as_wide_as_the_closed_variance_of_resampled_means() -> None:
    one, other = study(np.random.default_rng(1), 20, 400, 0.05, 0.3, 0.05)
    counts = paired_counts(one, other)
    p = counts / 400
    gaps = p[:, 2] - p[:, 0]
    within = (p[:, 0] + p[:, 2] - gaps**2) / 400
    deviation = math.sqrt((gaps.var() + within.mean()) / 20)  # of 20 seeds: nearly normal
    found = two_level(one, other, resamples=40_000)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * deviation, rel=0.03)


def test_one_seed_has_scipys_percentile_interval_over_its_examples() -> None:
    one, other = {3: ONE[0] + ONE[1]}, {3: OTHER[0] + OTHER[1]}
    gaps = [int(a) - int(b) for a, b in zip(one[3], other[3], strict=True)]
    theirs = stats.bootstrap(
        (gaps,), np.mean, n_resamples=10_000, method="percentile", random_state=0
    ).confidence_interval
    found = two_level(one, other)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=2 / 120)
    assert found.how == "1 seed, bootstrap of its examples alone"


def test_pairing_examples_narrows_the_interval_of_arms_that_agree() -> None:
    # both arms err on the same half of the examples, and one also on 4 more of 200
    right = "10" * 100
    found = two_level({0: right}, {0: "0" * 8 + right[8:]})
    assert found.high - found.low < 0.05  # unpaired: 4 √(.25 * 2 / 200) = .2
    assert found.low >= 0


def test_seeds_of_unlike_sizes_weigh_alike() -> None:
    found = two_level({0: "1" * 100, 1: "0"}, {0: "0" * 100, 1: "0"})
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_the_same_seed_draws_the_same_interval() -> None:
    assert two_level(ONE, OTHER) == two_level(ONE, OTHER)
    assert two_level(ONE, OTHER, seed=1) != two_level(ONE, OTHER)


def test_arms_of_other_seeds_are_refused() -> None:
    with pytest.raises(UserError, match="expected both arms at the same seeds"):
        two_level({0: "1"}, {1: "1"})
    with pytest.raises(UserError, match="expected both arms at the same seeds"):
        two_level({}, {})


def test_the_examples_deviation_is_the_standard_error_of_a_seeds_difference() -> None:
    gaps = [[int(a) - int(b) for a, b in zip(ONE[s], OTHER[s], strict=True)] for s in ONE]
    errors = [stats.sem(row) for row in gaps]
    assert examples_deviation(ONE, OTHER) == pytest.approx(np.sqrt(np.mean(np.square(errors))))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "spread", "changed", "documented"),
    [(3, 0.03, 0.2, 0.845), (5, 0.03, 0.2, 0.882), (5, 0.0, 0.1, 0.988)],
)
def test_coverage_is_what_the_table_says_and_students_is_95_percent(
    n, spread, changed, documented
) -> None:
    rng = np.random.default_rng(n)
    hits = np.zeros(2)
    for _ in range(600):
        one, other = study(rng, n, 1000, spread, changed, 0.02)
        counts = paired_counts(one, other)
        gaps = (counts[:, 2] - counts[:, 0]) / 1000
        for k, found in enumerate((two_level(one, other, resamples=2000), student(gaps))):
            hits[k] += found.low <= 0.02 <= found.high
    # four standard errors of 600 studies, and of the 1500 of the table
    for rate, told in zip(hits / 600, (documented, 0.95), strict=True):
        assert abs(rate - told) < 4 * math.sqrt(told * (1 - told) * (1 / 600 + 1 / 1500))
