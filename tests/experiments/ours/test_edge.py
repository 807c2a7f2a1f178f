"""The artefact `edge`: statements on fabricated rows, and the whole of it on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import assert_whole, render_artefact, run_artefact

import landscape as ls
from experiments.earlier import ARTEFACTS
from experiments.kit.artefact import stored_config
from experiments.kit.judge import SIGNS
from experiments.kit.store import read_rows
from experiments.ours import edge, edge_report

RATIOS = (1e-2, 1e-3)
STEPS = 40


def fabricated(end: float, *, flatter: bool = True, diverged: bool = False) -> list[dict]:
    """Rows whose sharpness goes from its start to `end` times the edge by step 15 and stays."""
    rows: list[dict] = []
    for decade, ratio in enumerate(RATIOS):
        lam = 10.0 ** (-decade if flatter else decade)
        same = {"loss": "square", "ratio": ratio, "seed": 0, "count": 100}
        rows.append({"kind": "start", "sharpness": lam, "residual": 0.01 * lam, **same})
        for optimizer, scale in (("gd", 0.5), ("gd", 1.5), ("adamw", 1e-5)):
            rate = scale * 2 / lam if optimizer == "gd" else scale / ratio
            limits = {"sharpness": 2 / rate, "preconditioned_sharpness": 38 / rate}
            measured = []
            for step in range(1, STEPS, 5):
                m = {"step": float(step)}
                for name, limit in limits.items():
                    start = 1.0 if optimizer == "adamw" else scale
                    value = limit * (end if step > 15 else start)
                    m |= {name: value, f"{name}_residual": 0.05 * value}
                m |= {"sharpness_threshold": 2 / rate, "preconditioned_threshold": 38 / rate}
                measured.append(m)
            rows.append(
                {"kind": "descent", "optimizer": optimizer, "scale": scale, "rate": rate,
                 "losses": [4.0] * STEPS, "measured": measured, "diverged": diverged,
                 "distance": 1.0, **same}
            )  # fmt: skip
    return rows


def judged(rows: list[dict]) -> str:
    """Return the signs of all verdicts in order."""
    return "".join(SIGNS[finding.verdict] for finding in edge_report.check(rows))


def test_each_statement_holds_in_its_world_and_fails_in_the_opposite() -> None:
    # reaches, stays (gd), flattens, stays (adamw), flatter start, certified
    assert judged(fabricated(1.0)) == "✓✓✓✓✓✓"
    assert judged(fabricated(0.1)) == "✗✗✓✗✓✓"
    assert judged(fabricated(3.0, flatter=False)) == "✓✗✗✗✗✓"
    assert judged(fabricated(1.0, diverged=True)) == "✓✗✗✗✓✓"


def test_a_touch_of_the_edge_is_told_from_staying_there() -> None:
    rows = fabricated(0.1)
    for row in rows:
        if row["kind"] == "descent":
            row["measured"][1]["sharpness"] = 1.6 * row["measured"][1]["sharpness_threshold"]
    assert judged(rows)[:2] == "✓✗"
    assert "1.60 (step 6)" in edge_report.check(rows)[0].evidence


def test_a_loose_residual_is_named() -> None:
    rows = fabricated(1.0)
    rows[0]["residual"] = 0.5
    assert judged(rows)[-1] == "✗"
    assert "0.5" in edge_report.check(rows)[-1].evidence


def test_the_squared_loss_is_its_closed_form() -> None:
    tokenizer = ls.tiny_tokenizer()
    model = ls.tiny_model("opt", vocab_size=len(tokenizer)).double()
    words = (" no", " yes")
    examples = [ls.Example(f"film {i} is", words, i % 2) for i in range(4)]
    (batch,) = ls.make_batches(examples, tokenizer, 4)
    value, count = edge.square_loss(model, batch)
    z = ls.task_split(model, batch)[0].detach()
    # two candidates: centred scores are +-m/2 for the margin m, hence (m - 4)^2 / 4
    margin = torch.stack([z[i, e.label] - z[i, 1 - e.label] for i, e in enumerate(examples)])
    assert count == 4
    expected = float(((margin - 4) ** 2).sum() / 4)
    assert float(value) == pytest.approx(expected, rel=1e-6)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_artefact(
        "edge", tmp_path_factory.mktemp("edge"), "--ratios", "1e-3",
        "--losses", "cross-entropy", "square", "--num-train", "6", "--head-examples", "6",
        "--micro-batch", "4", "--gd-multiples", "0.5", "3", "--rate-times-ratio", "1e-5",
        "--steps", "5", "--every", "2", "--tolerance", "1e-2",
        "--max-products", "60",
    )  # fmt: skip


def test_every_expected_row_is_there_once(finished) -> None:
    assert len(assert_whole("edge", finished)) == 8


@pytest.mark.parametrize("loss", ["cross-entropy", "square"])
def test_a_descent_is_the_textbook_iteration_with_its_dense_sharpness(finished, loss) -> None:
    config = stored_config(ARTEFACTS["edge"], finished)
    row = next(
        r for r in read_rows(finished) if r["kind"] == "descent"
        and (r["optimizer"], r["loss"], r["ratio"], r["scale"]) == ("gd", loss, 1e-3, 0.5)
    )  # fmt: skip
    model, tokenizer = ls.load_model(config.model)
    task = ls.load_task("sst2", source=config.source, num_train=6, num_dev=8, num_test=8)
    (batch,) = ls.make_batches(task.train, tokenizer, 6, loss=task.loss)
    ls.attach(model, ls.random_mask(model, ratio=1e-3, seed=0))
    theta = list(ls.trainable(model).values())
    for step, expected in enumerate(row["losses"], start=1):
        total, count = edge.loss_of(loss)(model, batch)
        assert float(total.detach()) / count == pytest.approx(expected, rel=1e-4)
        gradients = torch.autograd.grad(total / count, theta)
        with torch.no_grad():
            for p, g in zip(theta, gradients, strict=True):
                p -= row["rate"] * g
        found = [m for m in row["measured"] if m["step"] == step]
        if found:
            H = ls.exact_matrix(ls.HessianOperator(model, [batch], loss=edge.loss_of(loss)))
            top = float(torch.linalg.eigvalsh(H)[-1])
            assert found[0]["sharpness"] == pytest.approx(top, rel=2e-2)
            assert found[0]["sharpness_threshold"] == pytest.approx(2 / row["rate"])
    assert [m["step"] for m in row["measured"]] == [1, 3, 5]


def test_the_rates_are_multiples_of_two_over_the_first_sharpness(finished) -> None:
    rows = read_rows(finished)
    descents = [r for r in rows if r["kind"] == "descent" and r["optimizer"] == "gd"]
    assert descents
    for row in descents:
        assert edge_report.over_edge(rows, row)[0] == (0, pytest.approx(row["scale"]))


def test_render_draws_and_prints(finished, capsys) -> None:
    render_artefact("edge", finished)
    assert "second half / edge" in capsys.readouterr().out
