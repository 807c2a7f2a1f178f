"""Exports that cannot be: one sentence, and nothing is written."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sentences import row, the_sentence
from to_export import HeadFirst, from_gguf, joined_in_the_file, trained
from torch import nn
from transformers import PretrainedConfig

import landscape as ls
from landscape.deltas import export, outputs
from landscape.deltas.patch import Patch, Weights
from landscape.errors import UserError


def tiny() -> nn.Module:
    return trained(ls.tiny_model("opt"), targets="*.q_proj.weight", density=0.01)


def export_of(model: Callable[[], nn.Module] = tiny, **given: object) -> Callable[[Path], object]:
    def provoke(folder: Path) -> object:
        chosen = {"format": "vllm", **given}
        if "restore" in chosen:
            chosen["restore"] = folder / str(chosen["restore"])
        return ls.export_delta(model(), folder / str(chosen.pop("output", "out")), **chosen)

    return provoke


class Int8(nn.Module):
    """A layer in the manner of bitsandbytes."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = nn.Parameter(linear.weight.detach().to(torch.int8), requires_grad=False)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype) * self.scale)


def quantised() -> nn.Module:
    model = ls.tiny_model("llama")
    model.set_submodule("model.layers.0.mlp.up_proj", Int8(model.model.layers[0].mlp.up_proj))
    return trained(model, targets="*.q_proj")


def filled(value: float, dtype: torch.dtype = torch.float32) -> nn.Module:
    model = tiny().to(dtype)
    with torch.no_grad():
        next(iter(ls.trainable(model).values()))[0] = value
    return model


def broken_base() -> nn.Module:
    model = ls.tiny_model("opt")
    with torch.no_grad():
        model.model.decoder.final_layer_norm.weight[3] = math.inf
    return trained(model, targets="*.final_layer_norm.weight", density=1.0)


def empty() -> nn.Module:
    model = ls.tiny_model("opt")
    name = "model.decoder.layers.0.fc1.weight"
    indices = {name: torch.tensor([], dtype=torch.int64)}
    ls.attach(model, ls.Mask(indices, {name: (64, 32)}, 1, {"kind": "given"}))
    return model


def computed() -> nn.Module:
    """A model whose checkpoints hold other numbers than it does."""
    from transformers.core_model_loading import ConversionOps, WeightConverter

    class Doubled(ConversionOps):
        def convert(self, tensors, source_patterns, target_patterns, **_):
            return {target_patterns[0]: 2 * next(iter(tensors.values()))[0]}

        @property
        def reverse_op(self):
            return self

    model = tiny()
    parts = ["self_attn.q_twice.weight"], ["self_attn.q_proj.weight"]
    model._weight_conversions = [WeightConverter(*parts, operations=[Doubled()])]
    return model


def with_an_adapter() -> nn.Module:
    model = ls.tiny_model("opt")
    model.model.decoder.layers[0].adapter = nn.Linear(2, 2)
    return trained(model, targets="*.q_proj.weight")


def plain_module() -> nn.Module:
    return trained(nn.Sequential(nn.Linear(3, 3)), density=0.9)


def two_types() -> nn.Module:
    model = joined_in_the_file(v=torch.bfloat16)
    return trained(model, targets="*.0.*.[qv]_proj")


def offloaded() -> nn.Module:
    model = tiny()
    model.model.decoder.layers[1].to("meta")
    return model


def unsaved() -> nn.Module:
    model = HeadFirst(PretrainedConfig(tie_word_embeddings=True))
    return trained(model, targets="scale", density=0.5)


