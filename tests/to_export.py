"""Models to export: trained masks of every kind, and what everyone saves of them merged."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import ClassVar

import torch
from transformers import PretrainedConfig, PreTrainedModel

import landscape as ls


def trained(model: torch.nn.Module, density: float = 0.1, dense: str = "", **mask: object):
    """Attach a mask to every kind of tensor, with updates from large to less than bf16 sees."""
    chosen = {"targets": "*", "density": density, "seed": 1} | mask
    ls.attach(model, ls.random_mask(model, **chosen), dense=dense or ())
    move(model, 3)
    return model


def move(model: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for theta in ls.subspace.thetas(model).values():
            sizes = 10 ** torch.empty(theta.shape).uniform_(-6, -1, generator=generator)
            theta.copy_(sizes * torch.randn(theta.shape, generator=generator))
        for p in ls.subspace.dense_parameters(model).values():
            p.add_(torch.randn(p.shape, generator=generator).to(p) / 10)


def saved(model: torch.nn.Module, folder: Path, **options: object) -> Path:
    model.save_pretrained(folder, **options)
    return folder


def merged(model: torch.nn.Module, folder: Path, dtype: torch.dtype | None = None) -> Path:
    """Save the merged model as everyone saves a plain one."""
    plain = ls.merge(copy.deepcopy(model))
    return saved(plain if dtype is None else plain.to(dtype), folder)


class HeadFirst(PreTrainedModel):
    """A model that lists a tied tensor first under the name that its checkpoint leaves out."""

    config_class = PretrainedConfig
    _tied_weights_keys: ClassVar = {"head.weight": "embed.weight"}
    _keys_to_ignore_on_save = ("scale.weight",)

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.head = torch.nn.Linear(4, 6, bias=False)
        self.embed = torch.nn.Embedding(6, 4)
        self.scale = torch.nn.Linear(4, 4, bias=False)
        self.bias = torch.nn.Parameter(torch.zeros(6))
        self.post_init()


def joined_in_the_file(**kinds: torch.dtype) -> torch.nn.Module:
    """A Llama whose checkpoint has q, k and v as one tensor, which transformers splits."""
    from transformers.core_model_loading import Chunk, WeightConverter

    model = ls.tiny_model("llama", num_key_value_heads=4)
    for part, dtype in kinds.items():
        model.get_submodule(f"model.layers.0.self_attn.{part}_proj").to(dtype)
    parts = [f"self_attn.{part}_proj.weight" for part in "qkv"]
    model._weight_conversions = [
        WeightConverter("self_attn.qkv.weight", parts, operations=[Chunk(dim=0)])
    ]
    return model


def from_gguf() -> torch.nn.Module:
    """A model that transformers read from a GGUF file: plain weights, flagged as quantised."""
    from transformers import GgufConfig

    model = trained(ls.tiny_model("opt"), targets="*.q_proj.weight")
    model.config.quantization_config = GgufConfig()
    return model
