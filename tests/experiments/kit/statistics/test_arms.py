"""Differences between arms against scipy, closed forms and simulated truths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from experiments.kit.statistics import factors, family, over_cells, paired, student, unpaired, welch
from experiments.kit.statistics.planning import seeds_needed
from landscape.errors import UserError

RNG = np.random.default_rng(0)
ONE, OTHER = RNG.normal(0.1, 1, 7), RNG.normal(0, 1, 7)


def arm(values) -> dict[int, float]:
    return dict(enumerate(values))


def test_a_paired_difference_is_scipys_paired_t_test_with_its_interval() -> None:
    found = paired(arm(ONE), arm(OTHER))
    theirs = stats.ttest_rel(ONE, OTHER)
    ends = theirs.confidence_interval(0.95)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-12)
    assert (found.interval.low, found.interval.high) == pytest.approx((ends.low, ends.high))
    assert (found.mean, found.std) == pytest.approx(
        (np.mean(ONE - OTHER), np.std(ONE - OTHER, ddof=1))
    )


def test_an_unpaired_difference_is_scipys_welch_test_with_its_interval() -> None:
    found, theirs = (
        unpaired(ONE, 3 * OTHER[:4]),
        stats.ttest_ind(ONE, 3 * OTHER[:4], equal_var=False),
    )
    ends = theirs.confidence_interval(0.95)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-12)
    assert (found.interval.low, found.interval.high) == pytest.approx((ends.low, ends.high))
    assert welch(ONE, 3 * OTHER[:4])[1] == pytest.approx(theirs.df)
    assert found.flips is None
    assert found.n == 4


def test_the_effect_is_unbiased_where_mean_over_std_is_not() -> None:
    drawn = np.random.default_rng(1).normal(0.8, 1, (20_000, 5))
    raw = drawn.mean(1) / drawn.std(1, ddof=1)
    ratio = paired(arm(drawn[0]), arm(0 * drawn[0])).effect / raw[0]
    error = 4 * ratio * raw.std() / math.sqrt(len(raw))
    assert abs(ratio * raw.mean() - 0.8) < error < 0.03
    assert raw.mean() > 0.95


def test_the_unpaired_effect_of_two_seeds_an_arm_is_corrected_by_two_degrees_of_freedom() -> None:
    # both arms have variance 1/2, so d = 1 / √(1/2) and the correction is 1 / √π
    assert unpaired([1.0, 2.0], [0.0, 1.0]).effect == pytest.approx(math.sqrt(2 / math.pi))


def test_students_interval_covers_the_truth_in_95_percent_of_studies_of_three_seeds() -> None:
    drawn = np.random.default_rng(2).normal(1.0, 2.0, (1500, 3))
    hits = sum((found := student(row)).low <= 1 <= found.high for row in drawn.tolist())
    assert abs(hits / 1500 - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 1500)


def test_cells_that_share_their_seeds_count_as_one_and_those_that_pretend_otherwise_err() -> None:
    rng = np.random.default_rng(3)
    missed, naive = 0, 0
    for _ in range(60):
        seeds = rng.standard_normal(5)  # what a seed gives every cell alike
        gaps = [seeds + 0.3 * rng.standard_normal(5) for _ in range(8)]
        found = over_cells({k: (arm(gap), arm(0 * gap)) for k, gap in enumerate(gaps)})
        assert found.n == 5
        missed += found.above() != "undecided"
        pooled = student(np.concatenate(gaps).tolist())
        naive += not pooled.low <= 0 <= pooled.high
    assert abs(missed / 60 - 0.05) < 3 * math.sqrt(0.05 * 0.95 / 60)
    assert naive / 60 > 0.3


def test_cells_are_averaged_over_whole_seeds_and_the_others_are_counted() -> None:
    cells = {
        "a": ({0: 1.0, 1: 2.0, 2: 9.0}, {0: 0.0, 1: 0.0, 2: 0.0}),
        "b": ({0: 3.0, 1: 6.0}, {0: 0.0, 1: 0.0}),
    }
    found = over_cells(cells)
    assert found.each == {0: 2.0, 1: 4.0}
    assert found.left_out == 1
    assert "(2 seeds, t, over 2 cells)" in found.sentence()
    assert "1 left out: incomplete" in found.sentence()


def test_pairs_are_of_equal_seeds_whatever_their_order_and_seeds_of_one_arm_are_counted() -> None:
    found = paired({0: 1.0, 1: 5.0, 7: 3.0}, {1: 1.0, 0: 0.0, 8: 2.0})
    assert found.each == {0: 1.0, 1: 4.0}
    assert found.left_out == 2


def test_a_factor_is_the_geometric_mean_of_ratios_and_does_not_depend_on_the_unit() -> None:
    one, other = {0: 2.0, 1: 8.0, 2: 5.0}, {0: 1.0, 1: 2.0, 2: 1.0}
    found = factors(one, other)
    assert math.exp(found.mean) == pytest.approx(40 ** (1 / 3))
    # by hand: logarithms .693, 1.386, 1.609 have deviation .478; e^(1.230 ± 4.303 * .276)
    assert factors({s: 1e9 * v for s, v in one.items()}, other).std == pytest.approx(found.std)
    # g of the logarithms: 1.230 / .478, times 1 / √π of three seeds
    assert found.sentence().startswith("×3.42 [1.04, 11.2] (3 seeds, t), g=1.5, sign-flip p=.25")
    assert (found.above(), found.above(1.02), found.above(2.0)) == ("holds", "holds", "undecided")
    assert factors(other, one).above() == "fails"


@pytest.mark.parametrize(
    ("gaps", "verdict", "said"),
    [
        ([0.01], "undecided", "+0.01 [no interval] (1 seed)"),
        ([0.01, 0.01], "undecided", "+0.01 [no interval] (2 seeds, all equal), sign-flip p=.5"),
        ([0.01] * 5, "undecided", "(5 seeds, all equal), sign-flip p=.0625"),
        ([0.01] * 6, "holds", "(6 seeds, all equal), sign-flip p=.0312"),
        ([-0.01] * 6, "fails", "sign-flip p=.0312"),
        ([0.0] * 8, "undecided", "+0 [no interval] (8 seeds, all equal), sign-flip p=1"),
        ([0.1, 0.2], "undecided", "+0.15 [-0.49, 0.79] (2 seeds, t), sign-flip p=.5"),
    ],
)  # fmt: skip
def test_what_few_or_equal_differences_say_is_defined(gaps, verdict, said) -> None:
    found = paired(arm(0.7 + np.array(gaps)), arm([0.7] * len(gaps)))
    assert found.above() == verdict
    assert said in found.sentence()
    assert "nan" not in found.sentence()


def test_equal_differences_have_the_p_of_their_signs() -> None:
    for n in (1, 5):
        same = paired(arm([1.0] * n), arm([0.5] * n))
        assert (same.p, same.p_value(0.25), same.p_value(0.5)) == (
            0.5 ** (n - 1),
            0.5 ** (n - 1),
            1,
        )
    assert math.isnan(unpaired([1.0, 1.0], [0.0, 0.0]).p)


def test_two_seeds_have_no_effect_size_whose_correction_is_zero() -> None:
    assert math.isnan(paired({0: 1.0, 1: 2.0}, {0: 0.0, 1: 0.0}).effect)


def test_the_effect_is_told_where_there_is_one_and_only_there() -> None:
    # by hand: differences -1, -2, -3 have mean / deviation -2, times 1 / √π of three seeds
    three = paired(arm([0.0, 0.0, 0.0]), arm([1.0, 2.0, 3.0]))
    assert ", g=-1.1, sign-flip" in three.sentence()
    assert "g=" not in three.clause()
    assert ", g=.8, could" in unpaired([1.0, 2.0], [0.0, 1.0]).sentence()
    for few in (paired(arm([1.0]), arm([0.0])), paired(arm([1.0, 3.0]), arm([0.0, 0.0])),
                paired(arm([1.0] * 6), arm([0.0] * 6))):  # fmt: skip
        assert "g=" not in few.sentence()


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_a_value_that_is_no_number_is_refused(bad) -> None:
    with pytest.raises(UserError, match="expected finite numbers"):
        paired({0: 1.0, 1: bad}, {0: 1.0, 1: 2.0})
    with pytest.raises(UserError, match="expected finite numbers"):
        over_cells({"a": ({0: 1.0, 1: 2.0}, {0: 1.0, 1: bad})})


def test_arms_without_a_common_seed_are_refused() -> None:
    with pytest.raises(UserError, match=r"expected a seed that both arms have.*2 lack one"):
        paired({0: 1.0}, {1: 1.0})


def test_an_arm_of_one_seed_has_no_welch_interval_and_decides_nothing() -> None:
    found = unpaired([1.0], [0.0, 0.1, 0.2])
    assert found.above() == "undecided"
    assert found.sentence() == "+0.9 [no interval] (1 and 3 seeds, unpaired)"
    assert unpaired([1.0, 1.0], [0.0, 0.0]).above() == "undecided"


def test_the_verdict_needs_the_threshold_outside_of_the_interval() -> None:
    found = paired({0: 0.7, 1: 0.8, 2: 0.9}, {0: 0.6, 1: 0.75, 2: 0.8})  # [0.012, 0.155]
    assert found.above() == "holds"
    assert found.above(0.01) == "holds"
    assert found.above(0.05) == "undecided"
    assert found.above(0.2) == "fails"
    assert (found.within(0.5), found.within(0.1), found.within(0.01)) == (
        "holds", "undecided", "fails",
    )  # fmt: skip
    near = paired({0: 0.7, 1: 0.8, 2: 0.9}, {0: 0.71, 1: 0.79, 2: 0.9})
    assert (near.within(0.1), near.within(0.01)) == ("holds", "undecided")


def test_a_family_decides_by_holm_and_names_how_many_it_holds() -> None:
    sure = paired(arm([1.0, 1.1, 0.9, 1.05, 0.95]), arm([0.0] * 5))
    weak = paired(arm([0.2, 0.5, 0.1, 0.4, 0.6]), arm([0.0] * 5))  # p = .0178
    assert weak.above() == "holds"
    found = family(
        {"sure": sure, "weak": weak, "weak too": weak, "none": paired({0: 1.0}, {0: 0.0})}
    )
    assert found["sure"].above() == "holds"
    assert found["weak"].above() == "undecided"
    assert found["weak"].adjusted == pytest.approx(3 * weak.p)
    assert "Holm p=.0534 among 4" in found["weak"].sentence()
    assert weak.within(0.05) == "fails"
    assert found["weak"].within(0.05) == "undecided"
    assert [found[name].needed for name in ("weak", "weak too")] == [
        seeds_needed(weak.mean, weak.std, alpha=0.05 / among) for among in (2, 3)
    ]
    assert found["weak too"].needed > weak.needed
    third = paired({0: 0.3, 1: 0.5, 2: 0.6}, {0: 0.0, 1: 0.0, 2: 0.0})  # p = .034
    assert third.above() == "holds"
    assert family({"one": third, "two": third})["one"].above() == "undecided"


def test_a_family_is_judged_at_the_thresholds_that_its_p_values_are_of() -> None:
    one, other = arm([0.72, 0.70, 0.69, 0.70]), arm([0.70, 0.70, 0.70, 0.70])
    near = paired(one, other)
    found = family({"no worse": near, "better": near}, {"no worse": -0.05})
    theirs = stats.ttest_1samp([0.02, 0, -0.01, 0], -0.05).pvalue
    assert found["no worse"].adjusted == pytest.approx(2 * theirs)
    assert found["no worse"].above(-0.05) == "holds"
    assert "among 2 against -0.05" in found["no worse"].sentence()
    assert found["better"].above() == "undecided"
    with pytest.raises(UserError, match=r"expected the threshold of the finding's family, -0.05"):
        found["no worse"].above()


def test_a_rounding_error_is_no_sign() -> None:
    found = paired(arm([0.1 + 0.2] * 3 + [0.5]), arm([0.3] * 3 + [0.4]))
    assert found.each[0] == 0.0
    assert found.flips is not None
    assert found.flips.smallest == 1.0


def test_undecided_evidence_says_how_many_seeds_would_tell() -> None:
    found = paired({0: 1.0, 1: -1.0, 2: 1.5}, {0: 0.0, 1: 0.0, 2: 0.0})
    # deviation √(7 / 4): scipy's noncentral t says .794 for 56 seeds and .801 for 57
    chances = [
        stats.nct(n - 1, 0.5 * math.sqrt(n * 4 / 7)).sf(stats.t.ppf(0.975, n - 1)) for n in (56, 57)
    ]
    assert chances[0] < 0.8 <= chances[1]
    assert found.sentence().endswith("about 57 seeds would tell it from 0")
    equal = paired({0: 1.0, 1: -1.0}, {0: 0.0, 1: 0.0})
    assert equal.sentence().endswith("more than 1000 seeds would tell it from 0")


def test_texts_of_right_answers_are_compared_as_accuracies_with_both_intervals() -> None:
    one = {0: "1111011101", 1: "1111111111", 2: "1011111111"}
    other = {0: "1101011101", 1: "1111111001", 2: "1011111111"}
    found = paired(one, other)
    assert found.each == pytest.approx({0: 0.1, 1: 0.2, 2: 0.0})
    assert found.bootstrap is not None
    assert found.bootstrap.value == pytest.approx(0.1)
    assert "two-level bootstrap [0" in found.sentence()
    # deviations .1 over seeds; sem² of the examples 1/100, 16/900 and 0: (.00926) / .01
    assert "93% of the variance is the test examples'" in found.sentence()
    with pytest.raises(UserError, match="expected as many test examples"):
        paired(one, other | {1: "111"})
    for bad in ("", "1121"):
        with pytest.raises(UserError, match='expected a "0" or "1"'):
            over_cells({"a": (one | {1: bad}, other)})
