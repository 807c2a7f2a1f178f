"""The artefact `figure5`: statements on fabricated rows, and the whole of it on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import assert_whole, render_artefact, run_artefact

import landscape as ls
from experiments.earlier import ARTEFACTS
from experiments.kit.artefact import stored_config
from experiments.kit.judge import SIGNS
from experiments.kit.measure import Setup
from experiments.kit.store import Store, read_rows
from experiments.random_masking import figure5

RATIOS = (1e-4, 1e-3, 1e-2)


def fabricated(margin: float, decay: float, factor: float, rate: float = -1.0) -> list[dict]:
    """Rows where random beats structured by `margin`, plus `decay` for each decade below 1e-2.

    Structured masks are `factor` times as sharp and their best rate goes like ratio^rate.
    """
    rows: list[dict] = []
    for seed, noise in ((0, -0.001), (1, 0.0), (2, 0.001)):
        rows.append({"kind": "zero-shot", "seed": seed, "test_accuracy": 0.5})
        for decade, ratio in enumerate(reversed(RATIOS)):
            for mask in figure5.KINDS:
                lost = margin + decay * decade + noise if mask == "structured" else 0.0
                chosen = 1e-5 * ratio**rate
                rows += [
                    {"kind": "train", "mask": mask, "ratio": ratio, "seed": seed, "rate": tried,
                     "test_accuracy": 0.9 - lost, "dev_accuracy": 0.8, "dev_loss": 1.0,
                     "distance": 1.0, "count": 10}
                    for tried in (chosen, 7 * chosen)
                ]  # fmt: skip
                sharp = 3.0 * (factor * (1 + noise) if mask == "structured" else 1.0)
                rows.append(
                    {"kind": "sharpness", "mask": mask, "ratio": ratio, "seed": seed,
                     "rate": chosen, "sharpness_before": sharp, "sharpness_after": -sharp,
                     "converged_before": True, "converged_after": True}
                )  # fmt: skip
    return rows


def judged(rows: list[dict]) -> str:
    """Return the signs of all verdicts in order."""
    return "".join(SIGNS[finding.verdict] for finding in figure5.check(rows))


def test_each_statement_holds_in_its_world_and_fails_in_the_opposite() -> None:
    assert judged(fabricated(0.02, 0.03, 1.0)) == "✓✓✓✓✓"
    assert judged(fabricated(-0.02, -0.03, 4.0, rate=1.0)) == "✗✗✗✗✓"
    evidence = figure5.check(fabricated(0.02, 0.0, 4.0))
    assert "+0.020" in evidence[0].evidence
    assert evidence[1].verdict == "undecided"
    assert "4.00" in evidence[3].evidence


def test_a_sharpness_that_did_not_converge_is_named() -> None:
    rows = fabricated(0.02, 0.03, 1.0)
    rows[-1]["converged_after"] = False
    assert judged(rows)[-1] == "✗"
    assert "17 of 18" in figure5.check(rows)[-1].evidence


def test_only_the_run_at_the_chosen_rate_counts() -> None:
    rows = fabricated(0.02, 0.03, 1.0)
    for row in rows:
        if row["kind"] == "train" and row["rate"] > 6e-5 / row["ratio"]:
            row["test_accuracy"] = 0.0
    assert len(figure5.final_rows(rows)) == 18
    assert judged(rows) == "✓✓✓✓✓"


def test_a_single_seed_and_ratio_decide_nothing() -> None:
    rows = [r for r in fabricated(0.02, 0.03, 1.0) if r["seed"] == 0]
    rows = [r for r in rows if r.get("ratio") in (None, 1e-2)]
    assert judged(rows) == "????✓"
    assert "no interval" in figure5.check(rows)[0].evidence


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_artefact(
        "figure5", tmp_path_factory.mktemp("figure5"), "--ratios", "1e-2", "1e-3",
        "--rate-times-ratio", "1e-5", "1e-4", "--epochs", "1", "--num-train", "16", "--num-dev",
        "6", "--num-test", "8", "--hessian-examples", "4", "--seed", "0", "1",
    )  # fmt: skip


def mask_of(finished: Path, mask: str, ratio: float, seed: int) -> ls.Mask:
    """Draw a cell's mask again."""
    config = stored_config(ARTEFACTS["figure5"], finished)
    model, tokenizer = ls.load_model(config.model)
    task = ls.load_task("sst2", source=config.source, num_train=16, num_dev=6, num_test=8)
    setup = Setup(config, Store(finished), model, tokenizer, task)
    return figure5.mask_of(setup, {"mask": mask, "ratio": ratio, "seed": seed})


def test_every_expected_row_is_there_once(finished) -> None:
    assert_whole("figure5", finished)


def test_both_masks_have_the_same_count_and_structured_ones_fill_columns(finished) -> None:
    config = stored_config(ARTEFACTS["figure5"], finished)
    rows = [row for row in read_rows(finished) if row["kind"] == "train"]
    for ratio in config.ratios:
        assert len({row["count"] for row in rows if row["ratio"] == ratio}) == 1
    structured, random = (mask_of(finished, mask, 1e-2, 0) for mask in ("structured", "random"))
    for name, indices in structured.indices.items():
        outputs, inputs = structured.shapes[name]
        columns = -(-indices.numel() // outputs)
        assert (indices % inputs).unique().numel() == columns
        assert (random.indices[name] % inputs).unique().numel() > columns


def test_sharpness_rows_equal_a_dense_eigenvalue_at_the_stored_delta(finished) -> None:
    config = stored_config(ARTEFACTS["figure5"], finished)
    (row,) = [r for r in read_rows(finished) if r["kind"] == "sharpness"
              and (r["mask"], r["ratio"], r["seed"]) == ("structured", 1e-3, 1)]  # fmt: skip
    model, tokenizer = ls.load_model(config.model)
    key = f"train_structured_ratio=0.001_rate={row['rate']:g}_seed=1"
    task = ls.load_task("sst2", source=config.source, num_train=16, num_dev=6, num_test=8, seed=1)
    batches = ls.make_batches(task.train[:4], tokenizer, 4, loss=task.loss)
    for when in ("before", "after"):
        if when == "before":
            ls.attach(model, mask_of(finished, "structured", 1e-3, 1))
        else:
            ls.load_delta(model, finished / "deltas" / f"{key}.safetensors")
        values = torch.linalg.eigvalsh(ls.exact_matrix(ls.HessianOperator(model, batches)))
        ls.detach(model)
        largest = float(values[values.abs().argmax()])
        # Lanczos stops at the configured relative residual, 1e-2
        assert abs(row[f"sharpness_{when}"]) == pytest.approx(abs(largest), rel=2e-2)


def test_render_draws_and_lists_the_papers_values_and_the_differences(finished, capsys) -> None:
    render_artefact("figure5", finished)
    printed = capsys.readouterr().out
    assert "0.876" in printed  # table 5: OPT-125m on SST-2 at ratio 1e-2
    assert "the paper takes 1000 and 5" in printed
