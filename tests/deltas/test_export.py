"""Exports: what other software makes of a patch is the merged model, and the restore undoes it."""

from __future__ import annotations

import json

import pytest
import torch
from oracles.patches import APPLY, cast, checkpoint, same_bits
from safetensors.torch import load_file
from to_export import HeadFirst, from_gguf, merged, move, saved, trained
from transformers import PretrainedConfig

import landscape as ls

FAMILIES = ("opt", "llama", "gpt2", "bert", "vit")
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
OTHERS = ("qwen2", "t5", "roberta", "mpnet", "deberta-v2", "resnet", "clip")
CASES = [(family, dtype) for family in FAMILIES for dtype in DTYPES]
CASES += [(family, torch.bfloat16) for family in OTHERS]
PATCHES = ("vllm", "trl")
IDS = torch.tensor([[5, 6, 7, 8], [11, 12, 13, 14]])


@pytest.mark.parametrize("format", PATCHES)
@pytest.mark.parametrize(("family", "dtype"), CASES, ids=str)
def test_the_patched_checkpoint_is_the_merged_one_bit_for_bit_and_the_restored_one_the_base(
    tmp_path, family, dtype, format
) -> None:
    plain = ls.tiny_model(family).to(dtype)
    base = checkpoint(saved(plain, tmp_path / "base"))
    model = type(plain).from_pretrained(tmp_path / "base", dtype=dtype)
    if family == "bert":
        trained(model, dense="classifier", targets=["*attention*", "*LayerNorm*"])
    else:
        trained(model)
    done = ls.export_delta(model, tmp_path / "p.safetensors", format=format)
    kind = torch.bfloat16 if format == "trl" else dtype
    wanted = checkpoint(merged(model, tmp_path / "merged", kind))
    original = cast(base, kind)
    patched = APPLY[format](done.output, base)
    assert same_bits(patched, wanted)
    assert not same_bits(patched, original)
    assert done.restore == tmp_path / "p.restore.safetensors"
    assert same_bits(APPLY[format](done.restore, patched), original)
    assert done.dtype == str(kind).removeprefix("torch.")
    assert done.count == sum(p.numel() for p in ls.trainable(model).values())


@pytest.mark.parametrize("format", PATCHES)
def test_a_patch_also_replaces_another_one_on_the_same_mask(tmp_path, format) -> None:
    """So what the type rounds back to the original value is in it as well."""
    model = trained(ls.tiny_model("opt").to(torch.bfloat16))
    first = ls.export_delta(model, tmp_path / "first.safetensors", format=format)
    move(model, 9)
    second = ls.export_delta(model, tmp_path / "second.safetensors", format=format)
    assert second.rounded_away > 0
    base = checkpoint(saved(ls.tiny_model("opt").to(torch.bfloat16), tmp_path / "base"))
    apply = APPLY[format]
    assert same_bits(apply(second.output, apply(first.output, base)), apply(second.output, base))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_delta_of_a_float32_base_is_exported_for_the_checkpoint_that_a_server_has(
    tmp_path, dtype
) -> None:
    """The base came from a file in the type: each of its numbers is one of the type."""
    plain = ls.tiny_model("llama").to(dtype)
    base = checkpoint(saved(plain, tmp_path / "base"))
    model = trained(type(plain).from_pretrained(tmp_path / "base", dtype=torch.float32))
    name = str(dtype).removeprefix("torch.")
    done = ls.export_delta(model, tmp_path / "p.safetensors", format="vllm", dtype=name)
    assert done.originals_rounded == 0
    patched = APPLY["vllm"](done.output, base)
    assert same_bits(patched, checkpoint(merged(model, tmp_path / "merged", dtype)))
    assert same_bits(APPLY["vllm"](done.restore, patched), base)


def test_what_rounding_does_is_counted_as_typed_by_hand(tmp_path) -> None:
    """From 1 on bfloat16 has steps of 1/128; a half of one goes to the even number, which is 1."""
    step = 1 / 128
    model = ls.tiny_model("llama").to(torch.bfloat16)
    name = "model.norm.weight"
    with torch.no_grad():
        model.model.norm.weight.fill_(1.0)
    total = sum(p.numel() for p in model.parameters())
    mask = ls.Mask({name: torch.tensor([0, 2, 4, 6, 8, 9])}, {name: (32,)}, total, {"kind": "x"})
    ls.attach(model, mask)
    changes = [0.0, step / 2, step / 4, step, 0.625 * step, -step / 8]
    with torch.no_grad():
        ls.trainable(model)[name].copy_(torch.tensor(changes))
    done = ls.export_delta(model, tmp_path / "p.safetensors", format="trl")
    # below 1 the steps are half as wide, so that -step/8 is a quarter of one
    assert (done.count, done.updates, done.rounded_away) == (6, 5, 3)
    assert done.largest_rounding == step / 2
    assert done.originals_rounded == 0
    file = load_file(done.output)
    assert file[f"{name}.values"].tolist() == [1.0, 1.0, 1.0, 1 + step, 1 + step, 1.0]
    assert file[f"{name}.indices"].tolist() == [0, 2, 4, 6, 8, 9]
    assert load_file(done.restore)[f"{name}.values"].tolist() == [1.0] * 6
    assert str(done).splitlines() == [
        f"trl: {done.output} (6 weights, bfloat16)",
        f"restores the original: {tmp_path / 'p.restore.safetensors'}",
        "bfloat16 rounds 3 of 5 updates away; largest rounding 0.00391",
    ]


