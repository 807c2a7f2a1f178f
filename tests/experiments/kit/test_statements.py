"""Statements: verdicts and numbers against those computed by hand."""

from __future__ import annotations

import math

import pytest

from experiments.kit import statements
from experiments.kit.comparisons import cells, compare
from experiments.kit.statements import Statement

#: Student's 97.5 % quantile of two degrees of freedom, from a table
T2 = 4.302653


def run(arm: str, seed: int, test: float, **values: object) -> dict:
    usual = {"model": "m", "task": "t", "ratio": 1e-3, "mask_seed": None}
    return {**usual, "arm": arm, "seed": seed, "test": test, **values}


def arms(gaps: list[float], **values: object) -> list[dict]:
    """Return arm a above arm b by a gap a seed."""
    return [
        r for seed, gap in enumerate(gaps)
        for r in (run("a", seed, 0.5 + gap, **values), run("b", seed, 0.5, **values))
    ]  # fmt: skip


def right(arm: str, seed: int, test: float, correct: str, rows: str | None) -> dict:
    identity = {} if rows is None else {"test rows": {"all": rows}}
    return run(arm, seed, test, correct=correct, identity=identity)


def better(**options: object) -> Statement:
    return statements.better("a is better", "test", "a", "b", **options)  # type: ignore[arg-type]


def test_better_is_decided_by_students_interval_of_the_paired_differences() -> None:
    found = better().judge(arms([0.01, 0.02, 0.03]))
    half = T2 * 0.01 / math.sqrt(3)
    assert found.estimate == pytest.approx((0.02, 0.02 - half, 0.02 + half), rel=1e-6)
    assert found.verdict == "undecided"  # 0.0248 above and below 0.02
    assert better().judge(arms([0.02, 0.025, 0.03])).verdict == "holds"
    assert better().judge(arms([-0.02, -0.025, -0.03])).verdict == "fails"
    assert better().judge(arms([0.02])).verdict == "undecided"


def test_undecided_says_how_many_seeds_would_settle_what_was_seen() -> None:
    found = better().judge(arms([0.01, 0.02, 0.03, -0.04]))
    assert found.needs is not None
    assert f"about {found.needs} seeds" in found.evidence


def test_a_margin_is_a_threshold() -> None:
    rows = arms([-0.003, -0.002, -0.001])
    assert better(by=-0.01).judge(rows).verdict == "holds"
    assert better(by=-0.0001).judge(rows).verdict == "undecided"
    assert better(by=0.01).judge(rows).verdict == "fails"


def test_an_arm_without_a_ratio_is_compared_at_every_ratio_of_the_other() -> None:
    rows = [run("a", s, 0.6, ratio=p) for s in (0, 1) for p in (1e-2, 1e-3)]
    rows += [run("b", s, 0.5, ratio=None) for s in (0, 1)]
    assert sorted(at[-1] for at in cells(rows, "test", "a", "b")) == [1e-3, 1e-2]


def test_cells_are_averaged_within_a_seed_so_that_n_counts_seeds() -> None:
    rows = arms([0.1, 0.2], ratio=1e-2) + arms([0.3, 0.2], ratio=1e-3)
    found = compare(rows, "test", "a", "b")
    assert found is not None
    assert found.n == 2
    assert dict(found.each) == pytest.approx({0: 0.2, 1: 0.2})


def test_runs_of_one_seed_with_other_masks_are_averaged() -> None:
    rows = [*arms([0.1, 0.1]), run("a", 0, 0.8, mask_seed=9)]
    found = compare(rows, "test", "a", "b")
    assert found is not None
    assert dict(found.each) == pytest.approx({0: (0.1 + 0.3) / 2, 1: 0.1})


def test_runs_that_keep_what_they_had_right_are_compared_by_example_too() -> None:
    rows = [right("a", s, 0.75, "1110", f"rows of {s}") for s in (0, 1)]
    rows += [right("b", s, 0.5, "0110", f"rows of {s}") for s in (0, 1)]
    found = compare(rows, "test", "a", "b")
    assert found is not None
    assert found.mean == 0.25
    assert found.bootstrap is not None
    rows[0].pop("correct")
    assert compare(rows, "test", "a", "b").bootstrap is None  # type: ignore[union-attr]


@pytest.mark.parametrize("others", [["rows of 0", "other rows"], [None, None]])
def test_right_answers_to_other_test_rows_are_never_compared(others) -> None:
    rows = [right("a", s, 0.75, "1110", f"rows of {s}") for s in (0, 1)]
    rows += [right("b", s, 0.5, "0110", others[s]) for s in (0, 1)]
    found = compare(rows, "test", "a", "b")
    assert found is not None
    assert found.mean == 0.25
    assert found.bootstrap is None


