"""The growth of best rates: exponents with what a grid allows, and rates at its edge."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.kit.judge import Finding
from experiments.random_masking.exponents import grows

RATIOS = 1e-2, 1e-3, 1e-4


def judged(exponents: list[float], edge: str = "", tried: tuple[float, ...] = ()) -> Finding:
    records = [
        {"model": "m", "task": "t", "seed": seed, "ratio": p, "lr": 1e-4 * (p / 1e-2) ** s,
         "edge": edge if p == 1e-4 else "", "tried": tried or (1e-4, 1e-3)}
        for seed, s in enumerate(exponents) for p in RATIOS
    ]  # fmt: skip
    return grows("t", paper="-1", by_seed=True, where={}).judge(records)


def test_equal_exponents_are_as_uncertain_as_half_a_step_of_the_rates_allows() -> None:
    found = judged([-1.0, -1.0, -1.0])
    assert found.verdict == "holds"
    assert found.estimate is not None
    # worst case by brute force: every best rate of the three off by half a decade either way
    worst = max(
        abs(np.polyfit(np.log10(RATIOS), [a / 2, b / 2, c / 2], 1)[0])
        for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)
    )  # fmt: skip
    assert found.estimate[2] + 1 == pytest.approx(worst)
    assert found.estimate[1] + 1 == pytest.approx(-worst)


def test_scattered_exponents_have_student_s_interval_where_it_is_wider() -> None:
    found = judged([-2.5, -0.2, 0.1])
    assert found.verdict == "undecided"
    assert found.estimate is not None
    values = np.array([-2.5, -0.2, 0.1])
    half = 4.302652729911275 * values.std(ddof=1) / np.sqrt(3)  # Student's 97.5 %, 2 degrees
    assert found.estimate[1] == pytest.approx(values.mean() - half)


def test_rates_that_fall_with_the_ratio_fail_and_finer_grids_say_more() -> None:
    assert judged([1.0, 1.1, 0.9]).verdict == "fails"
    assert judged([-0.4, -0.4]).verdict == "undecided"
    assert judged([-0.4, -0.4], tried=(1e-3, 3e-3)).verdict == "holds"


def test_a_best_rate_at_the_edge_decides_only_if_beyond_it_rates_would_grow_more() -> None:
    assert judged([-1.0, -1.0], edge="highest").verdict == "holds"
    assert judged([-1.0, -1.0], edge="lowest").verdict == "undecided"
    assert "2 of 6 rates, at the edge" in judged([-1.0, -1.0], edge="lowest").evidence


def test_seeds_that_share_a_rate_are_one_repetition_a_model_and_task() -> None:
    def found(models: str) -> Finding:
        records = [
            {"model": m, "task": "t", "seed": seed, "ratio": p, "lr": 1e-4 / p, "edge": "",
             "tried": (1.0, 3.0), "scaled": True}
            for m in models for seed in range(5) for p in RATIOS
        ]  # fmt: skip
        return grows("t", paper="-1", by_seed=False, where={}).judge(records)

    assert found("m").verdict == "undecided"
    assert found("mn").verdict == "holds"
    assert "2 model and tasks" in found("mn").evidence
    assert "the rates tried were scaled with 1/ratio" in found("mn").evidence


def test_one_repetition_decides_nothing() -> None:
    assert judged([-1.0]).verdict == "undecided"


def test_models_are_no_seeds_and_a_seed_that_lacks_one_is_left_out() -> None:
    exponents = {("m", 0): -1.0, ("n", 0): -2.0, ("m", 1): -1.2, ("n", 1): -1.4, ("m", 2): -9.0}
    records = [
        {"model": m, "task": "t", "seed": seed, "ratio": p, "lr": p**s, "edge": "",
         "tried": (1.0, 1.0001)}
        for (m, seed), s in exponents.items() for p in RATIOS
    ]  # fmt: skip
    found = grows("t", paper="-1", by_seed=True, where={}).judge(records)
    assert found.estimate is not None
    assert found.estimate[0] == pytest.approx((-1.5 - 1.3) / 2)
    # Student's 97.5 % with one degree of freedom, of two values 0.2 apart
    assert found.estimate[1] == pytest.approx(-1.4 - 12.706204736 * 0.1, abs=1e-3)
    assert "2 seeds, t, over 2 cells, 1 left out: incomplete" in found.evidence


def test_of_a_table_with_gaps_the_largest_block_is_judged_and_what_it_lacks_is_named() -> None:
    exponents = {("m", s): -1.0 - s / 10 for s in range(3)} | {("n", 0): -9.0}
    records = [
        {"model": m, "task": "t", "seed": seed, "ratio": p, "lr": p**s, "tried": (1.0, 1.0001),
         "edge": "lowest" if m == "n" and p == 1e-4 else ""}
        for (m, seed), s in exponents.items() for p in RATIOS
    ]  # fmt: skip
    records += [{**r, "seed": 3} for r in records[:2]]  # a seed that lacks one of m's ratios
    found = grows("t", paper="-1", by_seed=True, where={}).judge(records)
    assert found.estimate is not None
    assert found.estimate[0] == pytest.approx(-1.1)  # not -5, the one seed that both have
    assert "over 1 of 2 cells, without n t, which lack common seeds, 1 left out" in found.evidence
    assert found.verdict == "holds"  # a rate at the edge outside of the block decides nothing
