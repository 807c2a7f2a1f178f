"""Comparisons: against sums over all outcomes, a table of the literature, and paired by hand."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from finished_runs import config, filled, outcome
from sentences import the_sentence

import landscape as ls
from landscape.sweep.comparison import of_correct, of_values, over_examples, paired

SETTINGS = ["method", "ratio", "lr", "seed", "mask_seed"]


def texts(both: int, first: int, second: int, neither: int) -> tuple[str, str]:
    return (
        "1" * both + "1" * first + "0" * second + "0" * neither,
        "1" * both + "0" * first + "1" * second + "0" * neither,
    )


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (3, 3), (7, 2), (2, 9)])
def test_mcnemars_p_is_the_share_of_all_signs_that_are_as_uneven(b: int, c: int) -> None:
    signs = list(itertools.product((0, 1), repeat=b + c))
    uneven = sum(abs(2 * sum(one) - b - c) >= abs(b - c) for one in signs)
    found = of_correct(*texts(4, b, c, 5))
    assert found.p == pytest.approx(float(Fraction(uneven, len(signs))))
    assert (found.first, found.second, found.n) == (b, c, 9 + b + c)
    assert found.mean == pytest.approx((c - b) / (9 + b + c))


def test_the_interval_is_that_of_agresti_and_mins_example() -> None:
    """Approval of a prime minister at two times, of 1600: 794, 150, 86, 570 (Agresti, 1990)."""
    found = of_correct(*texts(794, 150, 86, 570))
    center = (86.5 - 150.5) / 1602
    error = math.sqrt((86.5 + 150.5) / 1602 - center**2) / math.sqrt(1602)
    assert found.low == pytest.approx(center - 1.959963985 * error, abs=1e-9)
    assert found.high == pytest.approx(center + 1.959963985 * error, abs=1e-9)
    assert (round(found.low, 3), round(found.high, 3)) == (-0.059, -0.021)


def test_equal_answers_leave_an_interval_with_a_width() -> None:
    found = of_correct("1100", "1100")
    assert found.mean == 0
    assert found.low == -found.high < 0
    assert found.p == 1


def test_the_interval_over_runs_is_students() -> None:
    """t at 0.975 with 2 degrees of freedom is 4.302653 (any table)."""
    found = of_values([0.0, 0.0, 0.0], [1.0, 2.0, 3.0])
    assert (found.mean, found.n) == (2.0, 3)
    assert found.high - found.mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert math.isnan(of_values([1.0], [2.0]).low)


def test_what_is_of_unequal_length_is_no_pair() -> None:
    for compare, first, second in ((of_correct, "10", "100"), (of_values, [1.0], [1.0, 2.0])):
        for pair in ((first, second), (second, first)):
            with pytest.raises(ValueError, match="zip"):
                compare(*pair)


def row(correct: str = "1100", **values: object) -> dict:
    return {"outcome": outcome(correct, **values)}


def test_runs_are_paired_over_examples_only_where_these_are_known_to_be_the_same() -> None:
    assert over_examples(row(), row("1111")).mean == 0.5
    assert over_examples(row(), row(identity={"test rows": {"texts": "bb", "count": 4}})) is None
    assert over_examples(row(identity={}), row(identity={})) is None
    assert over_examples(row(), row(metric="f1")) is None
    assert over_examples(row(), row() | {"outcome": outcome("1100") | {"correct": ""}}) is None


def test_scores_of_examples_are_paired_where_none_is_right_or_wrong() -> None:
    def scored(values: list[float | None]) -> dict:
        rest = {k: v for k, v in outcome().items() if k != "correct"}
        return {"outcome": rest | {"metric": "f1", "per_example": {"f1": values}}}

    found = over_examples(scored([0.0, 0.5]), scored([0.5, 1.0]))
    assert (found.mean, found.n, found.first) == (0.5, 2, None)
    assert over_examples(scored([0.0, None]), scored([0.5, 1.0])) is None


def groups(store: ls.RunStore, *methods: str):
    frame = ls.runs(store.folder)
    return [frame[frame["method"] == method] for method in methods]


def test_groups_are_paired_by_what_varies_in_them(tmp_path) -> None:
    store = filled(tmp_path)
    keys, pairs = paired(*groups(store, "random", "structured"), SETTINGS, ["method"])
    assert keys == ["seed"]
    assert pairs == [
        (config(seed=s).address,
         config(method="structured", seed=s, options={"granularity": "row"}).address)
        for s in (0, 1, 2)
    ]  # fmt: skip


def test_two_rates_of_one_seed_are_no_pair_and_the_sentence_names_the_rate(tmp_path) -> None:
    store = filled(tmp_path)
    store.write(config(lr=0.2), outcome())
    said = the_sentence(
        lambda: paired(*groups(store, "random", "structured"), SETTINGS, ["method"])
    )
    assert "differ in lr" in said
    assert "lr=0.2" in said or "lr=0.1" in said


def test_two_runs_of_a_group_are_told_apart_by_a_list_or_named_by_their_addresses(
    tmp_path,
) -> None:
    store = ls.RunStore(tmp_path)
    runs = [config(seed=s, settings={"betas": [b, 0.99]}) for s in (0, 1) for b in (0.5, 0.9)]
    for one in runs:
        store.write(one, outcome())
    frame = ls.runs(tmp_path)
    groups = [frame[frame["seed"] == seed] for seed in (0, 1)]
    _, pairs = paired(*groups, [*SETTINGS, "settings.betas"], ["seed"])
    assert pairs == [(runs[0].address, runs[2].address), (runs[1].address, runs[3].address)]
    said = the_sentence(lambda: paired(*groups, SETTINGS, ["seed"]))
    assert "which no column tells apart" in said
    assert all(one.address in said for one in runs[:2])


def test_groups_without_a_common_seed_are_refused(tmp_path) -> None:
    store = ls.RunStore(tmp_path)
    for method, seeds in (("random", (0, 1)), ("magnitude", (2, 3))):
        for seed in seeds:
            store.write(config(method=method, seed=seed), outcome())
    said = the_sentence(lambda: paired(*groups(store, "random", "magnitude"), SETTINGS, ["method"]))
    assert "agree in seed" in said


def test_masks_of_one_seed_are_told_apart_by_their_own_seeds(tmp_path) -> None:
    store = ls.RunStore(tmp_path)
    for method in ("random", "structured"):
        for mask_seed in (5, 6):
            store.write(config(method=method, mask_seed=mask_seed), outcome())
    keys, pairs = paired(*groups(store, "random", "structured"), SETTINGS, ["method"])
    assert keys == ["mask_seed"]
    assert len(pairs) == 2


def test_masks_count_where_one_group_alone_needs_their_seeds(tmp_path) -> None:
    store = ls.RunStore(tmp_path)
    for method, mask_seeds in (("random", (5, 6)), ("structured", (6,))):
        for mask_seed in mask_seeds:
            store.write(config(method=method, mask_seed=mask_seed), outcome())
    keys, pairs = paired(*groups(store, "random", "structured"), SETTINGS, ["method"])
    assert keys == ["mask_seed"]
    assert pairs == [
        (config(mask_seed=6).address, config(method="structured", mask_seed=6).address)
    ]
