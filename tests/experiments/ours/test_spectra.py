"""The artefact `spectra`: estimates from fabricated quadratures, and measured on a tiny model."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from points import tiny_point

import landscape as ls
from experiments.kit.judge import SIGNS, Finding
from experiments.kit.published import file_of, rows_at
from experiments.measurements import spectra
from experiments.ours import spectra_report
from experiments.ours.spectra import ARTEFACT
from landscape.curvature.spectrum.density import spectral_density
from landscape.sweep.measurements import Point

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


def check(rows: list[dict]) -> list[Finding]:
    """Judge rows as records have them."""
    before = [r for r in rows if r.get("when") == "before"]
    after = {r["ratio"]: r for r in rows if r.get("when") == "after"}
    records = [
        {"ratio": r["ratio"], "seed": 0, "spectrum_before": r, "spectrum_after": after[r["ratio"]]}
        for r in before
    ]
    exact = [{"seed": 0, "exact": r} for r in rows if r["kind"] == "exact"]
    return spectra_report.check([*records, *exact])


def judged(rows: list[dict]) -> str:
    """Return the signs of all verdicts in order."""
    return "".join(SIGNS[finding.verdict] for finding in check(rows))


def test_each_statement_holds_in_its_world_and_fails_in_the_opposite() -> None:
    assert judged(fabricated()) == "✓✓✓✓✓✓✓"
    # flatter twice, sharper, less negative, mean kept, traces, resolved
    wrong = judged(fabricated(law=-1.0, training=0.5, scale=1e4))
    assert wrong == "✗✗✗✗✗✓✓"


def test_traces_that_disagree_and_values_that_did_not_converge_are_named() -> None:
    rows = fabricated()
    rows[0]["trace"] += 1000 * rows[0]["trace_error"]
    rows[1]["bottom_converged"] = False
    assert judged(rows)[-2:] == "✗✗"
    assert "11 of 12" in check(rows)[-1].evidence


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
    assert check([*fabricated(), row])[5].verdict == "holds"
    row["eigenvalues"] = [2.0, 2.0, 2.0, 2.0]
    finding = check([*fabricated(), row])[5]
    assert finding.verdict == "fails"
    assert "trace by Hutch++ 8, estimated 2" in finding.evidence


@pytest.fixture(scope="module")
def point() -> Point:
    return tiny_point(examples=4, batch_size=2, vectors=3, steps=6, trace_matvecs=9)


def test_both_ends_are_the_dense_ones(point) -> None:
    mask = ls.random_mask(point.model, ratio=1e-3, targets=["*.[qv]_proj"], seed=0)
    ls.attach(point.model, mask)
    row = spectra.spectrum(point)["spectrum"]
    batches = ls.make_batches(point.task.train[:4], point.tokenizer, 4, loss=point.task.loss)
    values = torch.linalg.eigvalsh(ls.exact_matrix(ls.HessianOperator(point.model, batches)))
    ls.detach(point.model)
    # Lanczos stops at the relative residual 1e-2
    assert row["top"] == pytest.approx(float(values[-1]), rel=1e-2)
    assert row["bottom"] == pytest.approx(float(values[0]), rel=1e-2)
    assert row["size"] == mask.count


def test_the_exact_spectrum_of_a_small_mask_is_the_dense_one(point) -> None:
    asked = dataclasses.replace(point, options={**point.options, "count": 20})
    row = spectra.exact(asked)["exact"]
    mask = ls.random_mask(
        point.model, count=20, targets=["*.[qv]_proj"], seed=0, sampling="exact"
    )  # fmt: skip
    ls.attach(point.model, mask)
    batches = ls.make_batches(point.task.train[:4], point.tokenizer, 4, loss=point.task.loss)
    values = torch.linalg.eigvalsh(ls.exact_matrix(ls.HessianOperator(point.model, batches)))
    ls.detach(point.model)
    assert sorted(row["eigenvalues"]) == pytest.approx(values.tolist(), rel=1e-3, abs=1e-6)
    assert row["ratio"] == mask.ratio


def test_the_published_rows_say_what_was_printed() -> None:
    records = ARTEFACT.records(rows_at(file_of("local"), ARTEFACT, "local"), ARTEFACT.of("local"))
    lines = spectra_report.spectra_table(records)
    assert lines[1]["top"] == "3.44 ± 0.05"
    assert lines[4]["bottom"] == "-0.00192 ± 4e-05"
    assert [line["negative share"] for line in lines[-2:]] == [
        "0.37 [0.09, 0.49]", "0.43 [0.23, 0.50]",
    ]  # fmt: skip
    trained = spectra_report.training_table(records)
    assert [line["distance"] for line in trained] == ["15.7", "48.9", "148"]
    assert [line["dev accuracy"] for line in trained] == ["0.695", "0.680", "0.645"]
    assert "".join(SIGNS[f.verdict] for f in spectra_report.check(records)) == "✓✓✓??✓✓✓"