def test_widens_compares_the_margins_at_the_two_ends() -> None:
    def world(grown: float) -> list[dict]:
        ends = [arms([0.01 + grown + n, 0.01 + grown - n], ratio=1e-4) for n in (0.001,)]
        return ends[0] + arms([0.01, 0.01], ratio=1e-3) + arms([0.01, 0.01], ratio=1e-2)

    statement = statements.widens("w", "test", "a", "b")
    found = statement.judge(world(0.05))
    assert found.verdict == "holds"
    assert found.estimate is not None
    assert found.estimate[0] == pytest.approx(0.05)
    assert statement.judge(world(-0.05)).verdict == "fails"
    assert statement.judge(arms([0.1, 0.1])).evidence == "1 values of ratio are too few"


def test_scales_fits_one_exponent_a_seed_and_names_law_and_paper() -> None:
    rows = [
        run("a", s, 0.5, ratio=p, distance=(1 + s) * p ** -(0.5 + 0.01 * s))
        for s in (0, 1, 2) for p in (1e-2, 1e-3, 1e-4)
    ]  # fmt: skip
    found = statements.scales("s", "distance", -1, law=-0.5, paper=-0.4).judge(rows)
    half = T2 * 0.01 / math.sqrt(3)
    assert found.estimate == pytest.approx((-0.51, -0.51 - half, -0.51 + half), rel=1e-6)
    assert found.verdict == "holds"
    assert "linear theory -0.5; the paper's own numbers -0.40" in found.evidence
    assert statements.scales("s", "distance", 1).judge(rows).verdict == "fails"


def test_a_single_seed_has_an_exponent_and_decides_nothing() -> None:
    rows = [run("a", 0, 0.5, ratio=p, distance=p**-0.5 * scatter)
            for p, scatter in ((1e-2, 1.0), (1e-3, 1.05), (1e-4, 0.97), (1e-5, 1.0))]  # fmt: skip
    found = statements.scales("s", "distance", -1).judge(rows)
    assert found.estimate is not None
    assert found.estimate[2] < -0.4  # its points lie on a line, far from level
    assert found.verdict == "undecided"
    lacking = [run("a", seed, 0.5, ratio=1e-2, distance=1.0) for seed in (1, 2)]
    assert statements.scales("s", "distance", -1).judge(rows + lacking).verdict == "undecided"
    apart = [r | {"seed": seed} for seed, r in enumerate(rows)]  # a mask of its own each
    assert statements.scales("s", "distance", -1).judge(apart).verdict == "holds"


def test_exponents_of_several_models_are_averaged_within_a_seed_so_that_n_counts_seeds() -> None:
    rows = [
        run("a", s, 0.5, model=model, ratio=p, distance=level * p ** -(power + 0.01 * s))
        for model, level, power in (("m", 1.0, 0.2), ("n", 30.0, 0.8))
        for s in (0, 1, 2) for p in ((1e-2, 1e-3) if model == "m" else (1e-3, 1e-4, 1e-5))
    ]  # fmt: skip
    found = statements.scales("s", "distance", -1).judge(rows)
    half = T2 * 0.01 / math.sqrt(3)
    assert found.estimate == pytest.approx((-0.51, -0.51 - half, -0.51 + half), rel=1e-6)
    assert "3 slopes, t, one a seed, over 2 cells" in found.evidence
    lacking = [r for r in rows if (r["model"], r["seed"], r["ratio"]) != ("n", 2, 1e-4)]
    found = statements.scales("s", "distance", -1).judge(lacking)
    assert found.estimate is not None
    assert found.estimate[0] == pytest.approx(-0.505)
    assert "2 slopes, t, one a seed, over 2 cells, 1 left out: incomplete" in found.evidence


def test_alike_settles_a_factor() -> None:
    def world(factor: float, scatter: float) -> list[dict]:
        return [
            run(arm, s, 0.5, sharp=-(factor if arm == "a" else 1.0) * math.exp(n * (arm == "a")))
            for s, n in enumerate((-scatter, 0.0, scatter)) for arm in ("a", "b")
        ]  # fmt: skip

    statement = statements.alike("s", "sharp", "a", "b", within=2.0)
    assert statement.judge(world(1.0, 0.05)).verdict == "holds"
    assert statement.judge(world(4.0, 0.05)).verdict == "fails"
    assert statement.judge(world(1.0, 1.0)).verdict == "undecided"
    found = statement.judge(world(4.0, 0.05))
    assert found.estimate is not None
    assert found.estimate[0] == pytest.approx(4.0)


def test_larger_is_by_a_factor() -> None:
    rows = [run(arm, s, 0.5, sharp=(3.0 + s if arm == "a" else 1.0))
            for s in (0, 1, 2) for arm in ("a", "b")]  # fmt: skip
    assert statements.larger("l", "sharp", "a", "b").judge(rows).verdict == "holds"
    assert statements.larger("l", "sharp", "a", "b", by=100.0).judge(rows).verdict == "fails"


def test_monotone_needs_every_step() -> None:
    rows = [
        run("a", s, 0.5, ratio=p, sharp=v * (1 + 10 * s * p))
        for s in (0, 1, 2) for p, v in ((1e-4, 1.0), (1e-3, 4.0), (1e-2, 2.0))
    ]  # fmt: skip
    grows = statements.monotone("m", "sharp", 1)
    assert grows.judge(rows).verdict == "fails"
    assert grows.judge([r for r in rows if r["ratio"] < 1e-2]).verdict == "holds"
    assert statements.monotone("m", "sharp", -1).judge(rows).verdict == "fails"