BAD = [
    row("unknown format", export_of(format="onnx"), "format", "shira, super-tuning, merged, vllm",
        "'onnx'", "spelling"),
    row("library's word", export_of(format="supertuning"), "super-tuning", "'supertuning'"),
    row("no mask", export_of(lambda: ls.tiny_model("opt")), "a mask attached", "attach"),
    row("empty mask", export_of(empty), "a selected weight", "an empty one"),
    row("quantised", export_of(quantised), "got model.layers.0.mlp.up_proj.weight", "quantised"),
    row("quantised, merged", export_of(quantised, format="merged"), "up_proj.weight, which is"),
    row("a GGUF file's", export_of(from_gguf, format="trl"), "GGUF", "save_pretrained"),
    row("not of transformers", export_of(plain_module), "a model of transformers",
        "got a Sequential", "save_delta"),
    row("not in the checkpoint", export_of(unsaved), "got scale.weight", "leaves out"),
    row("other numbers", export_of(computed), "self_attn.q_proj.weight", "computes"),
    row("two types in one tensor", export_of(two_types), "one floating type", "self_attn.qkv",
        "torch.bfloat16 and torch.float32", "dtype"),
    row("on a disk", export_of(offloaded), "in memory", "layers.1.", "without values"),
    row("an adapter's tensors", export_of(with_an_adapter, format="merged"),
        "tensors of a OPTForCausalLM", "adapter", "remove"),
    row("Conv1D for peft", export_of(lambda: trained(ls.tiny_model("gpt2"), targets="*.c_attn"),
        format="shira"), "Linear layers only", "c_attn.weight"),
    row("NaN", export_of(lambda: filled(math.nan)), "finite trained values",
        "layers.0.self_attn.q_proj.weight", "NaN or infinity"),
    row("beyond float16", export_of(lambda: filled(1e5), dtype=torch.float16),
        "finite trained values", "in float16", "too narrow"),
    row("infinite base", export_of(broken_base), "finite", "final_layer_norm.weight"),
    row("NaN, merged", export_of(lambda: filled(math.nan), format="merged"), "finite trained"),
    row("float16 for trl", export_of(format="trl", dtype=torch.float16), "bfloat16",
        "torch.float16"),
    row("int8", export_of(dtype=torch.int8), "dtype to be one of float32", "torch.int8"),
    row("dtype of another name", export_of(dtype="bf16"), "one of float32", "the text 'bf16'"),
    row("a quarter", export_of(dtype=torch.float8_e4m3fn), "one of float32", "float8_e4m3fn"),
    row("dtype for peft", export_of(format="shira", dtype=torch.float16), "absent, for shira"),
    row("restore of a model", export_of(format="merged", restore="back"), "with a patch",
        "got it with merged", "leave it out"),
    row("one file for both", export_of(restore="out"), "two files", "for both"),
    row("tokenizer of a patch", export_of(tokenizer=ls.tiny_tokenizer()), "tokenizer to be absent"),
    row("no tokenizer", export_of(format="merged", tokenizer=3), "tokenizer", "got 3"),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_an_export_that_cannot_be_is_refused_and_nothing_is_written(bad, tmp_path) -> None:
    said = the_sentence(lambda: bad.provoke(tmp_path))
    for words in bad.words:
        assert words in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("taken", "given", "words"),
    [
        ("out", {}, "out, which is there already"),
        ("back", {"restore": "back"}, "back, which is there already"),
        ("out.restore", {}, r"out\.restore, which is there already"),
        ("out", {"format": "merged"}, "new or empty folder, got .*out"),
        ("out", {"format": "shira"}, "new or empty folder, got .*out"),
    ],
)
@pytest.mark.parametrize("kind", ["file", "folder", "lost link"])
def test_what_is_there_is_not_overwritten(tmp_path, kind, taken, given, words) -> None:
    place = tmp_path / taken
    if kind == "file":
        place.write_text("mine")
    elif kind == "folder":
        (place / "mine").mkdir(parents=True)
    else:
        place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=words):
        export_of(**given)(tmp_path)
    assert os.listdir(tmp_path) == [taken]
    assert kind != "file" or place.read_text() == "mine"


def test_an_empty_folder_is_filled(tmp_path) -> None:
    (tmp_path / "out").mkdir()
    done = export_of(format="merged")(tmp_path)
    assert (done.output / "model.safetensors").stat().st_size > 0
    assert os.listdir(tmp_path) == ["out"]
    assert done.output.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("fails", [1, 2])
def test_where_one_of_two_files_cannot_be_written_neither_is(tmp_path, monkeypatch, fails) -> None:
    calls = []

    def save(tensors: object, path: Path, metadata: object) -> None:
        calls.append(path)
        path.write_bytes(b"half")
        if len(calls) == fails:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "save_file", save)
    with pytest.raises(UserError, match=r"expected to write .* No space left on device; free some"):
        export_of()(tmp_path)
    assert len(calls) == fails
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["trl", "merged"])
def test_folders_on_the_way_to_an_export_are_made(tmp_path, format) -> None:
    done = export_of(format=format, output="a/b/out")(tmp_path)
    assert done.output.exists()
    assert len(os.listdir(tmp_path / "a" / "b")) == (2 if format == "trl" else 1)


def test_a_folder_that_cannot_be_finished_is_not_there(tmp_path) -> None:
    def write(folder: Path) -> None:
        assert folder.parent == tmp_path  # on the same disk, to be moved in one step
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outputs.write_folder(tmp_path / "out", write)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["vllm", "trl"])
def test_an_index_beyond_int32_is_refused_by_the_name_of_its_tensor(format) -> None:
    one = torch.ones(1)
    for index, fits in ((2**31 - 1, True), (2**31, False)):
        weights = Weights((2**20, 2**12), torch.tensor([index]), one, one)
        patch = Patch({"model.embed_tokens.weight": weights}, 2**32)
        if fits:
            export._writer(patch, format, 1)
            continue
        with pytest.raises(UserError, match=r"2\^31.* got 2147483648 in model\.embed_tokens"):
            export._writer(patch, format, 1)
