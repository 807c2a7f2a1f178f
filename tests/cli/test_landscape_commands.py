"""``landscape surface | density | delta``: files, numbers that the library repeats, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from samples import glue_folder, model_folder

import landscape as ls
from landscape.cli import main


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model, a task, and two finished runs with their trajectories."""
    folder = tmp_path_factory.mktemp("cli")
    found = {"model": model_folder(folder / "opt"), "task": glue_folder(folder / "SST-2")}
    for seed in ("1", "2"):
        out = folder / f"run{seed}"
        arguments = [*settings(found), "--lr", "0.01", "--epochs", "2", "--mask-seed", seed]
        assert main(["finetune", *arguments, "--output", str(out), "--trajectory", "1"]) == 0
        found |= {f"delta{seed}": out / "delta.safetensors",
                  f"path{seed}": out / "trajectory.safetensors"}  # fmt: skip
    return found


def settings(files: dict[str, Path]) -> list[str]:
    sizes = ["--num-train", "16", "--num-dev", "8", "--num-test", "8"]
    return [
        "--model", str(files["model"]), "--task", "sst2", "--source", str(files["task"]),
        "--density", "0.1", *sizes,
    ]  # fmt: skip


def measured(files: dict[str, Path], delta: str | None = "delta1") -> tuple[torch.nn.Module, list]:
    """The model and the batches that a command measures with, by the library."""
    model, tokenizer = ls.load_model(files["model"])
    if delta:
        ls.load_delta(model, files[delta])
    task = ls.load_task("sst2", source=files["task"], num_train=16, num_dev=8, num_test=8)
    return model, ls.make_batches(task.train[:4], tokenizer, 4, sort=True, loss=task.loss)


def last_object(text: str) -> dict:
    """Read what --json printed: one object, and nothing beside it."""
    return json.loads(text)


def run(files, command: str, *arguments: object) -> int:
    return main([command, *settings(files), "--examples", "4", *map(str, arguments)])


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


def test_the_line_between_two_deltas_reports_its_barrier(files, tmp_path, capsys) -> None:
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


def test_density_adds_up_and_its_mean_is_that_of_the_exact_spectrum(
    files, tmp_path, capsys
) -> None:
    figure = tmp_path / "d.png"
    code = run(files, "density", "--delta", files["delta1"], "--vectors", 6, "--steps", 8,
               "--bins", 5, "--figure", figure, "--json")  # fmt: skip
    assert code == 0
    printed = capsys.readouterr()
    result = last_object(printed.out)
    assert sum(row["share"] for row in result["bins"]) == pytest.approx(1)
    assert printed.err.count("±") >= 6
    model, batches = measured(files)
    exact = ls.exact_spectrum(ls.HessianOperator(model, batches)).eigenvalues
    # six vectors: the chance to be off by 6 standard errors is below 1 %
    assert abs(result["mean"] - float(exact.mean())) < 6 * result["mean_error"] + 1e-6
    assert figure.read_bytes().startswith(b"\x89PNG")
    for end, wanted in zip(result["ends"], (exact.max(), exact.min()), strict=True):
        assert abs(end["eigenvalues"][0] - float(wanted)) <= end["residuals"][0] + 1e-7
        nodes = torch.tensor(result["nodes"])
        assert int((nodes == end["eigenvalues"][0]).sum()) == 6  # once for every vector


