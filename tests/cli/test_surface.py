"""``landscape surface``: numbers that the library repeats, files that resume, refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from command_lines import last_object, measured, run

import landscape as ls
from landscape.cli import judging, main
from landscape.cli.guard import MISTAKE


def test_a_surface_in_the_plane_of_training_is_the_librarys(files, tmp_path, capsys) -> None:
    out = tmp_path / "s"
    code = run(files, "surface", "--delta", files["delta1"], "--trajectory", files["path1"],
               "--directions", "trajectory", "--points", 3, "--output", out, "--json")  # fmt: skip
    assert code == 0
    result = last_object(capsys.readouterr().out)
    assert json.loads((out / "surface.json").read_text()) == result
    for name, magic in (("surface.png", b"\x89PNG"), ("relief.png", b"\x89PNG"),
                        ("surface.html", b"<!doctype")):  # fmt: skip
        assert (out / name).read_bytes().startswith(magic)
    model, batches = measured(files)
    path = ls.Trajectory.load(files["path1"])
    directions = path.pca(model)
    reach = 1.1 * path.coordinates(model, directions).abs().amax(0)
    again = ls.surface_2d(model, batches, directions, span=reach.tolist(), points=3)
    assert result["losses"] == again.losses.tolist()
    assert result["axes"] == [axis.tolist() for axis in again.axes]
    assert "principal direction 1" in result["labels"][0]


def test_an_interrupted_surface_is_taken_up_in_its_folder(files, tmp_path, monkeypatch) -> None:
    from landscape.cli import surface

    out, calls = tmp_path / "s", []
    arguments = ("--delta", files["delta1"], "--points", 3, "--span", 0.5, "--output", out)
    honest = ls.task_loss

    def counting(*given):
        calls.append(1)
        return honest(*given)

    def stop(done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr("landscape.losses.default.task_loss", counting)
    with monkeypatch.context() as patch:
        patch.setattr(surface, "_progress", stop)
        assert run(files, "surface", *arguments) == 130
    assert len(calls) == 1 + 5  # the centre and five others
    assert run(files, "surface", *arguments) == 0
    assert len(calls) == 6 + 1 + 3
    assert run(files, "surface", *arguments[:-4], "--span", 0.7, "--output", out) == 2


@pytest.mark.parametrize("directions", ["random", "eigenvectors", "displacement"])
def test_a_curve_has_the_loss_of_the_model_in_its_middle(
    directions, files, tmp_path, capsys
) -> None:
    out = tmp_path / "s"
    code = run(files, "surface", "--delta", files["delta1"], "--directions", directions,
               "--dimensions", 1, "--points", 3, "--predict", "--output", out,
               "--json")  # fmt: skip
    assert code == 0
    result = last_object(capsys.readouterr().out)
    model, batches = measured(files)
    total, count = ls.task_loss(model, batches[0])
    assert result["losses"][1] == result["centre"] == float(total.detach()) / count
    assert result["axes"][0][2] > 0
    assert not (out / "relief.png").exists()
    if directions == "displacement":
        assert result["axes"][0][2] == pytest.approx(ls.distance(model).l2)
        ls.detach(model)
        total, count = ls.task_loss(model, batches[0])
        assert result["losses"][0] == pytest.approx(float(total.detach()) / count, rel=1e-5)
    if directions == "eigenvectors":
        H = ls.HessianOperator(model, batches)
        top = float(ls.exact_spectrum(H).eigenvalues[0])
        assert result["curvature"][0][0] == pytest.approx(top, rel=1e-2)


def test_the_line_between_two_deltas_reports_its_barrier_and_one_alone_knows_its_task(
    files, tmp_path, capsys, monkeypatch
) -> None:
    out = tmp_path / "s"
    code = run(files, "surface", "--delta", files["delta1"], "--to", files["delta2"],
               "--points", 3, "--output", out, "--json")  # fmt: skip
    assert code == 0
    result = last_object(capsys.readouterr().out)
    model, batches = measured(files, None)
    curve = ls.interpolate(model, batches, files["delta1"], files["delta2"], points=3)
    assert result["losses"] == curve.losses.tolist()
    assert result["barrier"] == curve.barrier
    code = run(files, "surface", "--to", files["delta2"], "--points", 3, "--output",
               tmp_path / "t", "--json")  # fmt: skip
    assert code == 0
    from_base = last_object(capsys.readouterr().out)
    total, count = ls.task_loss(model, batches[0])
    assert from_base["losses"][0] == float(total.detach()) / count
    assert from_base["losses"][-1] == result["losses"][-1]
    alone = ["surface", "--to", str(files["delta2"]), "--examples", "4", "--points", "3"]
    assert main([*alone, "--output", str(tmp_path / "u"), "--json"]) == 0
    assert last_object(capsys.readouterr().out)["losses"] == from_base["losses"]
    about = judging.about_delta
    monkeypatch.setattr(judging, "about_delta", lambda path: replace(about(path), bos=7))
    assert main([*alone, "--output", str(tmp_path / "v"), "--json"]) == 0
    assert last_object(capsys.readouterr().out)["losses"] != from_base["losses"]
    assert main([*alone, "--output", str(tmp_path / "w"), "--num-train", "3"]) == MISTAKE
    assert "got --num-train; leave it out" in capsys.readouterr().err


MISTAKES = {
    "even points": (["--points", "4"], "odd number of --points"),
    "no trajectory": (["--directions", "trajectory"], "--trajectory FILE"),
    "displacement of a fresh mask": (["--directions", "displacement"], "--delta FILE"),
    "three spans": (["--span", "1", "1", "1"], "one --span, or 2 for 2 axes, got 3"),
    "a line with a span": (["--to", __file__, "--span", "1"], "expected --to alone"),
    "no such trajectory": (
        ["--trajectory", "nowhere"],
        "--trajectory: expected a file at nowhere, got none",
    ),
    "no such delta": (["--to", "nowhere"], "--to: expected a file at nowhere, got none"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_no_folder(mistake, files, tmp_path, capsys) -> None:
    change, words = MISTAKES[mistake]
    out = tmp_path / "s"
    assert run(files, "surface", "--output", out, *change) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert words in said
    assert not out.exists()
