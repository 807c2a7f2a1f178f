"""``landscape delta``: sums, multiples, merges, and refusals of other bases."""

from __future__ import annotations

import pytest
import torch
from command_lines import last_object
from oracles.patches import APPLY, checkpoint, same_bits
from safetensors import safe_open
from safetensors.torch import load_file
from samples import model_folder

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
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in (tmp_path / "merged").iterdir())
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


def test_the_command_line_offers_every_format_and_type_of_the_library() -> None:
    from landscape.cli.delta import _DTYPES, _FORMATS
    from landscape.deltas.export import FORMATS
    from landscape.models.placement import DTYPES

    assert (FORMATS, tuple(DTYPES)) == (_FORMATS, _DTYPES)


def export(files, output, format: str, *more: str, delta: str = "delta1") -> list[str]:
    base = ["--model", str(files["model"]), "--output", str(output), "--format", format]
    return ["delta", "export", str(files[delta]), *base, *more]


@pytest.mark.parametrize(("format", "dtype"), [("vllm", "float16"), ("trl", "bfloat16")])
def test_a_patch_is_exported_with_what_restores_the_original_and_what_rounding_did(
    files, tmp_path, capsys, format, dtype
) -> None:
    out = tmp_path / "patch.safetensors"
    line = export(files, out, format, "--dtype", dtype, "--restore", str(tmp_path / "back"))
    assert main([*line, "--json"]) == 0
    said = last_object(capsys.readouterr().out)
    model, _ = ls.load_model(files["model"])
    count = ls.load_delta(model, files["delta1"]).mask.count
    own = ls.export_delta(
        model, tmp_path / "own.safetensors", format=format, dtype=getattr(torch, dtype)
    )
    for written, expected in ((out, own.output), (tmp_path / "back", own.restore)):
        assert same_bits(load_file(written), load_file(expected))
        with safe_open(written, "pt") as one, safe_open(expected, "pt") as two:
            assert one.metadata() == two.metadata()
    assert said == {
        "format": format, "output": str(out), "restore": str(tmp_path / "back"), "dtype": dtype,
        "count": count, "updates": own.updates, "rounded_away": own.rounded_away,
        "largest_rounding": own.largest_rounding, "originals_rounded": own.originals_rounded,
    }  # fmt: skip
    for written in (out, tmp_path / "back"):
        written.unlink()
    assert main(line) == 0
    assert f"rounds {own.rounded_away:,} of {own.updates:,} updates away" in capsys.readouterr().out


def test_one_command_exports_every_format_and_merge_is_one_of_them(files, tmp_path) -> None:
    for format in ("merged", "shira", "super-tuning"):
        assert main(export(files, tmp_path / format, format)) == 0
    model, _ = ls.load_model(files["model"])
    for kind in ("shira", "super-tuning"):
        read = ls.read_peft(model, tmp_path / kind)
        own = ls.read_delta(model, files["delta1"])
        assert all(torch.equal(read.values[n], v) for n, v in own.values.items())
    merge = ["delta", "merge", str(files["delta1"]), "--model", str(files["model"])]
    assert main([*merge, "--output", str(tmp_path / "again")]) == 0
    for path in (tmp_path / "merged").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    assert (tmp_path / "merged" / "tokenizer.json").exists()


def test_a_classifier_in_bfloat16_is_exported_in_its_own_precision_with_its_head(
    tmp_path, capsys
) -> None:
    folder = model_folder(tmp_path / "bert", "bert")
    model, _ = ls.load_model(folder, dtype=torch.bfloat16, num_labels=2)
    model.save_pretrained(folder)
    mask = ls.random_mask(model, density=0.1, targets="*.query")
    ls.attach(model, mask, dense="classifier")
    with torch.no_grad():
        for p in ls.trainable(model).values():
            p.add_(0.01)
    ls.save_delta(model, tmp_path / "d.safetensors")
    out = tmp_path / "p.safetensors"
    files = {"model": folder, "delta": tmp_path / "d.safetensors"}
    line = export(files, out, "vllm", "--num-labels", "2", "--json", delta="delta")
    assert main(line) == 0
    said = last_object(capsys.readouterr().out)
    assert (said["dtype"], said["count"]) == ("bfloat16", mask.count + 2 * 32 + 2)
    base = checkpoint(folder)
    patched = APPLY["vllm"](out, base)
    ls.merge(model).save_pretrained(tmp_path / "merged")
    assert same_bits(patched, checkpoint(tmp_path / "merged"))
    assert same_bits(APPLY["vllm"](tmp_path / "p.restore.safetensors", patched), base)


def test_a_delta_of_another_base_and_half_a_delta_are_not_exported(files, tmp_path, capsys) -> None:
    model, tokenizer = ls.load_model(files["model"])
    with torch.no_grad():
        model.model.decoder.final_layer_norm.weight.add_(1.0)
    model.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    half = tmp_path / "half"
    half.write_bytes(files["delta1"].read_bytes()[:-50])
    before = sorted(tmp_path.iterdir())
    for given, words in (
        (files | {"model": tmp_path / "other"}, "final_layer_norm.weight differ"),
        (files | {"delta1": half}, "not a whole safetensors file"),
        (files | {"delta1": files["model"] / "config.json"}, "not a whole safetensors file"),
    ):
        assert main(export(given, tmp_path / "out", "trl")) == 2
        assert words in capsys.readouterr().err
        assert sorted(tmp_path.iterdir()) == before
    other = files | {"model": tmp_path / "other"}
    assert main(export(other, tmp_path / "out", "trl", "--force")) == 0
