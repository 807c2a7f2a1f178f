"""The artefact `rates`: its statements on fabricated grids, and the whole of it on a tiny model."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from samples import glue_folder, model_folder
from tiny_runs import assert_whole

import landscape as ls
from experiments.earlier import main
from experiments.kit.judge import SIGNS
from experiments.kit.store import read_rows
from experiments.ours import rates, rates_cases, rates_grids, rates_report
from landscape.advisor import RateEvidence, recommend

RATIOS = (1e-2, 1e-3, 1e-4)


def evidence(optimizer: Any, curvature: float) -> RateEvidence:
    """Three equal batches with a reference rate of 1 / curvature, or twice that for SGD."""
    if optimizer == "sgd":
        return RateEvidence(
            optimizer="sgd", count=10, examples=24, eigenvalue=curvature, residual=0.0,
            eigenvalue_parts=[curvature] * 3,
        )  # fmt: skip
    return RateEvidence(
        optimizer="adamw", count=10, examples=24, spread=1.0, changes=[curvature**2] * 3
    )


def grid_rows(
    case: str, optimizer: str, ratio: float, curvature: float, best: float, noise: float = 0.01
) -> list[dict]:
    """Rows of a cell whose development loss is lowest at the rate of the grid next to `best`.

    The loss rises by 0.1 a half decade from the best, and from three decades above it the run is
    worse than no training (0.7).
    """
    here = {"case": case, "optimizer": optimizer, "ratio": ratio, "seed": 0}
    found = dataclasses.asdict(evidence(optimizer, curvature))
    rows: list[dict] = [{"kind": "evidence", **here, "measured": found}]
    nearest = 10 ** (round(2 * math.log10(best)) / 2)
    for steps in (-3, -2, -1, 0, 1, 2, 3):
        rate = nearest * 10 ** (steps / 2)
        loss = 0.4 + 0.1 * abs(steps) + (0.2 if steps >= 2 else 0.0)
        rows.append({
            "kind": "train", **here, "rate": rate, "diverged": steps == 3,
            "dev_losses": [loss + noise * (i % 3 - 1) * steps for i in range(12)],
        })  # fmt: skip
    return rows


def fabricated(shift: float, optimizer: str = "adamw", slope: float = -2.0) -> list[dict]:
    """Grids whose best is 10^shift times what the predictor says.

    The curvature follows ratio^-slope and differs between two cases by a factor of a million, so
    that no fixed rule serves both.
    """
    rows: list[dict] = []
    for case, factor in (("a", 1.0), ("b", 1e6)):
        rows.append({"kind": "before", "case": case, "seed": 0, "dev_losses": [0.7] * 12})
        for ratio in RATIOS:
            curvature = factor * 1e6 * ratio**-slope
            said = recommend(evidence(optimizer, curvature)).good
            rows += grid_rows(case, optimizer, ratio, curvature, said * 10**shift)
    return rows


def judged(rows: list[dict]) -> str:
    """Return the signs of all verdicts in order."""
    return "".join(SIGNS[finding.verdict] for finding in rates_report.check(rows))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_statements_hold_where_the_predictor_is_right_and_fail_where_it_is_not(
    optimizer,
) -> None:
    assert judged(fabricated(0.0, optimizer))[:5] == "✓✓✓✓✓"
    wrong = judged(fabricated(4.0, optimizer))
    assert wrong[:3] == "✗✗✗"
    assert wrong[4] == "✗"


def test_a_constant_factor_is_forgiven_only_where_constants_are_fitted_elsewhere() -> None:
    shifted = rates_report.check(fabricated(-4.0))
    assert shifted[2].verdict == "fails"
    assert shifted[3].verdict == "holds"
    assert "other cases" in shifted[3].statement


def test_the_fixed_rule_wins_in_its_own_world() -> None:
    rows: list[dict] = []
    for case in ("a", "b"):
        rows.append({"kind": "before", "case": case, "seed": 0, "dev_losses": [0.7] * 12})
        for ratio, curvature in zip(RATIOS, (1e9, 1.0, 1e5), strict=True):
            rows += grid_rows(case, "adamw", ratio, curvature, 1e-5 / ratio)
    assert judged(rows)[2:4] == "✗?"
    rules = {line["rule"]: line for line in rates_report.rule_table(rates_grids.grids(rows))}
    assert rules["c / ratio"]["constant"] == "1e-05"
    assert float(rules["1e-05 / ratio"]["largest"]) == 0
    assert float(rules["1e-06 / ratio"]["mean error"]) == 1


def test_a_cell_knows_its_best_what_is_tied_with_it_and_where_runs_fail() -> None:
    rows = [{"kind": "before", "case": "a", "seed": 0, "dev_losses": [0.7] * 12}]
    rows += grid_rows("a", "adamw", 1e-2, 1.0, 1e-3)
    (grid,) = rates_grids.grids(rows)
    assert grid.best == pytest.approx(1e-3)
    assert grid.tied == (grid.best,)
    assert grid.learnt
    assert not grid.at_edge
    assert grid.losses[max(grid.losses)] == math.inf
    assert grid.stable == pytest.approx((10**-2.5, 1e-2))


def test_noise_that_hides_the_differences_ties_the_rates() -> None:
    rows = [{"kind": "before", "case": "a", "seed": 0, "dev_losses": [0.7] * 12}]
    rows += grid_rows("a", "adamw", 1e-2, 1.0, 1e-3, noise=1.0)
    (grid,) = rates_grids.grids(rows)
    assert len(grid.tied) > 2


def test_a_cell_in_which_nothing_learns_decides_nothing() -> None:
    rows = fabricated(0.0)
    for row in rows:
        if row["kind"] == "before":
            row["dev_losses"] = [0.1] * 12
    (finding,) = rates_report.check(rows)
    assert finding.verdict == "undecided"


def test_masks_by_score_are_cells_like_others() -> None:
    case = dataclasses.replace(
        rates_cases.CASES["tiny"], score="magnitude", targets=("*.[qv]_proj",)
    )
    model = ls.tiny_model("opt")
    mask = rates.choose_mask(case, model, [[]], 1e-2, 0)
    assert mask.rule["score"] == "magnitude"
    assert mask.ratio == pytest.approx(1e-2, rel=1e-2)


def test_a_best_rate_within_the_noise_of_no_training_has_not_learnt() -> None:
    for margin, learnt in ((0.002, False), (0.2, True)):
        losses = [0.4 + margin + 0.05 * (i % 3 - 1) for i in range(12)]
        rows: list[dict] = [{"kind": "before", "case": "a", "seed": 0, "dev_losses": losses}]
        (grid,) = rates_grids.grids(rows + grid_rows("a", "adamw", 1e-2, 1.0, 1e-3))
        assert grid.losses[grid.best] < grid.before
        assert grid.learnt is learnt


def test_the_held_out_constant_never_sees_its_own_case() -> None:
    given = [rates_grids.Comparison("a", 1.0, 10.0), rates_grids.Comparison("b", 1.0, 1000.0)]
    assert rates_grids.held_out_errors(given) == pytest.approx([2.0, -2.0])
    assert rates_grids.fitted(given) == pytest.approx(100.0)
    assert rates_grids.errors(given, 10.0) == pytest.approx([0.0, -2.0])


def test_the_artefact_runs_resumes_and_draws(tmp_path: Path, monkeypatch, capsys) -> None:
    model, task = model_folder(tmp_path / "opt"), glue_folder(tmp_path / "SST-2", train=40)
    case = rates_cases.Case(str(model), ("*.[qv]_proj",), (1e-2,), (1e-5, 1e-4), sgd_ratios=(1e-2,),
                      sgd_multiples=(0.1, 0.3))  # fmt: skip
    monkeypatch.setitem(rates_cases.CASES, "tiny", case)
    folder = tmp_path / "rates"
    call = ["run", "rates", "--preset", "smoke", "--task", "sst2", "--source", str(task),
            "--num-dev", "8", "--num-train", "24", "--output", str(folder)]  # fmt: skip
    assert main(call) == 0
    rows = read_rows(folder)
    assert assert_whole("rates", folder) == rows
    assert [r["rate"] for r in rows if r["kind"] == "train"][:2] == [1e-3, 1e-2]
    assert main(call) == 0
    assert len(read_rows(folder)) == len(rows)
    assert main(["render", "rates", "--preset", "smoke", "--output", str(folder)]) == 0
    assert (folder / "figure.png").stat().st_size > 5000
    capsys.readouterr()
    assert main(["check", "rates", "--preset", "smoke", "--output", str(folder)]) in (0, 1, 3)
    assert json.loads(capsys.readouterr().out.strip().split("\n")[-1])