def test_exceeds_is_about_the_mean_over_seeds() -> None:
    rows = [run("a", s, 0.70 + s / 100, correct="10") for s in (0, 1, 2)]
    assert statements.exceeds("e", "test", 0.6).judge(rows).verdict == "holds"
    assert statements.exceeds("e", "test", 0.9).judge(rows).verdict == "fails"
    assert statements.exceeds("e", "test", 0.7).judge(rows).verdict == "undecided"


def test_below_is_the_contrary_of_exceeds_and_shows_the_value_itself() -> None:
    rows = [run("a", s, 0.70 + s / 100, a_move=0.70 + s / 100) for s in (0, 1, 2)]
    for level, verdict in ((0.6, "fails"), (0.9, "holds"), (0.7, "undecided")):
        found = statements.below("e", "a_move", level).judge(rows)
        other = statements.exceeds("e", "a_move", level).judge(rows)
        assert found.verdict == verdict
        assert (found.estimate, found.evidence, found.clause) == (
            other.estimate, other.evidence, other.clause,
        )  # fmt: skip
    half = T2 * 0.01 / math.sqrt(3)
    found = statements.below("e", "a_move", 0.9).judge(rows)
    assert found.estimate == pytest.approx((0.71, 0.71 - half, 0.71 + half), rel=1e-6)
    assert found.evidence.startswith("mean a move: +0.710 [0.685, 0.735] (3 seeds, t), could")
    assert found.evidence.endswith("; threshold 0.9")
    assert found.clause == "mean a move +0.710 [0.685, 0.735], 3 seeds, threshold 0.9"
    assert statements.below("e", "x", 0.9).judge(rows).verdict == "undecided"


def test_signs_and_deviations_from_zero_are_told_of_a_level_that_zero_is_the_threshold_of() -> None:
    rows = [run("a", s, 0.70 + s / 100) for s in (0, 1, 2)]
    at_zero = statements.exceeds("e", "test", 0.0).judge(rows).evidence
    assert "g=40, sign-flip p=.25" in at_zero  # .71 / .01 / √π
    assert "g=" not in (said := statements.exceeds("e", "test", 0.6).judge(rows).evidence)
    assert "sign-flip" not in said


def test_names_of_values_are_words_in_evidence() -> None:
    rows = [run("a", s, 0.5, ratio=p, norm_before=p * (1 + s)) for s in (0, 1) for p in (0.1, 0.01)]
    found = statements.scales("s", "norm_before", 1).judge(rows)
    assert found.evidence.startswith("exponent of norm before in ratio")
    assert found.clause.startswith("exponent of norm before in ratio")


def test_one_that_fails_fails_each_and_nothing_decides_nothing() -> None:
    good, bad = better(), better(by=1.0)
    rows = arms([0.02, 0.025, 0.03])
    assert statements.each("e", [good, bad]).judge(rows).verdict == "fails"
    assert statements.each("e", [good, good]).judge(rows).verdict == "holds"
    assert better().judge([]).verdict == "undecided"


def test_the_same_is_stated_at_each_value_that_records_have() -> None:
    statement = statements.at_each(
        "every ratio learns", "ratio",
        lambda ratio: statements.better(f"at {ratio:g}", "test", "a", "b", where={"ratio": ratio}),
        but=1.0,
    )  # fmt: skip
    good = [r | {"ratio": 0.1} for r in arms([0.02, 0.025, 0.03])]
    bad = [r | {"ratio": 0.2} for r in arms([-0.02, -0.025, -0.03])]
    left_out = [r | {"ratio": 1.0} for r in arms([-0.02, -0.025, -0.03])]
    assert statement.judge(good + left_out).verdict == "holds"
    assert statement.judge(good + left_out).statement == "every ratio learns"
    assert "at 0.1: holds" in statement.judge(good).evidence
    both = statement.judge(good + bad)
    assert both.verdict == "fails"
    assert "at 0.1: holds" in both.evidence
    assert "at 0.2: fails" in both.evidence
    same = statements.at_each("a is better", "ratio", lambda _: better())
    assert same.judge(good) == better().judge(good)  # said once where there is one value
    assert statement.judge(arms([0.02])).verdict == statement.judge([]).verdict == "undecided"


def test_what_must_be_true_everywhere_counts_where_it_was_measured() -> None:
    statement = statements.true_everywhere("t", "x", "y")
    several = statement.judge([{"x": True, "y": False}, {"x": True}, {"z": True}])
    assert several.evidence == "true of 2 of 3 values of 2 runs"
    assert statement.judge([{"x": True, "y": False}]).verdict == "fails"
    assert statement.judge([{}]).verdict == "undecided"
    one = statements.true_everywhere("t", "x")
    assert one.judge([{"x": True}, {"x": False}, {}]).evidence == "true of 1 of 2 runs"
    assert one.judge([{"x": True}]).evidence == "true of 1 of 1 run"
