"""Greedy generation after prompts of several lengths, in one batch that keeps keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape.errors import UserError
from landscape.models.kinds import without_wrappers
from landscape.tasks.padding import pad_id, padded
from landscape.tasks.task import Generation


@torch.no_grad()
def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    tokenizer: PreTrainedTokenizerBase,
    generation: Generation,
    *,
    max_length: int,
) -> list[str]:
    """Generate a text after each prompt, the most probable token at a time.

    Args:
        model: language model of transformers, masked or not.
        prompts: b rows of tokens; one too long for ``max_length`` less the new tokens loses tokens
            on the left, its first excepted.
        tokenizer: of the model.
        generation: how many tokens, and what to stop at.
        max_length: most tokens of prompt and text together.

    Returns:
        The b texts, up to the first text to stop at, without special tokens and outer spaces.

    Raises:
        UserError: no room for a token of a prompt beside the new ones, or a model that cannot
            generate.
    """
    room = max_length - generation.max_new_tokens
    if room < 1:
        raise UserError(
            f"expected room for a prompt beside {generation.max_new_tokens} new tokens, got a "
            f"max_length of {max_length}; generate fewer, or raise max_length"
        )
    base: Any = without_wrappers(model)
    if not getattr(base, "can_generate", bool)():
        raise UserError(
            f"expected a language model, which generates text, got {type(base).__name__}; load one "
            "without num_labels"
        )
    kept = [p if len(p) <= room else [p[0], *p[len(p) - room + 1 :]] for p in prompts]
    device = next(model.parameters()).device
    batch = {name: x.to(device) for name, x in padded(kept, pad_id(tokenizer)).items()}
    rows = base.generate(
        **batch, max_new_tokens=generation.max_new_tokens, do_sample=False, num_beams=1,
        pad_token_id=pad_id(tokenizer), eos_token_id=tokenizer.eos_token_id,
        stop_strings=list(generation.stop) or None, tokenizer=tokenizer,
    )  # fmt: skip
    texts = tokenizer.batch_decode(rows[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return [_until(text, generation.stop).strip() for text in texts]


def _until(text: str, stop: Sequence[str]) -> str:
    return text[: min((text.index(one) for one in stop if one in text), default=len(text))]
