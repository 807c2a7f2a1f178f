"""The artefact `figure5`: statements on fabricated rows, and the whole of it on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from experiments.cell import best_on_dev, describe_margin, interval
from experiments.harness import read_rows, stored_config
from experiments.verdict import SIGNS
from samples import glue_folder, model_folder

import landscape as ls
from experiments import figure5, figure5_report
from experiments.__main__ import ARTEFACTS, main

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
    return "".join(SIGNS[finding.verdict] for finding in figure5_report.check(rows))


def test_each_statement_holds_in_its_world_and_fails_in_the_opposite() -> None:
    assert judged(fabricated(0.02, 0.03, 1.0)) == "✓✓✓✓✓"
    assert judged(fabricated(-0.02, -0.03, 4.0, rate=1.0)) == "✗✗✗✗✓"
    evidence = figure5_report.check(fabricated(0.02, 0.0, 4.0))
    assert "+0.020" in evidence[0].evidence
    assert evidence[1].verdict == "undecided"
    assert "4.00" in evidence[3].evidence


def test_a_sharpness_that_did_not_converge_is_named() -> None:
    rows = fabricated(0.02, 0.03, 1.0)
    rows[-1]["converged_after"] = False
    assert judged(rows)[-1] == "✗"
    assert "17 of 18" in figure5_report.check(rows)[-1].evidence


def test_only_the_run_at_the_chosen_rate_counts() -> None:
    rows = fabricated(0.02, 0.03, 1.0)
    for row in rows:
        if row["kind"] == "train" and row["rate"] > 6e-5 / row["ratio"]:
            row["test_accuracy"] = 0.0
    assert len(figure5_report.final_rows(rows)) == 18
    assert judged(rows) == "✓✓✓✓✓"


def test_a_single_seed_and_ratio_decide_nothing() -> None:
    rows = [r for r in fabricated(0.02, 0.03, 1.0) if r["seed"] == 0]
    rows = [r for r in rows if r.get("ratio") in (None, 1e-2)]
    assert judged(rows) == "????✓"
    assert "no interval" in figure5_report.check(rows)[0].evidence


def test_the_interval_of_a_mean_is_students() -> None:
    mean, low, high = interval([1.0, 2.0, 3.0])
    # t(0.975, 2) = 4.302652729696, s = 1: the table's value
    assert mean == 2.0
    assert high - 2 == pytest.approx(4.302652729696 / 3**0.5, rel=1e-9)
    assert 2 - low == pytest.approx(4.302652729696 / 3**0.5, rel=1e-9)
    assert "undecided" in describe_margin([-1.0, 1.0, 0.5])
    assert "undecided" not in describe_margin([1.0, 1.1, 1.05])


def test_the_best_rate_on_dev_is_the_most_accurate_then_of_the_lowest_loss_then_the_first() -> None:
    def row(rate: float, accuracy: float, loss: float) -> dict:
        return {"rate": rate, "dev_accuracy": accuracy, "dev_loss": loss}

    assert best_on_dev([row(1, 0.8, 0.1), row(2, 0.9, 3.0)])["rate"] == 2
    tied = [row(1, 0.9, 0.7), row(2, 0.9, 0.5), row(3, 0.9, 0.6)]
    assert best_on_dev(tied)["rate"] == best_on_dev(tied[::-1])["rate"] == 2
    same = [row(2, 0.9, 0.5), row(1, 0.9, 0.5)]
    assert best_on_dev(same)["rate"] == 2
    assert best_on_dev(same[::-1])["rate"] == 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figure5")
    code = main([
        "run", "figure5", "--model", str(model_folder(folder / "opt")), "--task", "sst2",
        "--source", str(glue_folder(folder / "SST-2")), "--ratios", "1e-2", "1e-3",
        "--rate-times-ratio", "1e-5", "1e-4", "--epochs", "1", "--num-train", "16", "--num-dev",
        "6", "--num-test", "8", "--hessian-examples", "4", "--seed", "0", "1",
        "--output", str(folder / "run"),
    ])  # fmt: skip
    assert code == 0
    return folder / "run"


def test_every_expected_row_is_there_once(finished) -> None:
    keys = [row["key"] for row in read_rows(finished)]
    listed = figure5.expected(stored_config(ARTEFACTS["figure5"], finished))
    assert len(keys) == len(set(keys)) == len(listed)
    assert {key for key in listed if "*" not in key} <= set(keys)


def test_both_masks_have_the_same_count_and_structured_ones_fill_columns(finished) -> None:
    config = stored_config(ARTEFACTS["figure5"], finished)
    rows = [row for row in read_rows(finished) if row["kind"] == "train"]
    for ratio in config.ratios:
        assert len({row["count"] for row in rows if row["ratio"] == ratio}) == 1
    model, _ = ls.load_model(config.model)
    structured = figure5.draw(model, "structured", 1e-2, config.targets, 0)
    random = figure5.draw(model, "random", 1e-2, config.targets, 0)
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
            ls.attach(model, figure5.draw(model, "structured", 1e-3, config.targets, 1))
        else:
            ls.load_delta(model, finished / "deltas" / f"{key}.safetensors")
        values = torch.linalg.eigvalsh(ls.exact_matrix(ls.HessianOperator(model, batches)))
        ls.detach(model)
        largest = float(values[values.abs().argmax()])
        # Lanczos stops at the configured relative residual, 1e-2
        assert abs(row[f"sharpness_{when}"]) == pytest.approx(abs(largest), rel=2e-2)


def test_render_draws_and_lists_the_papers_values_and_the_differences(finished, capsys) -> None:
    assert main(["render", "figure5", "--output", str(finished)]) == 0
    printed = capsys.readouterr().out
    assert "0.876" in printed  # table 5: OPT-125m on SST-2 at ratio 1e-2
    assert "the paper takes 1000 and 5" in printed
    assert (finished / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "<table>" in (finished / "index.html").read_text()


def test_presets_resolve() -> None:
    for preset in ("smoke", "local", "paper"):
        config = ARTEFACTS["figure5"].configure(preset, {})
        assert figure5.expected(config)
