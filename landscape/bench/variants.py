"""What a training step of the benchmarks trains: a mask, peft's methods, everything, nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import OPTConfig, OPTForCausalLM

from landscape.masks import random_mask
from landscape.models.tensors import num_parameters
from landscape.subspace import attach
from landscape.training.baselines.wrapping import wrapped

BATCH, TOKENS, RATIO = 8, 64, 1e-3
#: which linear layers are trained
TARGETS = {
    "q_v": ["q_proj", "v_proj"],
    "all": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
}


@dataclass(frozen=True)
class Variant:
    """Name what a step trains.

    Args:
        method: "masked", peft's "lora" (r = 8) or "shira", "full" fine-tuning, or "floor", the
            frozen model whose backward still carries gradients through every layer.
        head: the output head runs on every position ("full"), as in a plain forward, or on the
            scored (last) position only ("scored"), as this toolkit's tasks do.
        layers: key of `TARGETS`.
        ratio: of a mask.
    """

    method: str
    head: str = "full"
    layers: str = "q_v"
    ratio: float = RATIO


VARIANTS = {
    "masked": Variant("masked", "scored"),
    "masked_full_head": Variant("masked"),
    "masked_all": Variant("masked", layers="all"),
    "floor": Variant("floor"),
    "lora": Variant("lora"),
    "lora_scored_head": Variant("lora", "scored"),
    "lora_all": Variant("lora", layers="all"),
    "shira": Variant("shira"),
    "full": Variant("full"),
}


@dataclass(frozen=True)
class Shape:
    """Hold the sizes of the model and of a step's batch; the defaults are OPT-125m's.

    Args:
        batch, tokens: rows of a batch and their length.
        config: arguments of `OPTConfig`.
    """

    batch: int = BATCH
    tokens: int = TOKENS
    config: tuple[tuple[str, int], ...] = ()


OPT_125M = Shape()


def build(variant: Variant, seed: int, shape: Shape) -> Callable[[], None]:
    """Build a variant; the function that comes back does one whole training step."""
    torch.manual_seed(seed)
    model: Any = OPTForCausalLM(OPTConfig(**dict(shape.config))).eval()
    tokens = torch.randint(4, model.config.vocab_size, (shape.batch, shape.tokens))
    model, parameters = _METHODS[variant.method](model, variant)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4) if parameters else None

    def step() -> None:
        if optimizer:
            optimizer.zero_grad(set_to_none=True)
        _loss(model, tokens, variant.head).backward()
        if optimizer:
            optimizer.step()

    return step


def _loss(model: Any, tokens: Tensor, head: str) -> Tensor:
    """Predict the last token: same loss either way, with all logits or the scored ones."""
    if head == "full":
        labels = torch.full_like(tokens, -100)
        labels[:, -1] = tokens[:, -1]
        loss: Tensor = model(input_ids=tokens, labels=labels, use_cache=False).loss
        return loss
    logits = model(input_ids=tokens, logits_to_keep=2, use_cache=False).logits[:, 0]
    return nn.functional.cross_entropy(logits.float(), tokens[:, -1])


def _masked(model: nn.Module, variant: Variant) -> tuple[Any, list[Tensor]]:
    targets = [f"*.{name}" for name in TARGETS[variant.layers]]
    attach(model, random_mask(model, ratio=variant.ratio, targets=targets, seed=0))
    return model, [p for p in model.parameters() if p.requires_grad]


def _floor(model: nn.Module, variant: Variant) -> tuple[Any, list[Tensor]]:
    """Freeze everything; the backward still carries gradients through every layer."""
    model.requires_grad_(False)
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    embedding.register_forward_hook(lambda _m, _i, out: out.requires_grad_(True))
    return model, []


def _peft(model: Any, variant: Variant) -> tuple[Any, list[Tensor]]:
    import peft

    targets = TARGETS[variant.layers]
    if variant.method == "lora":
        config: Any = peft.LoraConfig(r=8, lora_alpha=16, target_modules=targets)
    else:
        # SHiRA takes a rank r and trains r (in + out) entries a layer: the nearest to our count
        per_layer = variant.ratio * num_parameters(model) / (2 * model.config.num_hidden_layers)
        rank = max(1, round(per_layer / (2 * model.config.hidden_size)))
        config = peft.ShiraConfig(r=rank, target_modules=targets, random_seed=0)
    made = wrapped(model, config, seed=0).eval()
    return made, [p for p in made.parameters() if p.requires_grad]


def _full(model: nn.Module, variant: Variant) -> tuple[Any, list[Tensor]]:
    return model, list(model.parameters())


_METHODS: dict[str, Callable[[Any, Variant], tuple[Any, list[Tensor]]]] = {
    "masked": _masked,
    "floor": _floor,
    "lora": _peft,
    "shira": _peft,
    "full": _full,
}
