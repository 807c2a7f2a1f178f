"""ID3's grids: the paper's preset beside the paper's own tables, budgets, and names of arms."""

from __future__ import annotations

import pytest

from experiments.id3 import figure6, grids, table1
from experiments.paper.tables import printed


@pytest.mark.parametrize("task", grids.GLUE)
def test_the_paper_s_preset_trains_as_its_table_7b_prints(task: str) -> None:
    case = grids.deberta(task)
    assert case["epochs"] == printed("id3", "table 7b", task=task, value="epochs")
    every = printed("id3", "table 7b", task=task, value="eval_steps")
    assert case["settings"]["evaluate_every"] == every
    assert case["settings"]["max_length"] == printed("id3", "table 7b", task=task, value="length")
    assert case["batch_size"] == 16


@pytest.mark.parametrize("task", grids.GLUE)
def test_its_splits_are_the_official_ones_as_table_6_rounds_them(task: str) -> None:
    train, dev, test = grids.GLUE[task]
    assert train + dev == pytest.approx(
        printed("id3", "table 6", task=task, value="train"), rel=0.02
    )
    assert test == pytest.approx(printed("id3", "table 6", task=task, value="dev"), rel=0.05)


def test_arms_with_a_size_of_their_own_have_no_budget_and_others_every_budget() -> None:
    lora, id3 = grids.arms("local", grids.LOCAL | {"task": "sst2"}, ("LoRA", "ID3"), (10, 20))
    assert {cell.count for cell in lora.cells()} == {None}
    assert [cell.count for cell in id3.cells()] == [10] * 5 + [20] * 5


def test_every_arm_is_known_by_its_method_schedule_and_options() -> None:
    for name in grids.ARMS:
        (grid,) = grids.arms("smoke", grids.SMOKE, (name,))
        assert grids.arm_of(next(iter(grid.cells())).as_dict()) == name
    (none,) = grids.arms("smoke", grids.SMOKE, ("none",))
    assert grids.arm_of(next(iter(none.cells())).as_dict()) == "before training"


def test_local_budgets_stand_to_the_model_as_the_paper_s_do() -> None:
    # MiniLM has 25,728 biases, DeBERTa-v3-base 103 thousand; see the claims
    assert grids.SMALL["local"] == 6 * (3 * 384 + 384 + 384 + 1536 + 384 + 384) + 384
    ours, papers = (grids.LARGE[p] / grids.SMALL[p] for p in ("local", "paper"))
    assert ours == pytest.approx(papers, rel=0.01)


@pytest.mark.parametrize(
    ("preset", "model", "size"),
    [("local", "minilm-l6", 22_713_216), ("paper", "microsoft/deberta-v3-base", 184_000_000)],
)
def test_low_is_the_lowest_budget_and_high_are_those_from_a_thousandth_on(
    preset: str, model: str, size: int
) -> None:
    lowest, *others = figure6.BUDGETS[preset]
    assert figure6.LEVELS[model, lowest] == "low"
    high = [budget for budget in others if budget > 0.001 * size]
    assert [b for b in others if figure6.LEVELS.get((model, b)) == "high"] == high
    assert len(high) == 2


def test_an_id3_table_prints_the_papers_score_of_the_same_task_and_budget() -> None:
    record = {"method": "id3", "budget": 80_000, "task": "mrpc"}
    want = printed("id3", "table 1", task="mrpc", method="id3", count=320_000)
    assert table1.printed(record) == want
    assert table1.printed({**record, "budget": 320_000}) == want
    bitfit = {"method": "bitfit", "budget": None, "task": "stsb"}
    assert table1.printed(bitfit) == printed("id3", "table 1", task="stsb", method="bitfit")
