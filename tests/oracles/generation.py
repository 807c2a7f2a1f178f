"""Slow generation, kept simple: one row at a time, a whole forward for each token, all logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def greedy(
    model: Any, tokenizer: Any, prompt: Sequence[int], new: int, ends: set[int]
) -> list[int]:
    """Return the most probable tokens after a prompt, one by one, up to a token that ends it.

    Args:
        model: causal, or an encoder-decoder, whose encoder sees the prompt and its end token.
        tokenizer: of the model.
        prompt: its tokens.
        new: most tokens.
        ends: tokens of which none is returned.
    """
    tokens: list[int] = []
    while len(tokens) < new:
        with torch.no_grad():
            if model.config.is_encoder_decoder:
                start = model.config.decoder_start_token_id
                logits = model(
                    input_ids=torch.tensor([[*prompt, model.config.eos_token_id]]),
                    decoder_input_ids=torch.tensor([[start, *tokens]]),
                ).logits
            else:
                logits = model(input_ids=torch.tensor([[*prompt, *tokens]])).logits
        token = int(logits[0, -1].argmax())
        if token in ends:
            break
        tokens.append(token)
    return tokens


def text(
    model: Any, tokenizer: Any, prompt: Sequence[int], new: int, stop: str | None = "\n"
) -> str:
    """Return the decoded text after a prompt, before a text to stop at."""
    tokens = greedy(model, tokenizer, prompt, new, {tokenizer.eos_token_id})
    found = tokenizer.decode(tokens, skip_special_tokens=True)
    return (found.split(stop)[0] if stop else found).strip()
