"""The artefact `spectra`: estimates from fabricated quadratures, and all of it on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import assert_whole, render_artefact, run_artefact

import landscape as ls
from experiments.earlier import ARTEFACTS
from experiments.kit.artefact import stored_config
from experiments.kit.judge import SIGNS
from experiments.kit.measure import delta_path, train_cell
from experiments.kit.store import Store, read_rows
from experiments.ours import spectra_report
from landscape.curvature.spectrum.density import spectral_density

RATIOS = (1e-2, 1e-3, 1e-4)


def spectrum_row(top: float, bottom: float, mean: float, **names: object) -> dict:
    """A row of eigenvalues top (1 of 4), bottom (1 of 4), and two that make up the mean."""
    rest = (4 * mean - top - bottom) / 2
    noise = 1e-3 * abs(top)
    nodes = [[bottom - d, rest, rest, top + d] for d in (-noise, 0.0, noise)]
    return {
        "kind": "spectrum", "seed": 0, "size": 4, "num_matvecs": 12, "nodes": nodes,
        "weights": [[0.25] * 4] * 3, "top": top, "bottom": bottom, "top_residual": 0.01 * top,
        "bottom_residual": 0.01 * abs(bottom), "top_converged": True, "bottom_converged": True,
        "top_products": 5, "bottom_products": 5, "trace": 4 * mean, "trace_error": noise,
        "trace_products": 12, "loss": 0.5, **names,
    }  # fmt: skip


def fabricated(*, law: float = 1.0, training: float = 2.0, scale: float = 0.0) -> list[dict]:
    """Spectra whose top is 100 ratio^law, times `training` after it; the bottom becomes less."""
    rows = []
    for ratio in RATIOS:
        top = 100 * ratio**law
        mean = 0.01 + scale * ratio
        rows += [
            spectrum_row(top, -top, mean, ratio=ratio, when="before"),
            spectrum_row(training * top, -top / training, mean + (training * top - top) / 4,
                         ratio=ratio, when="after"),
        ]  # fmt: skip
    return rows


def judged(rows: list[dict]) -> str:
    """Return the signs of all verdicts in order."""
    return "".join(SIGNS[finding.verdict] for finding in spectra_report.check(rows))


def test_each_statement_holds_in_its_world_and_fails_in_the_opposite() -> None:
    assert judged(fabricated()) == "✓✓✓✓✓✓✓"
    # flatter twice, sharper, less negative, mean kept, traces, certified
    wrong = judged(fabricated(law=-1.0, training=0.5, scale=1e4))
    assert wrong == "✗✗✗✗✗✓✓"


def test_traces_that_disagree_and_values_that_did_not_converge_are_named() -> None:
    rows = fabricated()
    rows[0]["trace"] += 1000 * rows[0]["trace_error"]
    rows[1]["bottom_converged"] = False
    assert judged(rows)[-2:] == "✗✗"
    assert "11 of 12" in spectra_report.check(rows)[-1].evidence


def test_the_negative_share_of_a_symmetric_spectrum_is_a_half() -> None:
    row = spectrum_row(2.0, -2.0, 0.0)
    share = spectra_report.negative_share(row)
    assert share.value == pytest.approx(0.5, abs=1e-12)
    assert share.low <= 0.5 <= share.high
    one = row | {"nodes": row["nodes"][:1], "weights": row["weights"][:1]}
    alone = spectra_report.negative_share(one)
    assert (alone.low, alone.high) == (0.0, 1.0)


def test_the_negative_share_is_that_of_the_eigenvalues_within_its_error() -> None:
    values = torch.linspace(-1, 3, 60, dtype=torch.float64)
    measured = spectral_density(ls.MatrixOperator(torch.diag(values)), num_vectors=12, steps=20)
    row = measured.to_dict() | {"trace_products": 60}
    share = spectra_report.negative_share(row)
    exact = float(-values.clamp(max=0).sum() / values.abs().sum())
    assert share.low <= exact <= share.high
    assert 0 < share.high - share.low < 0.2


def test_an_exact_spectrum_judges_its_estimates() -> None:
    row = spectrum_row(2.0, -1.0, 0.5) | {"kind": "exact", "eigenvalues": [2.0, 0.5, 0.5, -1.0]}
    assert spectra_report.check([*fabricated(), row])[5].verdict == "holds"
    row["eigenvalues"] = [2.0, 2.0, 2.0, 2.0]
    finding = spectra_report.check([*fabricated(), row])[5]
    assert finding.verdict == "fails"
    assert "trace by Hutch++ 8, estimated 2" in finding.evidence


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_artefact(
        "spectra", tmp_path_factory.mktemp("spectra"), "--ratios", "3e-3", "1e-3",
        "--epochs", "1", "--num-train", "8", "--num-dev", "6", "--curvature-examples", "4",
        "--rate-times-ratio", "1e-4", "--vectors", "3", "--quadrature-steps", "6",
        "--trace-products", "9", "--exact-count", "20", "--exact-examples", "4",
    )  # fmt: skip


def test_every_expected_row_is_there_once(finished) -> None:
    assert len(assert_whole("spectra", finished)) == 7


def test_both_ends_are_the_dense_ones_before_and_after_training(finished) -> None:
    config = stored_config(ARTEFACTS["spectra"], finished)
    model, tokenizer = ls.load_model(config.model)
    task = ls.load_task("sst2", source=config.source, num_train=8, num_dev=6, num_test=8)
    batches = ls.make_batches(task.train[:4], tokenizer, 4, loss=task.loss)
    rows = {r["key"]: r for r in read_rows(finished)}
    for when in ("before", "after"):
        row = rows[f"spectrum/{when}/ratio=0.001/seed=0"]
        if when == "before":
            ls.attach(model, ls.random_mask(model, ratio=1e-3, seed=0))
        else:
            ls.load_delta(model, delta_path(Store(finished), train_cell(1e-3, 0)))
        values = torch.linalg.eigvalsh(ls.exact_matrix(ls.HessianOperator(model, batches)))
        ls.detach(model)
        # Lanczos stops at the configured relative residual, 1e-2
        assert row["top"] == pytest.approx(float(values[-1]), rel=1e-2)
        assert row["bottom"] == pytest.approx(float(values[0]), rel=1e-2)
    before, after = (rows[f"spectrum/{when}/ratio=0.001/seed=0"] for when in ("before", "after"))
    assert before["top"] != after["top"]


def test_render_draws_and_prints(finished, capsys) -> None:
    render_artefact("spectra", finished)
    assert "negative share" in capsys.readouterr().out
