"""The artefact `surfaces`: statements on exact paraboloids, and all of it on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import assert_whole, render_artefact, run_artefact

import landscape as ls
from experiments.earlier import ARTEFACTS
from experiments.kit.artefact import stored_config
from experiments.kit.judge import SIGNS
from experiments.kit.measure import ENDS, delta_path, train_cell
from experiments.kit.store import Store, read_rows
from experiments.ours import surfaces_report

RATIOS = (1e-2, 1e-3)
AXIS = [-2.0, -1.0, 0.0, 1.0, 2.0]


def fabricated(*, law: float = 1.0, bend: float = 0.0, explained: float = 0.95) -> list[dict]:
    """Lines 100 ratio^law a^2 / 2 + bend a^4 along eigenvectors, a tenth of it along others."""
    rows: list[dict] = []
    for ratio in RATIOS:
        lam = 100 * ratio**law
        same = {"ratio": ratio, "seed": 0}
        rows.append({"kind": "train", "explained": [0.9 * explained, 0.1 * explained], **same})
        for loss, when in zip((0.7, 0.1), ENDS, strict=True):
            rows.append({"kind": "top", "when": when, "loss": loss, "eigenvalues": [lam, lam / 2],
                         "residuals": [0.01 * lam] * 2, "converged": True, **same})  # fmt: skip
            for line, share in (("eigenvector", 1.0), ("random", 0.1)):
                guess = [loss + share * lam * a * a / 2 for a in AXIS]
                values = [g + share * lam * bend * a**4 for g, a in zip(guess, AXIS, strict=True)]
                rows.append({"kind": "line", "when": when, "line": line, "axes": [AXIS],
                             "losses": values, "prediction": guess, "centre": loss,
                             "curvature": [[share * lam]], **same})  # fmt: skip
    return rows


def judged(rows: list[dict]) -> str:
    """Return the signs of all verdicts in order."""
    return "".join(SIGNS[finding.verdict] for finding in surfaces_report.check(rows))


def test_each_statement_holds_in_its_world_and_fails_in_the_opposite() -> None:
    assert judged(fabricated()) == "✓✓✓✓✓✓✓✓"
    # flatter before and after, steepest, quadratic, plane, descends, curvature, certified
    assert judged(fabricated(law=-1.0, bend=1.0, explained=0.5))[:5] == "✗✗✓✗✗"


def test_what_the_rows_contradict_is_named() -> None:
    rows = fabricated()
    for row in rows:
        if row["kind"] == "line" and row["line"] == "eigenvector":
            row["curvature"] = [[1.1 * row["curvature"][0][0]]]
            row["losses"] = [0.0] * 5
        if row["kind"] == "top" and row["when"] == "after":
            row |= {"loss": 0.9, "converged": False}
    assert judged(rows)[2:4] == "✗✗"
    assert judged(rows)[5:] == "✗✗✗"
    assert "2 of 4" in surfaces_report.check(rows)[-1].evidence


def test_the_rise_of_a_line_leaves_its_slope_out() -> None:
    row = {"losses": [3 * a * a / 2 + 7 * a + 1 for a in AXIS], "prediction": [1.0] * 5}
    assert surfaces_report.rise(row) == pytest.approx(6)
    assert surfaces_report.rise(row, 0.5) == pytest.approx(1.5)
    assert surfaces_report.rise(row, predicted=True) == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_artefact(
        "surfaces", tmp_path_factory.mktemp("surfaces"), "--ratios", "3e-3", "1e-3",
        "--epochs", "1", "--num-train", "16", "--num-dev", "6", "--batch-size", "4",
        "--curvature-examples", "4", "--rate-times-ratio", "1e-4", "--plane-points", "3",
        "--line-points", "3", "--path-points", "2", "--tolerance", "1e-2",
        "--max-products", "60",
    )  # fmt: skip


def test_every_expected_row_is_there_once(finished) -> None:
    assert len(assert_whole("surfaces", finished)) == 18


def test_all_lines_and_eigenvector_planes_have_one_scale_set_by_the_sharpest_mask(finished) -> None:
    rows = read_rows(finished)
    spans = {r["axes"][0][-1] for r in rows if r["kind"] == "line"}
    spans |= {r["axes"][0][-1] for r in rows if r.get("plane") == "eigenvectors"}
    (span,) = spans
    sharpest = max(r["eigenvalues"][0] for r in rows if r["kind"] == "top")
    assert sharpest * span**2 / 2 == pytest.approx(1.0)


def test_a_line_is_the_loss_of_the_moved_weights(finished) -> None:
    config = stored_config(ARTEFACTS["surfaces"], finished)
    rows = {r["key"]: r for r in read_rows(finished)}
    row = rows["line/after/eigenvector/ratio=0.001/seed=0"]
    top = rows["top/after/ratio=0.001/seed=0"]["eigenvalues"]
    model, tokenizer = ls.load_model(config.model)
    task = ls.load_task("sst2", source=config.source, num_train=16, num_dev=6, num_test=8)
    batches = ls.make_batches(task.train[:4], tokenizer, 4, loss=task.loss)
    ls.load_delta(model, delta_path(Store(finished), train_cell(1e-3, 0)))
    values, vectors = torch.linalg.eigh(ls.exact_matrix(ls.HessianOperator(model, batches)))
    assert top == pytest.approx(values.flip(0)[:2].tolist(), rel=1e-2)
    losses = []
    for a in row["axes"][0]:
        pieces = vectors[:, -1].split([p.numel() for p in ls.trainable(model).values()])
        with torch.no_grad():
            for p, piece in zip(ls.trainable(model).values(), pieces, strict=True):
                p += (a * piece).to(p).view_as(p)
            total, count = ls.task_loss(model, batches[0])
            for p, piece in zip(ls.trainable(model).values(), pieces, strict=True):
                p -= (a * piece).to(p).view_as(p)
        losses.append(float(total) / count)
    # the eigenvector is known up to its sign, and to the residual's angle
    assert losses == pytest.approx(row["losses"], rel=2e-2) or losses[::-1] == pytest.approx(
        row["losses"], rel=2e-2
    )


def test_the_path_ends_at_the_trained_point_and_starts_at_its_distance(finished) -> None:
    trained = [row for row in read_rows(finished) if row["kind"] == "train"]
    assert trained
    for row in trained:
        start, end = torch.tensor(row["path"][0]), torch.tensor(row["path"][-1])
        assert float(end.norm()) == pytest.approx(0, abs=1e-6)
        # the plane holds the share `explained` of all points, the start among them
        assert float(start.norm()) <= row["distance"] * (1 + 1e-6)
        assert float(start.norm()) >= 0.9 * row["distance"]
        assert row["path_length"] >= row["distance"] * (1 - 1e-6)


def test_render_draws_and_prints(finished, capsys) -> None:
    render_artefact("surfaces", finished)
    assert "rise, eigenvector" in capsys.readouterr().out
