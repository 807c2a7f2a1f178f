"""The artefact `selections`: its statements in made-up worlds, its sizes, its published numbers."""

from __future__ import annotations

import pytest
from made_rows import made

from experiments.id3 import selections
from experiments.id3.selections import ARMS, ARTEFACT, COUNT, ORDERS, WHOLE
from experiments.kit.judge import Finding
from experiments.kit.published import file_of, rows_at
from experiments.kit.records import Row
from landscape.sweep import RunConfig

LIKE_THE_PAPER = {
    "full": 0.98, "BitFit": 0.9, "LoRA": 0.9, "adapter": 0.9, "random": 0.8, "magnitude": 0.85,
    "PaFi": 0.92, "SNIP": 0.91, "Fisher": 0.91, "ID3 static": 0.93, "ID3 repeat": 0.94,
    "ID3 increment": 0.96, "PaFi + LoRA": 0.93, "ID3 + LoRA": 0.95, "SparseAdapter": 0.92,
    "ID3 + adapter": 0.94,
}  # fmt: skip


def world(accuracies: dict[str, float], seeds: int = 3, odd: str = "") -> list[Row]:
    """Rows of preset local; `odd` has another size than the other masks."""

    def outcome(config: RunConfig) -> dict[str, object]:
        arm = selections.derive(config.as_dict())["arm"]
        place = list(ARMS).index(arm) if arm in ARMS else -1
        noise = 0.001 * config.seed * (1 + 0.05 * place)
        test = 0.5 if arm not in ARMS else accuracies[arm] + noise
        return {"dev": 0.8, "test": test, "count": COUNT + (arm == odd)}

    rows = made(ARTEFACT.of("local"), outcome)
    return [row for row in rows if row["config"]["seed"] < seeds]


def judged(rows: list[Row]) -> dict[str, Finding]:
    return ARTEFACT.findings(ARTEFACT.records(rows, ARTEFACT.of("local")))


def test_the_papers_order_holds_and_its_reverse_does_not() -> None:
    assert {f.verdict for f in judged(world(LIKE_THE_PAPER)).values()} == {"holds"}
    reverse = {arm: 1.2 - accuracy for arm, accuracy in LIKE_THE_PAPER.items()}
    found = judged(world(reverse))
    orders = [finding for name, finding in found.items() if " over " in name]
    assert len(orders) == len(ORDERS) == 15
    assert {f.verdict for f in orders} == {"fails"}
    assert judged(world(dict.fromkeys(ARMS, 0.4)))["learns"].verdict == "fails"


def test_unequal_masks_are_found() -> None:
    finding = judged(world(LIKE_THE_PAPER, odd="SNIP"))["size"]
    assert finding.verdict == "fails"
    assert f"SNIP {COUNT + 1:,}" in finding.evidence


def test_one_seed_decides_no_order() -> None:
    found = judged(world(LIKE_THE_PAPER, seeds=1))
    assert {f.verdict for name, f in found.items() if " over " in name} == {"undecided"}


@pytest.mark.parametrize("preset", ["smoke", "local"])
def test_every_run_is_of_the_arm_that_listed_it_and_masks_have_the_budget(preset) -> None:
    start, *grids = ARTEFACT.of(preset)
    assert {c.method for c in start.cells()} == {"none"}
    for arm, grid in zip(ARMS if preset == "local" else selections.SMOKE, grids, strict=True):
        for cell in grid.cells():
            assert selections.derive(cell.as_dict())["arm"] == arm
            assert cell.count == (None if arm in WHOLE else COUNT)


def test_the_papers_runs_are_of_the_arms_of_its_tables_at_the_larger_budget() -> None:
    start, *grids = ARTEFACT.of("paper")
    assert {c.method for c in start.cells()} == {"none"}
    arms = [selections.derive(next(iter(grid.cells())).as_dict())["arm"] for grid in grids]
    assert sorted(arms) == sorted(set(ARMS) - {"magnitude", "SNIP"})
    for arm, grid in zip(arms, grids, strict=True):
        for cell in grid.cells():
            assert (cell.task, cell.model) == ("sst2", "microsoft/deberta-v3-base")
            assert cell.count == (None if arm in WHOLE else 320_000)


def test_inserted_sizes_are_those_nearest_to_the_budget_and_to_four_times_it() -> None:
    # hidden size 384, six layers: LoRA on query and value has 2 * 6 * (384 + 384) numbers a rank,
    # adapters 2 * 6 * (2 * 384 + 1) a width beside 2 * 6 * 384 biases
    for rank, budget in ((selections.LORA["rank"], 1), (selections.ON_LORA["rank"], 4)):
        assert rank == round(budget * COUNT / 9216)
    for width, budget in ((selections.ADAPTER["width"], 1), (selections.ON_ADAPTER["width"], 4)):
        assert width == round((budget * COUNT - 4608) / 9228)


def test_the_published_rows_say_what_was_printed() -> None:
    rows = rows_at(file_of("local"), ARTEFACT, "local")
    records = ARTEFACT.records(rows, ARTEFACT.of("local"))
    (lines,) = ARTEFACT.lines(records).values()
    told = {line["arm"]: line for line in lines}
    assert told["full"]["test"] == "0.743 ± 0.021"
    assert told["ID3 increment"]["test"] == "0.696 ± 0.012"
    assert told["ID3 + LoRA"]["dev"] == "0.598 ± 0.084"
    assert (told["adapter"]["trainable"], told["adapter"]["rate"]) == ("32,292", "0.001*")
    assert told["PaFi"]["paper, SST-2"] == "0.958"
    assert [line["seeds"] for line in lines] == ["3"] * 17
    verdicts = [finding.verdict for finding in ARTEFACT.findings(records).values()]
    assert verdicts == ["undecided"] * 15 + ["holds", "undecided"]
