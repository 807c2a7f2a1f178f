"""The two-level bootstrap against closed forms, a slow reference, scipy and simulated truths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from experiments.kit.statistics import (
    examples_deviation,
    over_cells,
    student,
    two_level,
    two_level_over,
)  # fmt: skip
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


def differences(one: Texts, other: Texts) -> np.ndarray:
    """Return one arm's right answers minus the other's, a line a seed."""
    return np.array([[int(a) - int(b) for a, b in zip(one[s], other[s], strict=True)] for s in one])


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
    each = differences(one, other)
    deviation = math.sqrt((each.mean(1).var() + each.var(1).mean() / 400) / 20)  # nearly normal
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
    assert examples_deviation({"": (ONE, OTHER)}) == pytest.approx(
        np.sqrt(np.mean(np.square(errors)))
    )


#: two cells of one task, whose examples are one of a kind, and one of another task
SHARING = {
    "a": (ONE, OTHER),
    "b": tuple({s: "1" * 20 + text[20:] for s, text in arm.items()} for arm in (ONE, OTHER)),
    "c": study(np.random.default_rng(3), 4, 30, 0.1, 0.5, -0.1),
}  # fmt: skip
TASKS = {at: {s: f"{task}, seed {s}" for s in ONE} for at, task in zip("abc", "ttu", strict=True)}


def jointly(resamples: int) -> np.ndarray:
    """Resample seeds, and the examples of each task one by one for all its cells: slow."""
    rng, means = np.random.default_rng(6), []
    gaps = {at: differences(*arms) for at, arms in SHARING.items()}
    for _ in range(resamples):
        total = 0.0
        for seed in rng.integers(0, 4, 4):
            drawn = {"t": rng.integers(0, 60, 60), "u": rng.integers(0, 30, 30)}
            total += sum(gaps[at][seed][drawn["u" if at == "c" else "t"]].mean() for at in gaps)
        means.append(total / 4 / 3)
    return np.array(means)


def test_cells_are_drawn_jointly_by_seed_and_by_example_where_they_share_them() -> None:
    found, slow = two_level_over(SHARING, TASKS), jointly(6000)
    assert found.value == pytest.approx(np.mean([differences(*a).mean() for a in SHARING.values()]))
    width = found.high - found.low
    assert (found.low, found.high) == pytest.approx(
        tuple(np.quantile(slow, [0.025, 0.975])), abs=0.05 * width
    )
    assert (found.n, found.how) == (4, "4 seeds, two-level bootstrap")


def many(shared: bool) -> tuple[dict, dict]:
    """Return three cells of one task at 25 seeds, which err alike, and one of another."""
    rng = np.random.default_rng(7)
    one, other = study(rng, 25, 200, 0.0, 0.4, 0.05)
    cells = {at: (one, {s: t if s % 5 else one[s] for s, t in other.items()}) for at in range(3)}
    cells[3] = study(rng, 25, 100, 0.02, 0.3, 0.0)
    same = {at: {s: f"of {s}" for s in range(25)} for at in range(3)} if shared else {}
    return cells, same


@pytest.mark.parametrize("shared", [True, False])
def test_the_interval_over_cells_is_as_wide_as_the_closed_variance(shared) -> None:
    cells, same = many(shared)
    gaps = {at: differences(*arms) for at, arms in cells.items()}
    over_seeds = np.mean([each.mean(1) for each in gaps.values()], 0).var()
    # cells that share their examples have variances of sums, the others sums of variances
    of_task = sum(gaps[at] for at in range(3)).var(1) if shared else 3 * gaps[0].var(1)
    within = (of_task / 200 + gaps[3].var(1) / 100) / 16
    deviation = math.sqrt((over_seeds + within.mean()) / 25)
    found = two_level_over(cells, same, resamples=40_000)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * deviation, rel=0.03)
    told = math.sqrt(np.mean((of_task / 199 + gaps[3].var(1) / 99) / 16))
    assert examples_deviation(cells, same) == pytest.approx(told)


def test_a_cell_told_twice_is_one_where_its_examples_are_the_same() -> None:
    twice, same = {"a": (ONE, OTHER), "b": (ONE, OTHER)}, {"a": dict.fromkeys(ONE, "x")}
    both = same | {"b": same["a"]}
    alone, joint, apart = two_level(ONE, OTHER), *(two_level_over(twice, s) for s in (both, same))
    assert (joint.low, joint.high) == pytest.approx((alone.low, alone.high))
    assert apart.high - apart.low < 0.95 * (joint.high - joint.low)
    assert examples_deviation(twice, both) == pytest.approx(examples_deviation({"": (ONE, OTHER)}))
    assert examples_deviation(twice, same) == pytest.approx(
        examples_deviation(twice, both) / math.sqrt(2)
    )


def test_a_seed_whose_cells_share_nothing_stands_beside_seeds_whose_cells_do() -> None:
    twice = {"a": (ONE, OTHER), "b": (ONE, OTHER)}
    same = {at: {0: "x", 1: "x", 2: "x", 3: at} for at in twice}
    squares = [examples_deviation({"": ({s: ONE[s]}, {s: OTHER[s]})}) ** 2 for s in ONE]
    squares[3] /= 2
    assert examples_deviation(twice, same) == pytest.approx(math.sqrt(np.mean(squares)))
    assert two_level_over(twice, same).value == pytest.approx(two_level(ONE, OTHER).value)


def test_examples_of_one_name_and_other_numbers_are_refused() -> None:
    unlike = {"a": ({0: "11"}, {0: "10"}), "b": ({0: "111"}, {0: "101"})}
    with pytest.raises(UserError, match=r"in all cells of one name at seed 0, got \[2, 3\]"):
        two_level_over(unlike, {at: {0: "x"} for at in unlike})
    assert two_level_over(unlike).value == pytest.approx((1 / 2 + 1 / 3) / 2)
    with pytest.raises(UserError, match="expected both arms at the same seeds"):
        two_level_over({"a": ({0: "1"}, {0: "1"}), "b": ({1: "1"}, {1: "1"})})


def test_a_difference_over_cells_has_both_intervals_where_every_cell_is_texts() -> None:
    found = over_cells(SHARING, TASKS)
    assert found.bootstrap == two_level_over(SHARING, TASKS)
    assert found.examples == examples_deviation(SHARING, TASKS)
    assert found.mean == pytest.approx(found.bootstrap.value)
    assert "two-level bootstrap [" in found.sentence()
    assert "of the variance is the test examples'" in found.sentence()
    lacking = SHARING | {"d": ({s: ONE[s] for s in (0, 1)}, OTHER)}
    assert over_cells(lacking, TASKS).bootstrap == found.bootstrap  # of the whole block
    values = {"d": (dict.fromkeys(ONE, 0.5), dict.fromkeys(ONE, 0.4))}
    assert over_cells(SHARING | values, TASKS).bootstrap is None


@pytest.mark.slow
@pytest.mark.parametrize(("spread", "documented"), [(0.03, 0.882), (0.0, 0.985)])
def test_coverage_over_cells_is_what_is_documented(spread, documented) -> None:
    rng, hits = np.random.default_rng(11), np.zeros(2)
    for _ in range(400):
        cells, same = shared_study(rng, 5, spread)
        by_seed = np.mean([differences(*arms).mean(1) for arms in cells.values()], 0)
        for k, found in enumerate((two_level_over(cells, same, resamples=2000), student(by_seed))):
            hits[k] += found.low <= 0.02 <= found.high
    for rate, told in zip(hits / 400, (documented, 0.95), strict=True):
        assert abs(rate - told) < 4 * math.sqrt(told * (1 - told) * (1 / 400 + 1 / 1500))


def shared_study(rng, n: int, spread: float) -> tuple[dict, dict]:
    """Draw three cells that share a seed's deviation, two of them 800 examples of one kind.

    Of an example both cells of a task err alike half of the time.
    """
    shift = rng.normal(0.02, spread, n)
    cells: dict = {at: ({}, {}) for at in "abc"}
    for seed, mean in enumerate(shift):
        kinds = {at: kind_of(rng, mean) for at in "abc"}
        kinds["b"] = np.where(rng.random(800) < 0.5, kinds["a"], kinds["b"])
        for at, kind in kinds.items():
            for side, words in zip(cells[at], ("011", "110"), strict=True):
                side[seed] = "".join(words[k] for k in kind)
    return cells, {at: {s: f"of {s}" for s in range(n)} for at in "ab"}


def kind_of(rng, mean: float) -> np.ndarray:
    worse = (0.2 - float(np.clip(mean, -0.2, 0.2))) / 2
    return rng.choice(3, 800, p=[worse, 0.8, 0.2 - worse])


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
        gaps = differences(one, other).mean(1)
        for k, found in enumerate((two_level(one, other, resamples=2000), student(gaps))):
            hits[k] += found.low <= 0.02 <= found.high
    # four standard errors of 600 studies, and of the 1500 of the table
    for rate, told in zip(hits / 600, (documented, 0.95), strict=True):
        assert abs(rate - told) < 4 * math.sqrt(told * (1 - told) * (1 / 600 + 1 / 1500))