def test_originals_that_the_type_does_not_hold_are_counted(tmp_path) -> None:
    model = trained(ls.tiny_model("opt"))
    done = ls.export_delta(model, tmp_path / "p.safetensors", format="trl")
    numbers = torch.cat(list(ls.delta(model).origins.values())).tolist()
    # a float32 is a bfloat16 where its last 16 bits are 0
    bits = torch.tensor(numbers).view(torch.int32)
    assert done.originals_rounded == int((bits & 0xFFFF != 0).sum()) > 0
    assert "this is for the base cast to bfloat16" in str(done)


def test_the_texts_beside_trls_tensors_are_those_of_its_receiver(tmp_path) -> None:
    from safetensors import safe_open

    model = ls.tiny_model("opt")
    trained(model, targets="*.q_proj.weight", density=0.5)
    done = ls.export_delta(model, tmp_path / "p.safetensors", format="trl")
    with safe_open(done.output, "pt") as file:
        said = file.metadata()
    total = sum(p.numel() for p in ls.tiny_model("opt").parameters())
    assert said == {
        "format": "sparse_weight_patch", "version": "1", "sparse": "True", "model_version": "1",
        "num_changed_params": "2", "total_changed_elements": str(done.count),
        "total_elements": str(total), "sparsity": str(1 - done.count / total),
        "changed_params": json.dumps(list(ls.trainable(model))),
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_export_is_the_folder_that_the_merged_model_saves(tmp_path, family, dtype) -> None:
    model = trained(ls.tiny_model(family), targets="*attention*" if family == "bert" else "*")
    if model.can_generate():
        model.generation_config.max_new_tokens = 7
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    done = ls.export_delta(model, tmp_path / "out", format="merged", dtype=dtype)
    wanted = merged(model, tmp_path / "merged", dtype)
    assert same_bits(checkpoint(done.output), checkpoint(wanted))
    assert {p.name: p.read_bytes() for p in done.output.glob("*.json")} == {
        p.name: p.read_bytes() for p in wanted.glob("*.json")
    }
    assert done.count == sum(p.numel() for p in ls.trainable(model).values())
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_model_read_from_a_gguf_file_is_exported_merged_as_an_ordinary_one(tmp_path) -> None:
    model = from_gguf()
    done = ls.export_delta(model, tmp_path / "out", format="merged")
    again = type(model).from_pretrained(done.output)
    assert not hasattr(again.config, "quantization_config")
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_a_model_that_holds_a_masked_tensor_itself_is_exported_merged(tmp_path) -> None:
    model = trained(
        HeadFirst(PretrainedConfig(tie_word_embeddings=True)), targets="bias", density=0.9
    )
    done = ls.export_delta(model, tmp_path / "out", format="merged")
    held = checkpoint(done.output)
    assert torch.equal(held["bias"], model.bias.detach())
    assert held.keys() == {"bias", "embed.weight"}


@pytest.mark.parametrize("kind", ["shira", "super-tuning"])
def test_an_adapter_is_exported_as_save_peft_writes_it(tmp_path, kind) -> None:
    model = trained(ls.tiny_model("opt"), targets=["*.q_proj.weight", "*.fc1.weight"])
    done = ls.export_delta(model, tmp_path / "out", format=kind)
    ls.save_peft(model, tmp_path / "peft", kind=kind.replace("-", ""))
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "peft" / name).read_bytes()
    assert (done.rounded_away, done.largest_rounding, done.restore) == (0, 0.0, None)
    assert done.originals_rounded == 0
    assert done.count == done.updates == ls.delta(model).count
    assert "restores" not in str(done)


def test_an_adapter_with_a_head_counts_what_has_moved(tmp_path) -> None:
    model = ls.tiny_model("bert")
    total = sum(p.numel() for p in model.parameters())
    name = "bert.encoder.layer.0.attention.self.query.weight"
    mask = ls.Mask({name: torch.tensor([1, 2, 3])}, {name: (32, 32)}, total, {"kind": "given"})
    ls.attach(model, mask, dense="classifier")
    with torch.no_grad():
        ls.trainable(model)[name].copy_(torch.tensor([0.5, 0.0, 1.0]))
        model.classifier.bias.add_(torch.tensor([0.0, 1.0]))
    done = ls.export_delta(model, tmp_path / "out", format="shira")
    assert (done.count, done.updates) == (3 + 2 * 32 + 2, 3)


def test_a_tokenizer_is_saved_beside_a_merged_model(tmp_path) -> None:
    model = trained(ls.tiny_model("opt"))
    tokenizer = ls.tiny_tokenizer()
    done = ls.export_delta(model, tmp_path / "out", format="merged", tokenizer=tokenizer)
    plain, same = ls.load_model(done.output)
    assert same("a film") == tokenizer("a film")
    with torch.no_grad():
        assert torch.equal(plain(input_ids=IDS).logits, model(input_ids=IDS).logits)
