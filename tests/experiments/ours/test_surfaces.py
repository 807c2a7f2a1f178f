"""The artefact `surfaces`: statements on exact paraboloids, and its slices on a tiny model."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from samples import tiny_task

import landscape as ls
from experiments.kit.judge import SIGNS, Finding
from experiments.kit.published import file_of, rows_at
from experiments.measurements import slices
from experiments.ours import surfaces_report
from experiments.ours.surfaces import ARTEFACT
from experiments.ours.trained import ENDS
from landscape.sweep import RunConfig
from landscape.sweep.measurements import Point
from landscape.tensorfile import read_tensors

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


def check(rows: list[dict]) -> list[Finding]:
    """Judge rows as records have them."""
    records = []
    for trained in [r for r in rows if r["kind"] == "train"]:
        record = {**trained, "count": 10, "distance": 1.0, "slices_path_after": trained,
                  "slices_planes_after": {}}  # fmt: skip
        for when in ENDS:
            own = [r for r in rows if r["ratio"] == trained["ratio"] and r.get("when") == when]
            (record[f"slices_top_{when}"],) = [r for r in own if r["kind"] == "top"]
            record[f"slices_lines_{when}"] = {r["line"]: r for r in own if r["kind"] == "line"}
        records.append(record)
    return surfaces_report.check(records)


def judged(rows: list[dict]) -> str:
    """Return the signs of all verdicts in order."""
    return "".join(SIGNS[finding.verdict] for finding in check(rows))


def test_each_statement_holds_in_its_world_and_fails_in_the_opposite() -> None:
    assert judged(fabricated()) == "✓✓✓✓✓✓✓✓"
    # flatter before and after, steepest, quadratic, plane, descends, curvature, resolved
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
    assert "2 of 4" in check(rows)[-1].evidence


def test_the_rise_of_a_line_leaves_its_slope_out() -> None:
    row = {"losses": [3 * a * a / 2 + 7 * a + 1 for a in AXIS], "prediction": [1.0] * 5}
    assert surfaces_report.rise(row) == pytest.approx(6)
    assert surfaces_report.rise(row, 0.5) == pytest.approx(1.5)
    assert surfaces_report.rise(row, predicted=True) == 0


class Trained(NamedTuple):
    """A run of a tiny model inside a mask, and what its slices are."""

    point: Point
    distance: float
    found: dict[str, Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    tokenizer = ls.tiny_tokenizer()
    model = ls.tiny_model("opt", vocab_size=len(tokenizer))
    ls.attach(model, ls.random_mask(model, ratio=1e-3, targets=["*.[qv]_proj"], seed=0))
    config = RunConfig(ratio=1e-3, targets=("*.[qv]_proj",), epochs=1, batch_size=4)
    options = {"span": 0.5, "plane_points": 3, "line_points": 3, "path_points": 3, "examples": 4}
    point = Point(config, model, tokenizer, tiny_task(), tmp_path_factory.mktemp("run"), options)
    run = ls.finetune(
        model, tokenizer, point.task, lr=0.1, epochs=1, batch_size=4, seed=0, test=False,
        probes=[slices.during(point)],
    )  # fmt: skip
    return Trained(point, run.distance["l2"], slices.after(point))


def test_all_lines_and_the_eigenvectors_plane_have_the_span_asked_for(trained) -> None:
    found = trained.found
    of = [*found["lines"].values(), found["planes"]["eigenvectors"]]
    assert {slice_["axes"][0][-1] for slice_ in of} == {0.5}
    reach = max(abs(x) for place in found["path"]["path"] for x in place)
    assert found["planes"]["path"]["axes"][0][-1] == pytest.approx(1.2 * reach)


def test_a_line_is_the_loss_of_the_moved_weights(trained) -> None:
    point, row = trained.point, trained.found["lines"]["eigenvector"]
    model, task = point.model, point.task
    (batch,) = ls.make_batches(task.train[:4], point.tokenizer, 4, loss=task.loss)
    values, vectors = torch.linalg.eigh(ls.exact_matrix(ls.HessianOperator(model, [batch])))
    largest = values.flip(0)[:2].tolist()
    assert trained.found["top"]["eigenvalues"] == pytest.approx(largest, rel=2e-2, abs=1e-6)
    losses, theta = [], ls.trainable(model).values()
    kept = [p.detach().clone() for p in theta]
    pieces = vectors[:, -1].split([p.numel() for p in theta])
    for a in row["axes"][0]:
        with torch.no_grad():
            for p, value, piece in zip(theta, kept, pieces, strict=True):
                p.copy_(value + (a * piece).to(p).view_as(p))
            total, count = ls.task_loss(model, batch)
        losses.append(float(total) / count)
    with torch.no_grad():
        for p, value in zip(theta, kept, strict=True):
            p.copy_(value)
    # the eigenvector is known up to its sign, and to the residual's angle
    assert losses == pytest.approx(row["losses"], rel=2e-2) or losses[::-1] == pytest.approx(
        row["losses"], rel=2e-2
    )


def test_the_path_ends_at_the_trained_point_and_starts_at_its_distance(trained) -> None:
    path = trained.found["path"]
    assert path["path_steps"] == [0, 2, 4, 6]
    start, end = torch.tensor(path["path"][0]), torch.tensor(path["path"][-1])
    assert float(end.norm()) == pytest.approx(0, abs=1e-6)
    # the plane holds the share `explained` of all points, the start among them
    assert float(start.norm()) <= trained.distance * (1 + 1e-5)
    assert float(start.norm()) >= 0.9 * trained.distance


def test_a_step_that_is_made_again_leaves_the_same_path(trained) -> None:
    assert trained.point.folder is not None
    path = trained.point.folder / "path" / "00000006.safetensors"
    kept = read_tensors(path, "weights").tensors
    path.unlink()
    slices.during(trained.point)(trained.point.model, {"step": 6})
    slices.during(trained.point)(trained.point.model, {"step": 5})
    again = read_tensors(path, "weights").tensors
    assert again.keys() == kept.keys()
    assert all(torch.equal(again[name], kept[name]) for name in kept)
    assert len(list(path.parent.iterdir())) == 3


def test_slices_leave_the_model_as_it_was(trained) -> None:
    before = {n: p.detach().clone() for n, p in trained.point.model.named_parameters()}
    slices.after(trained.point)
    for name, p in trained.point.model.named_parameters():
        assert torch.equal(p, before[name]), name


def test_the_published_rows_say_what_was_printed() -> None:
    records = ARTEFACT.records(rows_at(file_of("local"), ARTEFACT, "local"), ARTEFACT.of("local"))
    lines = surfaces_report.table(records)
    assert lines[1]["top eigenvalues"] == "3.44 ± 3e-05, 0.651 ± 0.04"
    assert [line["rise along the eigenvector"] for line in lines] == [
        "0.236", "0.724", "0.0305", "0.0552", "0.00561", "-0.00269",
    ]  # fmt: skip
    assert {line["at displacement"] for line in lines} == {"0.762"}
    assert "".join(SIGNS[f.verdict] for f in surfaces_report.check(records)) == "✓✓✗✗✓✓✓✓"


def test_the_span_of_preset_local_is_that_of_the_sharpest_mask() -> None:
    records = ARTEFACT.records(rows_at(file_of("local"), ARTEFACT, "local"), ARTEFACT.of("local"))
    rows = surfaces_report.of_kind(surfaces_report.rows_of(records), "top")
    sharpest = max(row["eigenvalues"][0] for row in rows)
    (grid,) = ARTEFACT.of("local")
    (options,) = grid.measure.values()
    assert sharpest * options["span"] ** 2 / 2 == pytest.approx(1.0)
