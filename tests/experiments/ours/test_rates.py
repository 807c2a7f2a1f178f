"""The artefact `rates`: its statements on fabricated grids, its measurements on a tiny model."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from samples import tiny_task

import landscape as ls
from experiments.kit.judge import SIGNS, Finding
from experiments.kit.published import file_of, rows_at
from experiments.measurements import predictor
from experiments.ours import rates_grids, rates_report
from experiments.ours.rates import ARTEFACT
from experiments.ours.rates_cases import CASES, LOSSES, case_of
from landscape.advisor import RateEvidence, measure_rates, recommend
from landscape.sweep import RunConfig
from landscape.sweep.measurements import Point

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

    The curvature follows ratio^-slope and differs between two pairs of cases by a factor of a
    million, so that no fixed rule serves both.
    """
    rows: list[dict] = []
    for case, factor in (("a", 1.0), ("b", 10.0), ("c", 1e6), ("d", 1e7)):
        rows.append({"kind": "before", "case": case, "seed": 0, "dev_losses": [0.7] * 12})
        for ratio in RATIOS:
            curvature = factor * 1e6 * ratio**-slope
            said = recommend(evidence(optimizer, curvature)).good
            rows += grid_rows(case, optimizer, ratio, curvature, said * 10**shift)
    return rows


@pytest.fixture(autouse=True)
def _made_up_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates_grids, "case_of", lambda r: r.get("case") or case_of(r))


def records(rows: list[dict]) -> list[dict]:
    """Return rows as records have them: the start of a case is that of its model and head."""
    found = []
    for row in rows:
        same = {"case": row["case"], "model": row["case"], "head": "fitted", "seed": row["seed"]}
        if row["kind"] == "before":
            found.append(same | {"method": "none", "losses": row["dev_losses"]})
            continue
        same |= {"method": "random", "ratio": row["ratio"], "lr": row.get("rate"),
                 "settings": {"optimizer": row["optimizer"]}}  # fmt: skip
        if row["kind"] == "evidence":
            found.append(same | {"evidence": row["measured"]})
        else:
            found.append(same | {"diverged": row["diverged"], "losses": row["dev_losses"]})
    return found


def check(rows: list[dict]) -> list[Finding]:
    return rates_report.check(records(rows))


def judged(rows: list[dict]) -> str:
    """Return the signs of all verdicts in order."""
    return "".join(SIGNS[finding.verdict] for finding in check(rows))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_statements_hold_where_the_predictor_is_right_and_fail_where_it_is_not(
    optimizer,
) -> None:
    assert judged(fabricated(0.0, optimizer))[:5] == "✓✓✓✓✓"
    wrong = judged(fabricated(4.0, optimizer))
    assert wrong[:3] == "✗✗✗"
    assert wrong[4] == "✗"


def test_a_constant_factor_is_forgiven_only_where_constants_are_fitted_elsewhere() -> None:
    shifted = check(fabricated(-4.0))
    assert shifted[2].verdict == "fails"
    assert shifted[3].verdict == "holds"
    assert "other cases" in shifted[3].statement


def test_the_fixed_rule_wins_in_its_own_world() -> None:
    rows: list[dict] = []
    for case, factor in (("a", 1.0), ("b", 10.0), ("c", 0.1), ("d", 3.0)):
        rows.append({"kind": "before", "case": case, "seed": 0, "dev_losses": [0.7] * 12})
        for ratio, curvature in zip(RATIOS, (1e9, 1.0, 1e5), strict=True):
            rows += grid_rows(case, "adamw", ratio, factor * curvature, 1e-5 / ratio)
    assert judged(rows)[2:4] == "✗✗"
    assert "(4 cases, t)" in check(rows)[2].evidence  # of 12 cells, which share a case's model
    rules = {line["rule"]: line for line in rates_report.rule_table(records(rows))}
    assert rules["c / ratio"]["constant"] == "1e-05"
    assert float(rules["1e-05 / ratio"]["largest, decades"]) == 0
    assert float(rules["1e-06 / ratio"]["mean error, decades"]) == 1


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
    (finding,) = check(rows)
    assert finding.verdict == "undecided"


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


@pytest.fixture(scope="module")
def point() -> Point:
    tokenizer = ls.tiny_tokenizer()
    model = ls.tiny_model("opt", vocab_size=len(tokenizer))
    ls.attach(model, ls.random_mask(model, ratio=1e-2, targets=["*.[qv]_proj"], seed=0))
    config = RunConfig(ratio=1e-2, targets=("*.[qv]_proj",))
    return Point(config, model, tokenizer, tiny_task(), None, {})


def test_the_losses_after_a_run_are_those_of_each_dev_example_alone(point) -> None:
    found = predictor.losses(point)["losses"]
    task, each = point.task, []
    for example in task.dev:
        (batch,) = ls.make_batches([example], point.tokenizer, 1, loss=task.loss)
        total, _ = ls.task_loss(point.model, batch)
        each.append(float(total.detach()))
    assert sorted(found) == pytest.approx(sorted(each), abs=2e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_evidence_kept_raw_says_what_the_predictor_says(point, optimizer: Any) -> None:
    asked = dataclasses.replace(point, options={"examples": 24, "optimizer": optimizer})
    kept = predictor.evidence(asked)["evidence"]
    task = point.task
    steps = [
        ls.make_batches(task.train[i : i + 8], point.tokenizer, 4, sort=True, loss=task.loss)
        for i in range(0, 24, 8)
    ]
    said = recommend(measure_rates(point.model, steps, optimizer=optimizer))
    assert recommend(RateEvidence(**json.loads(json.dumps(kept)))) == said


@pytest.mark.parametrize("preset", ["smoke", "local", "paper"])
def test_every_run_of_a_preset_is_of_the_case_that_listed_it(preset) -> None:
    grids = ARTEFACT.of(preset)
    names = {case_of(c.as_dict()) for grid in grids for c in grid.cells() if c.method != "none"}
    assert names <= CASES.keys()
    runs = [
        c.address for g in grids if LOSSES in g.measure for c in g.cells() if c.method != "none"
    ]
    assert len(runs) == len(set(runs))
    starts = {(c.model, c.head) for grid in grids for c in grid.cells() if c.method == "none"}
    assert starts == {(CASES[name].model, CASES[name].head) for name in names}


def test_the_published_rows_say_what_was_printed() -> None:
    records = ARTEFACT.records(rows_at(file_of("local"), ARTEFACT, "local"), ARTEFACT.of("local"))
    cells = {(x["case"], x["optimiser"], x["ratio"]): x for x in rates_report.cell_table(records)}
    assert len(cells) == 32
    assert cells["encoder", "adamw", "3e-05"]["best rate"] == "0.33"
    assert cells["language model", "adamw", "0.001"]["best loss"] == "0.407"
    assert cells["encoder, largest gradients", "adamw", "0.0001"]["error, decades"] == "-2.32"
    assert cells["encoder", "sgd", "0.001"]["tied"] == "1 to 1e+02"
    rules = {line["rule"]: line for line in rates_report.rule_table(records)}
    assert rules["matching step"]["within half a decade"] == "19 of 20"
    assert rules["c / ratio"]["mean error, decades"] == "0.12"
    assert "".join(SIGNS[f.verdict] for f in rates_report.check(records)) == "✓✓?✗✓✓?"
