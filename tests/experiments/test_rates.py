"""The artefact `rates`: its statements on fabricated grids, and the whole of it on a tiny model."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from experiments.harness import read_rows, stored_config
from experiments.verdict import SIGNS
from samples import glue_folder, model_folder

import landscape as ls
from experiments import rates, rates_report, rates_rules
from experiments.__main__ import ARTEFACTS, main
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


def alternatives(curvature: float) -> rates_rules.Alternatives:
    """Three equal batches along whose steps the loss has slope 1 and some curvature."""
    return rates_rules.Alternatives(
        count=10, slopes=[[1.0] * 3] * 3, hessian=[curvature] * 3, gauss_newton=[curvature] * 3,
        mean_slope=1.0, mean_hessian=[curvature] * 3, mean_gauss_newton=[curvature] * 3,
    )  # fmt: skip


def grid_rows(
    case: str, optimizer: str, ratio: float, curvature: float, best: float, noise: float = 0.01
) -> list[dict]:
    """Rows of a cell whose development loss is lowest at the rate of the grid next to `best`.

    The loss rises by 0.1 a half decade from the best, and from three decades above it the run is
    worse than no training (0.7).
    """
    here = {"case": case, "optimizer": optimizer, "ratio": ratio, "seed": 0}
    rows: list[dict] = [
        {"kind": kind, **here, "measured": dataclasses.asdict(measured)}
        for kind, measured in (
            ("evidence", evidence(optimizer, curvature)), ("alternatives", alternatives(curvature)),
        )
    ]  # fmt: skip
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
    rules = {line["rule"]: line for line in rates_report.rule_table(rates_rules.cells(rows))}
    assert rules["c / ratio"]["constant"] == "1e-05"
    assert float(rules["1e-05 / ratio"]["largest"]) == 0
    assert float(rules["1e-06 / ratio"]["mean error"]) == 1


def test_a_cell_knows_its_best_what_is_tied_with_it_and_where_runs_fail() -> None:
    rows = [{"kind": "before", "case": "a", "seed": 0, "dev_losses": [0.7] * 12}]
    rows += grid_rows("a", "adamw", 1e-2, 1.0, 1e-3)
    (cell,) = rates_rules.cells(rows)
    assert cell.best == pytest.approx(1e-3)
    assert cell.tied == (cell.best,)
    assert cell.learnt
    assert not cell.at_edge
    assert cell.losses[max(cell.losses)] == math.inf
    assert cell.stable == pytest.approx((10**-2.5, 1e-2))


def test_noise_that_hides_the_differences_ties_the_rates() -> None:
    rows = [{"kind": "before", "case": "a", "seed": 0, "dev_losses": [0.7] * 12}]
    rows += grid_rows("a", "adamw", 1e-2, 1.0, 1e-3, noise=1.0)
    (cell,) = rates_rules.cells(rows)
    assert len(cell.tied) > 2


def test_a_cell_in_which_nothing_learns_decides_nothing() -> None:
    rows = fabricated(0.0)
    for row in rows:
        if row["kind"] == "before":
            row["dev_losses"] = [0.1] * 12
    (finding,) = rates_report.check(rows)
    assert finding.verdict == "undecided"


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_alternatives_are_the_slopes_and_curvatures_of_dense_matrices(optimizer) -> None:
    draw = torch.Generator().manual_seed(0)
    model = torch.nn.Linear(6, 1, bias=False).double()
    data = [
        [(torch.randn(4, 6, generator=draw).double(), torch.randn(4, generator=draw).double())]
        for _ in range(4)
    ]

    def split(model: Any, part: Any) -> Any:
        x, y = part
        return model(x)[:, 0], lambda z: (0.5 * (z - y).square(), len(z))

    found = rates_rules.measure_alternatives(model, data, optimizer=optimizer, split=split)
    w = model.weight.detach()[0]
    forms = [(x.t() @ (x @ w - y) / 4, x.t() @ x / 4) for ((x, y),) in data]
    towards = torch.sign if optimizer == "adamw" else torch.clone
    for b, (g, _) in enumerate(forms):
        d, after = towards(g), forms[(b + 1) % 4][1]
        assert found.slopes[b] == pytest.approx([float(d @ h) for h, _ in forms], rel=1e-9)
        assert found.hessian[b] == pytest.approx(float(d @ after @ d), rel=1e-9)
        assert found.gauss_newton[b] == pytest.approx(found.hessian[b], rel=1e-9)
    mean = torch.stack([g for g, _ in forms]).mean(0)
    d = towards(mean)
    assert found.mean_slope == pytest.approx(float(d @ mean), rel=1e-9)
    assert found.mean_hessian == pytest.approx([float(d @ H @ d) for _, H in forms], rel=1e-9)
    # on a quadratic no other rate lowers the loss more in one step
    best, H = rates_rules.one_step_optimum(found), sum(H for _, H in forms) / 4
    rise = [-rate * float(d @ mean) + 0.5 * rate**2 * float(d @ H @ d)
            for rate in (0.99 * best, best, 1.01 * best)]  # fmt: skip
    assert rise[1] < min(rise[0], rise[2])


def test_masks_by_score_are_cells_like_others() -> None:
    case = dataclasses.replace(rates.CASES["tiny"], score="magnitude", targets=("*.[qv]_proj",))
    model = ls.tiny_model("opt")
    mask = rates._mask(case, model, [[]], 1e-2, 0)
    assert mask.rule["score"] == "magnitude"
    assert mask.ratio == pytest.approx(1e-2, rel=1e-2)


def test_a_best_rate_within_the_noise_of_no_training_has_not_learnt() -> None:
    for margin, learnt in ((0.002, False), (0.2, True)):
        losses = [0.4 + margin + 0.05 * (i % 3 - 1) for i in range(12)]
        rows: list[dict] = [{"kind": "before", "case": "a", "seed": 0, "dev_losses": losses}]
        (cell,) = rates_rules.cells(rows + grid_rows("a", "adamw", 1e-2, 1.0, 1e-3))
        assert cell.losses[cell.best] < cell.before
        assert cell.learnt is learnt


def test_the_held_out_constant_never_sees_its_own_case() -> None:
    given = [rates_rules.Point("a", 1.0, 10.0), rates_rules.Point("b", 1.0, 1000.0)]
    assert rates_rules.held_out_errors(given) == pytest.approx([2.0, -2.0])
    assert rates_rules.fitted(given) == pytest.approx(100.0)
    assert rates_rules.errors(given, 10.0) == pytest.approx([0.0, -2.0])


def test_the_artefact_runs_resumes_and_draws(tmp_path: Path, monkeypatch, capsys) -> None:
    model, task = model_folder(tmp_path / "opt"), glue_folder(tmp_path / "SST-2", train=40)
    case = rates.Case(str(model), ("*.[qv]_proj",), (1e-2,), (1e-5, 1e-4), sgd_ratios=(1e-2,),
                      sgd_multiples=(0.1, 0.3))  # fmt: skip
    monkeypatch.setitem(rates.CASES, "tiny", case)
    folder = tmp_path / "rates"
    call = ["run", "rates", "--preset", "smoke", "--task", "sst2", "--source", str(task),
            "--num-dev", "8", "--num-train", "24", "--output", str(folder)]  # fmt: skip
    assert main(call) == 0
    rows = read_rows(folder)
    config = stored_config(ARTEFACTS["rates"], folder)
    assert {row["key"] for row in rows} == set(rates.expected(config))
    assert [r["rate"] for r in rows if r["kind"] == "train"][:2] == [1e-3, 1e-2]
    assert main(call) == 0
    assert len(read_rows(folder)) == len(rows)
    assert main(["render", "rates", "--preset", "smoke", "--output", str(folder)]) == 0
    assert (folder / "figure.png").stat().st_size > 5000
    capsys.readouterr()
    assert main(["check", "rates", "--preset", "smoke", "--output", str(folder)]) in (0, 1, 3)
    assert json.loads(capsys.readouterr().out.strip().split("\n")[-1])
