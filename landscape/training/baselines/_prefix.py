"""Prefix tuning: trainable keys and values stand before every text, held by peft."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from landscape.errors import UserError
from landscape.training.baselines.wrapping import peft_package, wrapped


def prefix(model: PreTrainedModel, *, tokens: Tensor) -> nn.Module:
    """Put trainable keys and values before every text.

    They start as the model's own keys and values of real words, so that before training the
    model answers as if the words stood before the text.

    Args:
        model: a causal language model.
        tokens: the words as token ids, shape (length,); the paper's length is 5.

    Returns:
        peft's model around it; its one trainable parameter has one row a token.

    Raises:
        UserError: peft is missing, or tokens that are no row of ids.

    Source: Li & Liang 2021.
    """
    peft = peft_package()
    if tokens.dim() != 1 or not tokens.numel():
        raise UserError(
            f"expected tokens to be one row of ids, got shape {tuple(tokens.shape)}; give the ids "
            "of a few words, as a tensor of shape (length,)"
        )
    device = next(model.parameters()).device
    with torch.no_grad():
        cache = model(input_ids=tokens[None].to(device), use_cache=True).past_key_values
    parts = [(layer.keys[0], layer.values[0]) for layer in cache.layers]
    # peft reads (length, layer, key or value, head, number) from one row a token
    flat = torch.stack([torch.stack(pair) for pair in parts]).permute(3, 0, 1, 2, 4)
    heads, _, size = parts[0][0].shape
    config = peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=tokens.numel(), num_layers=len(parts),
        num_attention_heads=heads, token_dim=heads * size,
    )  # fmt: skip
    made = wrapped(model, config, 0)
    (weight,) = (p for p in made.parameters() if p.requires_grad)
    with torch.no_grad():
        weight.copy_(flat.reshape(tokens.numel(), -1))
    return made
