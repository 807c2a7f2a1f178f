"""A language model that writes what it is told, whatever it reads: its next token by position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

import landscape as ls


def scripted_model(script: Mapping[int, int], **overrides: Any) -> Any:
    """Build a GPT-2 that puts token ``script[p]`` at position p, counted from 0 without padding.

    Its blocks add nothing, its token embeddings are zero, and its head's row of a token is the sum
    of the normalised embeddings of the positions before which the token stands.
    """
    model: Any = ls.tiny_model("gpt2", tie_word_embeddings=False, **overrides).double()
    with torch.no_grad():
        model.transformer.wte.weight.zero_()
        for block in model.transformer.h:
            block.attn.c_proj.weight.zero_()
            block.mlp.c_proj.weight.zero_()
        places = model.transformer.wpe.weight
        places.copy_(torch.linalg.qr(torch.randn(32, 32, dtype=places.dtype))[0].repeat(16, 1))
        model.lm_head.weight.zero_()
        for position, token in script.items():
            model.lm_head.weight[token] += model.transformer.ln_f(places[position - 1])
    return model


def writes(tokenizer: Any, text: str, *, after: int, then: int | None = None) -> dict[int, int]:
    """Return the script of a text behind ``after`` tokens, and of a token that follows it."""
    tokens = tokenizer.encode(text, add_special_tokens=False)
    tokens = tokens if then is None else [*tokens, then]
    return {after + i: token for i, token in enumerate(tokens)}
