"""The artefact `linear`: fitted laws on fabricated rows, and its measurements on a tiny model."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from points import asked, tiny_point

import landscape as ls
from experiments.kit.judge import SIGNS, Finding
from experiments.kit.published import file_of, rows_at
from experiments.measurements import predictions
from experiments.random_masking import linear_report
from experiments.random_masking.linear import ARTEFACT
from landscape.sweep.measurements import Point

RATIOS = (1e-5, 1e-4, 1e-3, 1e-2)


def fabricated(curvature: float, rate: float, distance: float) -> list[dict]:
    """Rows of a world with exact power laws; the linear model has exponents 1, -1, -1/2."""
    noise = (0.98, 1.01, 1.02)
    bend = {1e-5: 1.01, 1e-4: 0.99, 1e-3: 0.995, 1e-2: 1.005}
    rows: list[dict] = [
        {"kind": "curvature", "matrix": m, "mask": "all", "ratio": 0.0, "density": 1.0,
         "eigenvalue": 50.0, "seed": 0, "mask_seed": 0} for m in linear_report.MATRICES
    ]  # fmt: skip
    for ratio in RATIOS:
        rows += [
            {"kind": "curvature", "matrix": m, "mask": "random", "ratio": ratio, "seed": 0,
             "density": 10 * ratio, "mask_seed": number,
             "eigenvalue": 50 * (10 * ratio) ** curvature * factor}
            for m in linear_report.MATRICES for number, factor in enumerate(noise)
        ]  # fmt: skip
        for optimizer, labels in linear_report.RUNS:
            for seed, scale in product((0, 1), (0.5, 1.0)):
                off = bend[ratio] if seed else 1 / bend[ratio]
                rows.append(
                    {"kind": "descent", "optimizer": optimizer, "labels": labels, "ratio": ratio,
                     "rate": scale * ratio**rate * off, "scale": scale, "seed": seed,
                     "steps": int(20 / scale), "count": 100, "reached": True, "diverged": False,
                     "distance": ratio**distance * off / scale}
                )  # fmt: skip
    return rows


def judged(rows: list[dict]) -> list[Finding]:
    """Judge rows as records have them."""
    kinds = {"curvature": "curvature_masks", "descent": "approaches_descents"}
    return linear_report.check([
        {"seed": seed,
         **{name: [r for r in rows if (r["kind"], r["seed"]) == (kind, seed)]
            for kind, name in kinds.items()}}
        for seed in sorted({r["seed"] for r in rows})
    ])  # fmt: skip


def test_rows_after_the_linear_model_hold_and_others_do_not() -> None:
    laws = judged(fabricated(1.0, -1.0, -0.5))[:-1]
    assert all(finding.verdict == "holds" for finding in laws)
    others = judged(fabricated(0.7, -0.6, -0.2))[:-1]
    assert all(finding.verdict == "fails" for finding in others)
    assert "exponent -0.60" in others[2].evidence
    assert "exponent -0.20" in others[4].evidence


def test_eigenvalues_are_compared_ratio_by_ratio_not_by_a_slope_alone() -> None:
    rows = fabricated(1.0, -1.0, -0.5)
    for row in rows:
        if row["kind"] == "curvature" and row["ratio"] == 1e-4:
            row["eigenvalue"] *= 2.7  # a hump, about which a line is flat
    first = judged(rows)[0]
    assert first.verdict == "fails"
    assert "2.71 [2.57, 2.85] at 0.0001 (fails, 3 masks)" in first.evidence
    assert "at 0.001 (holds, 3 masks)" in first.evidence
    for row in rows:
        if row["kind"] == "curvature" and row["ratio"] > 0:
            row["eigenvalue"] *= 10  # all of them off by one factor, on the same line
    assert judged(rows)[1].verdict == "fails"


def test_one_seed_is_not_a_law_however_near_its_points_lie() -> None:
    one = [row for row in fabricated(1.0, -1.0, -0.5) if row["seed"] == 0]
    assert "".join(SIGNS[finding.verdict] for finding in judged(one)[:-1]) == "✓✓??????"


def test_two_points_are_not_a_law() -> None:
    two = [row for row in fabricated(1.0, -1.0, -0.5)
           if row["ratio"] in (0.0, 1e-2, 1e-3) and row["seed"] == 0]  # fmt: skip
    rates = judged(two)[2]
    assert rates.verdict == "undecided"
    assert "no interval" in rates.evidence
    one = [row for row in two if row["ratio"] != 1e-2]
    assert "1 ratios are too few" in judged(one)[2].evidence


def test_a_descent_that_did_not_reach_the_loss_is_no_best_descent() -> None:
    rows = fabricated(1.0, -1.0, -0.5)
    for row in rows:
        if row["kind"] == "descent" and row["scale"] == 0.5:
            row |= {"reached": False, "steps": 1, "distance": 1e-9}
    for best in (linear_report.fastest, linear_report.nearest):
        assert {row["scale"] for row in best(rows, "sgd", "true")} == {1.0}


def test_an_exponent_without_a_spread_has_no_interval_and_decides_nothing() -> None:
    rows = fabricated(1.0, -1.0, -0.5)
    for row in rows:
        if row["kind"] == "descent":
            row["rate"] = row["scale"] / row["ratio"]
    rates = judged(rows)[2]
    assert rates.verdict == "undecided"
    assert "exponent -1 [no interval]" in rates.evidence


@pytest.fixture(scope="module")
def point() -> Point:
    return tiny_point()


def test_random_masks_interlace_with_all_targets_and_equal_a_dense_eigenvalue(point) -> None:
    drawn = predictions.curvature(asked(point, ratio=3e-3, random=2, columns=1))["masks"]
    everything = predictions.curvature(asked(point))["masks"]
    batches = ls.make_batches(point.task.train[:4], point.tokenizer, 4, loss=point.task.loss)
    for matrix, operator in predictions.MATRICES.items():
        (full,) = [row["eigenvalue"] for row in everything if row["matrix"] == matrix]
        chosen = [row for row in drawn if row["matrix"] == matrix]
        assert all(row["eigenvalue"] <= full * 1.02 for row in chosen)
        (row,) = [r for r in chosen if (r["mask"], r["mask_seed"]) == ("random", 1)]
        mask = ls.random_mask(point.model, ratio=3e-3, targets=["*.[qv]_proj"], seed=1)
        ls.attach(point.model, mask)
        top = float(torch.linalg.eigvalsh(ls.exact_matrix(operator(point.model, batches)))[-1])
        ls.detach(point.model)
        assert row["eigenvalue"] == pytest.approx(top, rel=2e-2, abs=1e-6)


def test_shuffled_labels_start_at_another_loss_and_true_ones_at_one(point) -> None:
    short = asked(point, ratio=1e-2, sgd=(0.3, 1.0), adamw=(1e-5,), train=12, step=6, max_steps=2)
    rows = predictions.approaches(short)["descents"]
    assert [(r["optimizer"], r["labels"], r["scale"]) for r in rows] == [
        ("sgd", "true", 0.3), ("sgd", "true", 1.0), ("sgd", "shuffled", 1.0),
        ("adamw", "true", 1e-5), ("adamw", "shuffled", 1e-5),
    ]  # fmt: skip
    first = {(r["labels"], r["losses"][0]) for r in rows}
    assert len(first) == 2  # the start does not depend on mask, rate or optimizer


def test_the_published_rows_say_what_was_printed() -> None:
    records = ARTEFACT.records(rows_at(file_of("local"), ARTEFACT, "local"), ARTEFACT.of("local"))
    eigenvalues, descents = (table.lines(records) for table in ARTEFACT.tables.values())
    assert eigenvalues[0]["ratio 0.001"] == "1.03 (0.91 to 1.2)"
    assert eigenvalues[-1]["ratio 0.0001"] == "2.77 (2.5 to 3.2)"
    assert eigenvalues[4]["ratio 1e-05"] == "1.79e+03"
    assert (descents[2]["rate"], descents[2]["distance"]) == ("0.823", "14.2")
    assert [line["distance"] for line in descents[-4:]] == ["124", "223", "543", "244"]
    assert "".join(SIGNS[f.verdict] for f in linear_report.check(records)) == "?✗??????✓"


@pytest.mark.parametrize("preset", ["smoke", "local", "paper"])
def test_a_preset_measures_all_targets_and_each_ratio_once(preset) -> None:
    ratios = [
        options.get("ratio")
        for grid in ARTEFACT.of(preset) for name, options in grid.measure.items()
        if name.endswith("CURVATURE")
    ]  # fmt: skip
    assert ratios[0] is None
    assert len(ratios) == len(set(ratios)) > 1
