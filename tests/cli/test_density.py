"""``landscape density``: shares that add up, ends that are the exact ones."""

from __future__ import annotations

import pytest
import torch
from command_lines import last_object, measured, run

import landscape as ls


def test_density_adds_up_and_its_mean_is_that_of_the_exact_spectrum(
    files, tmp_path, capsys
) -> None:
    figure = tmp_path / "d.png"
    code = run(files, "density", "--delta", files["delta1"], "--num-vectors", 6, "--steps", 8,
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
