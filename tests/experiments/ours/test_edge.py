"""The artefact `edge`: statements on fabricated rows, and its descents on a tiny model."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from points import tiny_point

import landscape as ls
from experiments.kit.judge import SIGNS
from experiments.kit.published import file_of, rows_at
from experiments.measurements import descents
from experiments.ours import edge_report
from experiments.ours.edge import ARTEFACT
from landscape.sweep.measurements import Point

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
                 "losses": [4.0 - step / STEPS for step in range(STEPS)], "measured": measured,
                 "diverged": diverged, "distance": 1.0, **same}
            )  # fmt: skip
    return rows


def records(rows: list[dict]) -> list[dict]:
    """Return rows as records have them: a start with its descents."""
    return [
        {"seed": row["seed"], "descents_start": row,
         "descents": [r for r in rows if r["kind"] == "descent" and r["ratio"] == row["ratio"]]}
        for row in rows if row["kind"] == "start"
    ]  # fmt: skip


def judged(rows: list[dict]) -> str:
    """Return the signs of all verdicts in order."""
    return "".join(SIGNS[finding.verdict] for finding in edge_report.check(records(rows)))


def test_each_statement_holds_in_its_world_and_fails_in_the_opposite() -> None:
    # reaches, stays (gd), flattens, stays (adamw), flatter start, resolved
    assert judged(fabricated(1.0)) == "✓✓✓✓✓✓"
    assert judged(fabricated(0.1)) == "✗✗✓✗✓✓"
    assert judged(fabricated(3.0, flatter=False)) == "✓✗✗✗✗✓"
    assert judged(fabricated(1.0, diverged=True)) == "✓✗✗✗✓✓"


def test_a_flat_end_at_a_higher_loss_is_no_recovery() -> None:
    rows = fabricated(0.1)
    rows[-2]["losses"][-1] = 4.5
    assert judged(rows)[2] == "✗"


def test_a_touch_of_the_edge_is_told_from_staying_there() -> None:
    rows = fabricated(0.1)
    for row in rows:
        if row["kind"] == "descent":
            row["measured"][1]["sharpness"] = 1.6 * row["measured"][1]["sharpness_threshold"]
    assert judged(rows)[:2] == "✓✗"
    assert "1.60 (step 6)" in edge_report.check(records(rows))[0].evidence


def test_a_loose_residual_is_named() -> None:
    rows = fabricated(1.0)
    rows[0]["residual"] = 0.5
    assert judged(rows)[-1] == "✗"
    assert "0.5" in edge_report.check(records(rows))[-1].evidence


def test_the_squared_loss_is_its_closed_form() -> None:
    tokenizer = ls.tiny_tokenizer()
    model = ls.tiny_model("opt", vocab_size=len(tokenizer)).double()
    words = (" no", " yes")
    examples = [ls.Example(f"film {i} is", words, i % 2) for i in range(4)]
    (batch,) = ls.make_batches(examples, tokenizer, 4)
    value, count = descents.square_loss(model, batch)
    z = ls.task_split(model, batch)[0].detach()
    # two candidates: centred scores are +-m/2 for the margin m, hence (m - 4)^2 / 4
    margin = torch.stack([z[i, e.label] - z[i, 1 - e.label] for i, e in enumerate(examples)])
    assert count == 4
    expected = float(((margin - 4) ** 2).sum() / 4)
    assert float(value) == pytest.approx(expected, rel=1e-6)


@pytest.fixture(scope="module")
def point() -> Point:
    return tiny_point(
        ratio=1e-2, gd=(0.5, 3.0), adamw=(1e-5,), examples=6, batch_size=4, steps=5, every=2,
        tol=1e-2,
    )  # fmt: skip


@pytest.mark.parametrize("loss", ["cross-entropy", "square"])
def test_a_descent_is_the_textbook_iteration_with_its_dense_sharpness(point, loss) -> None:
    model, options = point.model, {**point.options, "loss": loss}
    found = descents.descents(dataclasses.replace(point, options=options))
    row, same = found["descents"][0], found["start"]
    assert row["rate"] == pytest.approx(0.5 * 2 / same["sharpness"])
    (batch,) = ls.make_batches(point.task.train[:6], point.tokenizer, 6, loss=point.task.loss)
    of = descents.LOSSES[loss]
    ls.attach(model, ls.random_mask(model, ratio=1e-2, targets=["*.[qv]_proj"], seed=0))
    theta = list(ls.trainable(model).values())
    for step, expected in enumerate(row["losses"], start=1):
        total, count = of(model, batch)
        assert float(total.detach()) / count == pytest.approx(expected, rel=1e-4)
        gradients = torch.autograd.grad(total / count, theta)
        with torch.no_grad():
            for p, g in zip(theta, gradients, strict=True):
                p -= row["rate"] * g
        measured = [m for m in row["measured"] if m["step"] == step == 5]
        if measured:  # once: a dense Hessian takes seconds
            H = ls.exact_matrix(ls.HessianOperator(model, [batch], loss=of))
            top = float(torch.linalg.eigvalsh(H)[-1])
            assert measured[0]["sharpness"] == pytest.approx(top, rel=2e-2)
            assert measured[0]["sharpness_threshold"] == pytest.approx(2 / row["rate"])
    ls.detach(model)
    assert [m["step"] for m in row["measured"]] == [1, 3, 5]


def test_the_model_is_given_back_as_it_was(point) -> None:
    before = {name: p.detach().clone() for name, p in point.model.named_parameters()}
    descents.descents(point)
    for name, p in point.model.named_parameters():
        assert torch.equal(p, before[name]), name


def test_the_published_rows_say_what_was_printed() -> None:
    records = ARTEFACT.records(rows_at(file_of("local"), ARTEFACT, "local"), ARTEFACT.of("local"))
    lines = edge_report.table(records)
    assert [line["highest / edge"] for line in lines[6:9]] == [
        "1.69 (step 6)", "2.94 (step 6)", "0.07 (step 6)",
    ]  # fmt: skip
    assert [line["second half / edge"] for line in lines[3:6]] == ["0.74", "0.31", "0.07"]
    assert [line["distance"] for line in lines[-3:]] == ["24.2", "50.8", "41.3"]
    assert "".join(SIGNS[f.verdict] for f in edge_report.check(records)) == "✓✗✓✗✓✓✗✗✗✓✓"


@pytest.mark.parametrize("preset", ["smoke", "local", "paper"])
def test_a_preset_descends_once_a_ratio_and_loss(preset) -> None:
    asked = [grid.measure[name] for grid in ARTEFACT.of(preset) for name in grid.measure]
    assert len({(options["ratio"], options["loss"]) for options in asked}) == len(asked)
