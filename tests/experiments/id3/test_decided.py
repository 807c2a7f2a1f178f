"""What ID3's tables and figures decide by: scores, at rates that are chosen alike."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from made_rows import made

from experiments.id3 import figure4, figure6, grids, table1
from experiments.kit.panels import draw
from landscape.sweep.config import RunConfig


def scored(config: RunConfig) -> dict[str, Any]:
    """Return an outcome; weights updated at three steps are as the schedule says."""
    grown = [1 / 3, 2 / 3, 1] if config.schedule == "increment" else [1, 1, 1]
    return {
        "dev": 0.8, "test": 0.8 + 0.001 * config.seed,
        "updated": [int(share * (config.count or 0)) + 770 for share in grown],
    }  # fmt: skip


def test_the_schedule_alone_decides_no_statement_of_figure_6() -> None:
    chosen = figure6.ARTEFACT.of("local")
    records = figure6.ARTEFACT.records(made(chosen, scored), chosen)
    findings = figure6.ARTEFACT.findings([r | {"test": None} for r in records])
    assert {f.verdict for f in findings.values()} == {"undecided"}


def test_figure_6_tells_how_many_updates_a_schedule_takes() -> None:
    chosen = figure6.ARTEFACT.of("local")
    records = figure6.ARTEFACT.records(made(chosen, scored), chosen)
    (lines,) = figure6.ARTEFACT.lines(records).values()
    told = {(line["arm"], line["budget"]): line for line in lines}
    assert told["ID3", "8,000"]["updates"] == "15,999"  # 2,666 + 5,333 + 8,000
    assert told["ID3", "8,000"]["of budget x steps"] == "0.667"  # (T + 1) / 2T of T = 3
    assert told["ID3, static", "80,000"]["updates"] == "240,000"


def test_ticks_of_a_budget_s_axis_do_not_overlap() -> None:
    chosen = figure6.ARTEFACT.of("local")
    records = figure6.ARTEFACT.records(made(chosen, scored), chosen)
    figure = draw(figure6.ARTEFACT.drawn(records), records, columns=2)
    figure.canvas.draw()
    axis = figure.axes[0].xaxis
    labels = [t for t in (*axis.get_majorticklabels(), *axis.get_minorticklabels()) if t.get_text()]
    low, high = axis.get_view_interval()
    boxes = sorted(
        (t.get_window_extent().x0, t.get_window_extent().x1)
        for t in labels if low <= t.get_position()[0] <= high
    )  # fmt: skip
    assert len(boxes) > 1
    assert all(left[1] < right[0] for left, right in pairwise(boxes))


def test_full_fine_tuning_is_compared_where_there_is_a_large_budget_and_nowhere_else() -> None:
    chosen = table1.ARTEFACT.of("local")
    records = table1.ARTEFACT.records(made(chosen, scored), chosen)
    found = table1.ARTEFACT.statements["beats_full"].judge(records)
    assert "5 seeds" in found.evidence
    assert "lack" not in found.evidence


def test_local_options_of_the_score_differ_in_nothing_but_their_mask() -> None:
    cells = [cell for grid in figure4.grids("local") for cell in grid.cells()]
    assert len({cell.replace(options={}, seed=0).address for cell in cells}) == 1
    assert {cell.lr for cell in cells} == {3e-3}
    assert {cell.lr for grid in figure4.grids("paper") for cell in grid.cells()} == {None}


@pytest.mark.parametrize("arm", ["PaFi", "random"])
def test_masks_that_want_large_rates_may_have_a_tenth(arm: str) -> None:
    rates = grids.rates_of("local", arm)
    tried = rates.tried
    for _ in range(rates.widen):
        beyond = rates.beyond(tried, tried[-1])
        assert beyond is not None
        tried = (*tried, beyond)
    assert tried[-1] == pytest.approx(0.1, rel=0.2)


def test_table_1_has_the_small_budget_s_lines_before_the_large_one_s() -> None:
    chosen = table1.ARTEFACT.of("local")
    records = table1.ARTEFACT.records(made(chosen, scored), chosen)
    lines = table1.ARTEFACT.lines(records)["Scores"]
    budgets = [line["budget"] for line in lines if line["budget"] != "-"]
    assert budgets == ["25,728"] * 5 + ["80,000"] * 4
