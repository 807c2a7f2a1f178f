"""``landscape sharpness``: eigenvalues of the dense matrix, with and without a mask."""

from __future__ import annotations

import json

import pytest
import torch
from command_lines import last_object, measured, run, settings
from safetensors.torch import load_file, save_file

import landscape as ls
from landscape.cli import main


def test_sharpness_at_a_delta_equals_the_dense_eigenvalue(files, capsys) -> None:
    arguments = ["--delta", files["delta1"], "--tol", "1e-3", "--json"]
    assert run(files, "sharpness", *arguments) == 0
    result = last_object(capsys.readouterr().out)
    assert result["converged"]
    model, batches = measured(files)
    H = ls.HessianOperator(model, batches)
    dense = torch.stack([H @ row for row in torch.eye(H.size)])
    top = float(torch.linalg.eigvalsh(dense.double()).max())
    assert result["eigenvalues"][0] == pytest.approx(top, rel=1e-2)


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


def test_a_truncated_delta_is_refused(files, tmp_path, capsys) -> None:
    path = tmp_path / "delta.safetensors"
    save_file({"a": torch.zeros(100)}, path)
    load_file(path)
    path.write_bytes(path.read_bytes()[:-10])
    assert run(files, "sharpness", "--delta", path) == 2
    assert "whole safetensors file" in capsys.readouterr().err
