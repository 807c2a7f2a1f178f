"""Cases apart: panels that pool nothing, findings that say where a statement is true."""

from __future__ import annotations

from typing import Any

from experiments.kit.cases import apart, case_by_case
from experiments.kit.panels import Panel
from experiments.kit.records import matching
from experiments.kit.statements import better


def record(task: str, arm: str, test: float, seed: int = 0, **values: Any) -> dict[str, Any]:
    return {"model": "m", "task": task, "arm": arm, "test": test, "seed": seed, **values}


RECORDS = [
    record(task, arm, level + seed / 1000 + 0.0001 * seed * (arm == "one"), seed, ratio=None)
    for task, one in (("high", 0.9), ("low", 0.5)) for seed in range(3)
    for arm, level in (("one", one), ("other", 0.6))
]  # fmt: skip


def test_every_record_of_a_figure_is_in_the_panel_of_its_own_case_alone() -> None:
    panels = apart(Panel("Accuracy", lambda *_: None, {"arm": "one"}))(RECORDS)
    assert [panel.title for panel in panels] == ["Accuracy, high", "Accuracy, low"]
    shown = [matching(RECORDS, panel.where) for panel in panels]
    assert [{r["task"] for r in own} for own in shown] == [{"high"}, {"low"}]
    assert sum(map(len, shown)) == sum(r["arm"] == "one" for r in RECORDS)


def test_what_has_no_budget_is_drawn_beside_every_budget_and_in_no_panel_of_its_own() -> None:
    records = [record("t", "one", 0.5, budget=b) for b in (None, 10, 20)]
    panels = apart(Panel("", lambda *_: None), by=("task", "budget"))(records)
    assert [panel.title for panel in panels] == ["10 weights", "20 weights"]
    assert [len(matching(records, panel.where)) for panel in panels] == [2, 2]
    alone = [record("u", "one", 0.5, budget=None)]
    assert [p.title for p in apart(Panel("", print), by=("task", "budget"))(records + alone)] == [
        "t, 10 weights", "t, 20 weights", "u, -",
    ]  # fmt: skip


def test_a_statement_that_is_true_on_the_average_is_told_false_in_its_case() -> None:
    statement = better("one is better", "test", "one", "other", over="ratio")
    assert statement.judge(RECORDS).verdict == "holds"
    found = {f.statement: f.verdict for f in case_by_case(statement)(RECORDS)}
    assert found == {"high: one is better": "holds", "low: one is better": "fails"}
    assert case_by_case(statement)([r for r in RECORDS if r["task"] == "low"]) == []
