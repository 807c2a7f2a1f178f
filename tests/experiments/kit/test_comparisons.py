"""Arms and cells: which runs stand against which, as which values, and what a finding asks for."""

from __future__ import annotations

import math
from typing import Any

import pytest

from experiments.kit import comparisons, statements
from experiments.kit.comparisons import compare, exponent
from experiments.kit.statistics import two_level_over


def run(arm: str, seed: int, test: float = 0.5, **values: Any) -> dict[str, Any]:
    return {"model": "m", "task": "t", "ratio": 1e-3, "arm": arm, "seed": seed, "test": test,
            **values}  # fmt: skip


def test_an_arm_without_a_ratio_stands_in_every_cell_of_the_other() -> None:
    rows = [run("a", s, 0.6 + p + s / 100, ratio=p) for s in (0, 1) for p in (1e-2, 1e-3)]
    found = compare([*rows, *(run("b", s, ratio=None) for s in (0, 1))], "test", "a", "b")
    assert found is not None
    assert dict(found.each) == pytest.approx({0: 0.1055, 1: 0.1155})
    assert found.left_out == 0


def test_runs_that_do_not_say_which_rows_they_saw_are_not_compared_by_example() -> None:
    rows = [run(arm, s, 0.5, correct=right) for s in (0, 1)
            for arm, right in (("a", "1100"), ("b", "0011"))]  # fmt: skip
    found = compare(rows, "test", "a", "b")
    assert found is not None
    assert found.bootstrap is None


RIGHT = {("a", 0): "11101110", ("a", 1): "11111100", ("b", 0): "10101010", ("b", 1): "11101100"}


def shown(arm: str, seed: int, rows: str, **values: Any) -> dict[str, Any]:
    right, identity = RIGHT[arm, seed], {"test rows": {"all": rows}}
    return run(arm, seed, right.count("1") / 8, correct=right, identity=identity, **values)


def test_ratios_of_a_task_share_its_examples_and_other_rows_are_examples_of_their_own() -> None:
    def over(*rows: str) -> Any:
        records = [shown(arm, s, f"{name} of {s}", ratio=p) for s in (0, 1) for arm in "ab"
                   for p, name in zip((1e-2, 1e-3), rows, strict=True)]  # fmt: skip
        return compare(records, "test", "a", "b")

    arms = tuple({s: RIGHT[arm, s] for s in (0, 1)} for arm in "ab")
    cells = dict.fromkeys((1e-2, 1e-3), arms)
    shared = {p: {0: 0, 1: 1} for p in cells}
    assert over("one", "one").bootstrap == two_level_over(cells, shared)
    assert over("one", "other").bootstrap == two_level_over(cells)
    assert two_level_over(cells) != two_level_over(cells, shared)
    assert over("one", "one").interval == over("one", "other").interval


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ({}, True), ({"num_test": 8}, True),
        ({"num_test": 9}, False),  # more were asked for than there are
        ({"num_test": 8, "task": "short"}, False),  # as many as there are
        ({"num_test": 8, "task": "sst2"}, True),  # 8 of 872
    ],
)  # fmt: skip
def test_examples_that_all_seeds_have_since_there_are_no_others_are_not_drawn(
    values: dict[str, Any], drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparisons, "VALIDATION", {"sst2": 872, "short": 8})
    records = [shown(arm, s, f"of {s}", **values) for s in (0, 1) for arm in "ab"]
    found = compare(records, "test", "a", "b")
    assert found is not None
    assert (found.bootstrap is not None) == drawn
    assert found.interval.value == pytest.approx(0.1875)


def test_a_baseline_without_a_ratio_is_paired_by_example_at_every_ratio() -> None:
    records = [shown("a", s, f"of {s}", ratio=p) for s in (0, 1) for p in (1e-2, 1e-3)]
    records += [shown("b", s, f"of {s}", ratio=None) for s in (0, 1)]
    found = compare(records, "test", "a", "b")
    assert found is not None
    assert found.bootstrap is not None
    records[0] |= {"correct": None}
    found = compare(records, "test", "a", "b")
    assert found is not None
    assert found.bootstrap is None


def test_accuracies_compared_as_factors_are_no_differences_of_texts() -> None:
    records = [shown(arm, s, f"of {s}") for s in (0, 1) for arm in "ab"]
    found = compare(records, "test", "a", "b", log=True)
    assert found is not None
    assert math.exp(found.each[0]) == pytest.approx(6 / 4)
    assert found.bootstrap is None


def test_several_masks_of_a_seed_are_averaged_though_each_says_what_it_had_right() -> None:
    rows = [run(arm, s, right.count("1") / 4, correct=right, mask_seed=mask,
                identity={"test rows": {"texts": f"of {s}"}}) for s in (0, 1)
            for arm, pair in (("a", ("1100", "1111")), ("b", ("1000", "1000")))
            for mask, right in enumerate(pair)]  # fmt: skip
    found = compare(rows, "test", "a", "b")
    assert found is not None
    assert dict(found.each) == pytest.approx({0: 0.5, 1: 0.5})


def test_magnitudes_of_one_seed_have_a_geometric_mean_and_a_seed_with_a_zero_has_none() -> None:
    rows = [run(arm, s, sharp=-v, mask_seed=mask) for s in (0, 1, 2)
            for arm, pair in (("a", (1.0 + s, 100.0)), ("b", (1.0, 1.0)))
            for mask, v in enumerate(pair)]  # fmt: skip
    found = compare(rows, "sharp", "a", "b", log=True)
    assert found is not None
    assert found.each[0] == pytest.approx(math.log(10))
    rows[0]["sharp"] = 0.0
    found = compare(rows, "sharp", "a", "b", log=True)
    assert found is not None
    assert (sorted(found.each), found.left_out) == ([1, 2], 1)


def test_points_of_an_exponent_are_geometric_means_of_a_seeds_runs() -> None:
    rows = [run("a", s, ratio=p, mask_seed=mask, sharp=v) for s in (0, 1)
            for p, pair in ((1e-2, (1.0, 100.0)), (1e-3, (1.0, 1.0 + s))) for mask, v in
            enumerate(pair)]  # fmt: skip
    found = exponent(rows, "sharp", "ratio")
    assert found is not None
    assert found.value == pytest.approx((1 + 1 - math.log10(2) / 2) / 2)


def test_a_number_of_seeds_is_asked_for_where_no_difference_is_undecided_alone() -> None:
    rows = [run(arm, s, 0.5 + gap * (arm == "a")) for s, gap in enumerate((0.03, -0.01, 0.02))
            for arm in "ab"]  # fmt: skip
    plain = statements.better("p", "test", "a", "b")
    margin = statements.better("p", "test", "a", "b", by=0.001)
    assert plain.judge(rows).needs is not None
    assert margin.judge(rows).verdict == "undecided"
    assert margin.judge(rows).needs is None
    sure = [r | {"test": r["test"] + 0.5} if r["arm"] == "a" else r for r in rows]
    assert plain.judge(sure).verdict == "holds"
    assert plain.judge(sure).needs is None
    several = statements.each("e", [plain, plain])
    assert several.judge(rows).needs == plain.judge(rows).needs
    assert statements.each("e", [plain, margin]).judge(rows).needs is None
