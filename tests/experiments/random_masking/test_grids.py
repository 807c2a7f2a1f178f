"""Random masking's grids: the paper's preset beside its own tables, and what a model takes."""

from __future__ import annotations

import pytest

from experiments.paper.tables import rows
from experiments.random_masking import grids
from landscape.sweep.plan import at_most


def test_the_paper_s_rates_and_ratios_are_those_of_its_tables() -> None:
    for table in ("table 6", "table 7", "table 9"):
        assert {row["lr"] for row in rows("random_masking", table)} <= set(grids.DECADES)
    ratios = {row["ratio"] for row in rows("random_masking", "table 6")}
    assert ratios == set(grids.RATIOS["paper"])
    assert {row["task"] for row in rows("random_masking", "table 6")} == set(grids.TASKS)
    assert {row["model"] for row in rows("random_masking", "table 6")} == set(grids.OPT)


def test_small_tasks_have_the_sizes_and_micro_batches_of_the_paper_s_code() -> None:
    case = grids.opt(grids.OPT[0], "cb")
    assert (case["num_train"], case["num_dev"], case["num_test"]) == (200, 50, 56)
    assert case["batch_size"] * case["settings"]["accumulate"] == 8
    assert case["settings"]["select_by"] == "loss"
    assert case["settings"]["bos"] == 0
    assert case["epochs"] == 5


def test_the_paper_keeps_one_mask_for_its_runs_and_local_seeds_draw_their_own() -> None:
    paper = list(grids.masks("paper", grids.opt(grids.OPT[0], "sst2")).cells())
    assert {cell.mask_seed for cell in paper} == {42}
    assert {cell.seed for cell in paper} == {0, 1, 2}
    local = list(grids.masks("local", grids.MINILM).cells())
    assert {cell.mask_seed for cell in local} == {None}
    assert len({cell.seed for cell in local}) == 5


def test_a_case_takes_the_baselines_that_fit_its_model() -> None:
    assert "bitfit" not in grids.fitting("local", grids.SMOLLM2)
    assert "prefix" not in grids.fitting("local", grids.MINILM)
    for_opt = grids.fitting("paper", grids.opt(grids.OPT[0], "sst2"))
    assert {r["method"] for r in rows("random_masking", "table 7")} == set(for_opt) - {"none"}


def test_a_search_for_a_rate_starts_with_three_and_can_go_six_steps_on() -> None:
    grid = grids.masks("local", grids.MINILM, ratios=[1e-3])
    assert grid.rates is not None
    assert grid.rates.start(1e-3) == pytest.approx((3e-3, 1e-2, 3e-2))
    assert at_most(grid, {}) == 3 + 6 + 4