def test_density_refuses_a_figure_that_it_could_not_write_before_it_computes(
    files, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(ls, "HessianOperator", None)
    assert run(files, "density", "--delta", files["delta1"], "--figure", tmp_path / "d.xyz") != 0
    assert "got d.xyz; rename it" in capsys.readouterr().err


def test_deltas_are_added_scaled_subtracted_and_merged(files, tmp_path, capsys) -> None:
    base = ["--model", str(files["model"]), "--json"]
    a, b = str(files["delta1"]), str(files["delta2"])

    def do(*arguments: str) -> dict:
        assert main(["delta", *arguments, *base]) == 0
        return last_object(capsys.readouterr().out)

    model, _ = ls.load_model(files["model"])
    first, second = (ls.read_delta(model, files[f"delta{i}"]) for i in (1, 2))
    out = tmp_path / "out.safetensors"
    for arguments, expected in (
        (("add", a, b), first + second),
        (("subtract", a, b), first - second),
        (("scale", a, "--factor", "-2"), -2.0 * first),
    ):
        said = do(*arguments, "--output", str(out))
        found = ls.read_delta(model, out)
        assert said["count"] == expected.mask.count == found.mask.count
        assert all(torch.equal(found.values[n], v) for n, v in expected.values.items())
    assert do("overlap", a, b)["count"] == ls.overlap(first, second).count
    moved = do("info", a)
    ls.apply_delta(model, first)
    assert moved["distance"]["l2"] == ls.distance(model).l2
    do("merge", a, "--output", str(tmp_path / "merged"))
    plain, _ = ls.load_model(tmp_path / "merged")
    ls.subspace.synchronise(model)
    for name in first.mask.indices:
        assert torch.equal(plain.get_parameter(name), model.get_parameter(name))
    assert main(["delta", "merge", a, "--output", str(tmp_path / "merged"), *base]) == 2


def test_a_delta_onto_another_base_is_refused_and_taken_by_force(files, tmp_path, capsys) -> None:
    model, tokenizer = ls.load_model(files["model"])
    with torch.no_grad():
        model.model.decoder.final_layer_norm.weight.add_(1.0)
    other = tmp_path / "other"
    model.save_pretrained(other)
    tokenizer.save_pretrained(other)
    command = ["delta", "info", str(files["delta1"]), "--model", str(other)]
    assert main(command) == 2
    assert "final_layer_norm.weight differ" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0


@pytest.mark.parametrize("factor", ["nan", "inf", "1e39"])
def test_a_delta_is_not_scaled_to_nan_or_infinity(files, tmp_path, capsys, factor) -> None:
    out = tmp_path / "out.safetensors"
    command = ["delta", "scale", str(files["delta1"]), "--model", str(files["model"])]
    assert main([*command, "--factor", factor, "--output", str(out)]) == 2
    assert "finite" in capsys.readouterr().err
    assert not out.exists()


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


@pytest.mark.parametrize("operator", ["hessian", "gauss-newton", "fisher"])
@pytest.mark.parametrize("full", [["--full"], ["--ratio", "1.0"], []])
def test_sharpness_of_any_operator_with_and_without_a_mask_is_the_librarys(
    operator, full, files, capsys
) -> None:
    if full == ["--ratio", "1.0"] and operator != "hessian":
        pytest.skip("the same as --full")
    arguments = [a for a in settings(files) if a not in ("--density", "0.1")]
    point = full or ["--delta", str(files["delta1"])]
    assert main([
        "sharpness", *arguments, *point, "--examples", "4", "--operator", operator, "--json",
        "--tol", "1e-3", "--which", "LM",
    ]) == 0  # fmt: skip
    printed, said = capsys.readouterr()
    result = json.loads(printed)
    model, batches = measured(files, None if full else "delta1")
    kind = {"hessian": ls.HessianOperator, "gauss-newton": ls.GGNOperator,
            "fisher": ls.FisherOperator}[operator]  # fmt: skip
    if full:
        model.requires_grad_(True)
        assert "without a mask" in said
    A = kind(model, batches)
    assert result["size"] == A.size
    top = ls.power_iteration(A, tol=1e-3, max_matvecs=2000)
    assert abs(result["eigenvalues"][0]) == pytest.approx(abs(float(top.eigenvalues[0])), rel=2e-2)


def test_a_full_model_has_no_budget(files, capsys) -> None:
    assert run(files, "sharpness", "--full") == 2
    assert "--full or --density" in capsys.readouterr().err
