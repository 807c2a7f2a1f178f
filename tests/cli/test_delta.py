"""``landscape delta``: sums, multiples, merges, and refusals of other bases."""

from __future__ import annotations

import pytest
import torch
from command_lines import last_object

import landscape as ls
from landscape.cli import main


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
