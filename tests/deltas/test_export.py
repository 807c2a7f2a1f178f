"""Exports: what other software makes of a patch is the merged model, and the restore undoes it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from oracles.patches import APPLY, checkpoint, put, read_vllm, same_bits
from safetensors.torch import save_file

import landscape as ls
from landscape.errors import UserError

FAMILIES = ("opt", "llama", "gpt2", "bert", "vit")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PATCHES = ("vllm", "trl")


def trained(model: torch.nn.Module, density: float = 0.1, dense: str = "", **mask: object):
    """Attach a mask to every kind of tensor, with updates from large to less than bf16 sees."""
    chosen = {"targets": "*", "density": density, "seed": 1} | mask
    ls.attach(model, ls.random_mask(model, **chosen), dense=dense or ())
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for theta in ls.subspace.thetas(model).values():
            sizes = 10 ** torch.empty(theta.shape).uniform_(-6, -1, generator=generator)
            theta.copy_(sizes * torch.randn(theta.shape, generator=generator))
        for p in ls.subspace.dense_parameters(model).values():
            p.add_(torch.randn(p.shape, generator=generator).to(p) / 10)
    return model


def saved(model: torch.nn.Module, folder: Path, **options: object) -> Path:
    model.save_pretrained(folder, **options)
    return folder


def merged(model: torch.nn.Module, folder: Path, dtype: torch.dtype | None = None) -> Path:
    """Save the merged model as everyone saves a plain one."""
    plain = ls.merge(copy.deepcopy(model))
    return saved(plain if dtype is None else plain.to(dtype), folder)


@pytest.mark.parametrize("format", PATCHES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_patched_checkpoint_is_the_merged_one_bit_for_bit_and_the_restored_one_the_base(
    tmp_path, family, dtype, format
) -> None:
    base = checkpoint(saved(ls.tiny_model(family).to(dtype), tmp_path / "base"))
    model = type(ls.tiny_model(family)).from_pretrained(tmp_path / "base", dtype=dtype)
    trained(model, dense="classifier" if family == "bert" else "", targets=(
        "*attention*" if family == "bert" else "*"))  # fmt: skip
    done = ls.export_delta(model, tmp_path / "p.safetensors", format=format)
    kind = torch.bfloat16 if format == "trl" else dtype
    wanted = checkpoint(merged(model, tmp_path / "merged", kind))
    patched = APPLY[format](done.output, base)
    assert same_bits(patched, wanted)
    original = {name: tensor.to(kind) for name, tensor in base.items()}
    assert not same_bits(patched, original)
    assert same_bits(APPLY[format](done.restore, patched), original)
    assert done.restore == tmp_path / "p.restore.safetensors"
    assert done.dtype == str(kind).removeprefix("torch.")
    count = model._attachment.mask.count + sum(model._attachment.dense.values())
    assert done.count == count
