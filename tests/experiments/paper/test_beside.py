"""Which of the paper's numbers stand beside a record, artefact by artefact."""

from __future__ import annotations

import pytest

from experiments.id3 import selections, table5
from experiments.paper.tables import printed
from experiments.random_masking import figure5, table1

OPT = {"model": "facebook/opt-13b", "task": "rte", "ratio": 1e-4}


def test_both_masks_of_figure_5_have_their_own_accuracies_and_rates() -> None:
    local = {"model": "minilm-l6", "task": "rotten_tomatoes", "ratio": 1e-4}
    found = {
        (arm, value): figure5.printed(value)(
            {**local, "arm": arm, "method": "random" if arm == "masks" else "structured"}
        )
        for arm in figure5.ARMS for value in ("score", "lr")
    }  # fmt: skip
    assert found == {
        ("masks", "score"): 0.861, ("masks", "lr"): 0.01,
        ("columns", "score"): 0.833, ("columns", "lr"): 0.01,
    }  # fmt: skip


def test_a_model_and_task_of_the_paper_stand_beside_themselves() -> None:
    record = {**OPT, "arm": "masks", "method": "random"}
    own, other = table1.printed(record), table1.printed({**record, "task": "rotten_tomatoes"})
    assert None not in (own, other)
    assert own != other


@pytest.mark.parametrize(
    ("record", "number"),
    [
        ({"method": "lora", "options": {"rank": 32}, "budget": None}, 0.341),
        ({"method": "id3", "options": {"rank": 32, "on": "lora"}, "budget": 7_000_000}, 0.383),
        ({"method": "id3", "options": {"rank": 8, "on": "lora"}, "budget": 10_000}, None),
    ],
)
def test_lora_on_arithmetic_stands_beside_its_rank_and_budget(record, number) -> None:
    assert table5.printed({"task": "gsm8k", **record}) == number


@pytest.mark.parametrize(
    ("arm", "sst2", "average"),
    [
        ("full", 0.9633, 0.8886), ("random", 0.9361, 0.8060), ("Fisher", 0.9522, 0.8695),
        ("PaFi", 0.9584, 0.8697), ("BitFit", 0.9538, 0.8643), ("ID3 increment", 0.9564, 0.8813),
        ("LoRA", 0.9557, 0.8876), ("PaFi + LoRA", 0.9603, 0.8876), ("ID3 + LoRA", 0.9576, 0.8893),
        ("SNIP", None, None),
    ],
)  # fmt: skip
def test_selections_stand_beside_the_paper_s_tables_1_and_2(arm, sst2, average) -> None:
    method, _, options = selections.ARMS[arm]
    record = {"arm": arm, "method": method, "options": options}
    assert selections.printed("sst2")(record) == sst2
    assert selections.printed("average")(record) == average


def test_selections_at_the_paper_s_larger_budget_stand_beside_it() -> None:
    small, large = (
        {"arm": "PaFi", "method": "magnitude_smallest", "options": {}, "budget": budget}
        for budget in (selections.COUNT, 320_000)
    )
    found = [selections.printed("average")(record) for record in (small, large)]
    assert found == [0.8697, printed("id3", "table 1", task="average", count=320_000,
                                     method="magnitude_smallest")]  # fmt: skip
    assert found[0] != found[1]
