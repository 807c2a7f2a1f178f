"""The artefact `linear`: fitted laws on fabricated rows, and the whole of it on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import assert_whole, render_artefact, run_artefact

import landscape as ls
from experiments.earlier import ARTEFACTS
from experiments.kit.artefact import stored_config
from experiments.kit.store import read_rows
from experiments.random_masking import linear, linear_report

RATIOS = (1e-5, 1e-4, 1e-3, 1e-2)


def fabricated(curvature: float, rate: float, distance: float) -> list[dict]:
    """Rows of a world with exact power laws; the linear model has exponents 1, -1, -1/2."""
    noise = (0.98, 1.01, 1.02)
    rows: list[dict] = [
        {"kind": "curvature", "matrix": m, "mask": "all", "ratio": 0.0, "density": 1.0,
         "eigenvalue": 50.0, "seed": 0} for m in linear_report.MATRICES
    ]  # fmt: skip
    for ratio in RATIOS:
        rows += [
            {"kind": "curvature", "matrix": m, "mask": "random", "ratio": ratio, "seed": 0,
             "density": 10 * ratio, "eigenvalue": 50 * (10 * ratio) ** curvature * factor}
            for m in linear_report.MATRICES for factor in noise
        ]  # fmt: skip
        for optimizer, labels in linear_report.RUNS:
            for scale in (0.5, 1.0):
                r = scale * ratio**rate
                rows.append(
                    {"kind": "descent", "optimizer": optimizer, "labels": labels, "ratio": ratio,
                     "rate": r, "scale": scale, "seed": 0, "steps": int(20 / scale), "count": 100,
                     "reached": True, "diverged": False, "distance": ratio**distance / scale}
                )  # fmt: skip
    return rows


def test_rows_after_the_linear_model_hold_and_others_do_not() -> None:
    laws = linear_report.check(fabricated(1.0, -1.0, -0.5))[:-1]
    assert all(finding.verdict == "holds" for finding in laws)
    others = linear_report.check(fabricated(0.7, -0.6, -0.2))[:-1]
    assert all(finding.verdict == "fails" for finding in others)
    assert "exponent -0.60" in others[2].evidence
    assert "exponent -0.20" in others[4].evidence


def test_two_points_are_not_a_law() -> None:
    two = [row for row in fabricated(1.0, -1.0, -0.5) if row["ratio"] in (0.0, 1e-2, 1e-3)]
    rates = linear_report.check(two)[2]
    assert rates.verdict == "undecided"
    assert "too few" in rates.evidence


def test_a_descent_that_did_not_reach_the_loss_is_no_best_descent() -> None:
    rows = fabricated(1.0, -1.0, -0.5)
    for row in rows:
        if row["kind"] == "descent" and row["scale"] == 0.5:
            row |= {"reached": False, "steps": 1, "distance": 1e-9}
    for best in (linear_report.fastest, linear_report.nearest):
        assert {row["scale"] for row in best(rows, "sgd", "true")} == {1.0}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_artefact(
        "linear", tmp_path_factory.mktemp("linear"), "--ratios", "1e-2", "3e-3",
        "--targets", "*.[qv]_proj", "--num-train", "12", "--max-steps", "4", "--batch-size", "6",
        "--curvature-examples", "4", "--random-masks", "2", "--structured-masks", "1",
        "--rate-times-ratio", "1e-5", "--sgd-multiples", "0.3",
    )  # fmt: skip


def test_every_expected_row_is_there_once(finished) -> None:
    assert_whole("linear", finished)


WANTED = ("random", 3e-3, 1)
OPERATORS = {"hessian": ls.HessianOperator, "gauss-newton": ls.GGNOperator}


def test_random_masks_interlace_with_all_targets_and_equal_a_dense_eigenvalue(finished) -> None:
    rows = [row for row in read_rows(finished) if row["kind"] == "curvature"]
    config = stored_config(ARTEFACTS["linear"], finished)
    for matrix in linear.MATRICES:
        chosen = [row for row in rows if row["matrix"] == matrix]
        (full,) = [row["eigenvalue"] for row in chosen if row["mask"] == "all"]
        assert all(row["eigenvalue"] <= full * 1.02 for row in chosen)
        row = next(r for r in chosen if (r["mask"], r["ratio"], r["mask_seed"]) == WANTED)
        model, tokenizer = ls.load_model(config.model)
        task = ls.load_task("sst2", source=config.source, num_train=12, num_dev=8, num_test=8)
        batches = ls.make_batches(task.train[:4], tokenizer, 4, loss=task.loss)
        mask = ls.random_mask(model, ratio=3e-3, seed=1)
        ls.attach(model, mask)
        top = float(torch.linalg.eigvalsh(ls.exact_matrix(OPERATORS[matrix](model, batches)))[-1])
        assert row["eigenvalue"] == pytest.approx(top, rel=2e-2, abs=1e-6)


def test_shuffled_labels_keep_the_label_counts(finished) -> None:
    rows = [row for row in read_rows(finished) if row["kind"] == "descent"]
    first = {(r["labels"], r["losses"][0]) for r in rows}
    true, shuffled = ({v for lab, v in first if lab == name} for name in ("true", "shuffled"))
    assert len(true) == len(shuffled) == 1  # the start does not depend on mask, rate or optimizer
    assert true != shuffled


def test_render_draws_and_prints(finished, capsys) -> None:
    render_artefact("linear", finished)
    assert "Descents to one loss" in capsys.readouterr().out
