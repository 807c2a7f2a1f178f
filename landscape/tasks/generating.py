"""Greedy generation after prompts of several lengths, in one batch that keeps keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedTokenizerBase
from transformers.generation import StoppingCriteria, StoppingCriteriaList

from landscape.errors import UserError
from landscape.models.kinds import kind, without_wrappers
from landscape.tasks.encoder_decoder import decoder_start, encoder_rows
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

    Nothing but the arguments counts: not what the model's own generation settings ask for, such as
    samples or penalties. Prompts in one batch and one by one have the same texts but for rounding.

    Args:
        model: language model of transformers, causal or an encoder-decoder, masked or not, bare or
            wrapped (DDP, compiled, peft).
        prompts: b rows of at least one token; one too long for ``max_length`` less the new tokens
            loses tokens on the left, its first excepted.
        tokenizer: of the model.
        generation: how many tokens, and what to stop at.
        max_length: most tokens of prompt and text together; of the prompt alone where an encoder
            reads it.

    Returns:
        The b texts, up to the first text to stop at, without special tokens and outer spaces.

    Raises:
        UserError: no room for a token of a prompt beside the new ones, or a model that cannot
            generate.

    Cost: one forward of the padded prompts, then one of b tokens for each new token of the longest
    text, with keys and values kept. Prompts of about one length waste least.
    """
    encodes = kind(model) == "encoder-decoder language model"
    if not encodes and kind(model) != "causal language model":
        raise UserError(
            f"expected a language model, which generates text, got "
            f"{type(without_wrappers(model)).__name__}; load one without num_labels"
        )
    room = max_length if encodes else max_length - generation.max_new_tokens
    if room < 1:
        raise UserError(
            f"expected room for a prompt beside {generation.max_new_tokens} new tokens, got a "
            f"max_length of {max_length}; generate fewer, or raise max_length"
        )
    device = next(model.parameters()).device
    kept = [p if len(p) <= room else [p[0], *p[len(p) - room + 1 :]] for p in prompts]
    batch = {name: x.to(device) for name, x in padded(kept, pad_id(tokenizer)).items()}
    batch = encoder_rows(model, batch) if encodes else batch
    begun = 1 if encodes else batch["input_ids"].shape[1]
    ends = _end_tokens(tokenizer, generation)
    settings = GenerationConfig(
        max_new_tokens=generation.max_new_tokens, do_sample=False, num_beams=1, use_cache=True,
        pad_token_id=pad_id(tokenizer), eos_token_id=ends or None,
        decoder_start_token_id=decoder_start(model) if encodes else None,
    )  # fmt: skip
    stops = [_Stops(tokenizer, generation.stop, begun)] if generation.stop_by == "text" else []
    with _instead_of_its_own(without_wrappers(model), settings):
        rows = _generator(model).generate(**batch, stopping_criteria=StoppingCriteriaList(stops))
    written = [_before(row, ends) for row in rows[:, begun:].tolist()]
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    if generation.stop_by == "text":
        texts = [_before_text(text, generation.stop) for text in texts]
    return [text.strip() for text in texts]


class _Stops(StoppingCriteria):
    """Stop a row where its last tokens hold a text to stop at.

    Only those are looked at, one for each byte of the longest of these texts. A text that they hide
    costs time: it is cut off afterwards.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str], begun: int) -> None:
        self.tokenizer, self.stop, self.begun = tokenizer, stop, begun
        self.width = max((len(text.encode()) for text in stop), default=0)

    def __call__(
        self, input_ids: Int[Tensor, "b t"], scores: object, **kwargs: object
    ) -> Bool[Tensor, " b"]:
        new = min(self.width, input_ids.shape[1] - self.begun)
        texts = self.tokenizer.batch_decode(input_ids[:, input_ids.shape[1] - new :])
        found = [any(stop in text for stop in self.stop) for text in texts]
        return torch.tensor(found, device=input_ids.device)


def _end_tokens(tokenizer: PreTrainedTokenizerBase, generation: Generation) -> list[int]:
    ends = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    if generation.stop_by == "token":
        ends += [tokenizer.encode(text, add_special_tokens=False)[-1] for text in generation.stop]
    return ends


@contextmanager
def _instead_of_its_own(base: Any, settings: GenerationConfig) -> Iterator[None]:
    """Give a model other generation settings meanwhile: `generate` fills gaps from its own."""
    own = base.generation_config
    base.generation_config = settings
    try:
        yield
    finally:
        base.generation_config = own


def _generator(model: nn.Module) -> Any:
    """Return what generates as a model's forward predicts: peft's wrapper if it adds a prefix."""
    for module in model.modules():
        if getattr(getattr(module, "active_peft_config", None), "is_prompt_learning", False):
            return module
    return without_wrappers(model)


def _before(row: list[int], ends: Sequence[int]) -> list[int]:
    return row[: min((row.index(end) for end in ends if end in row), default=len(row))]


def _before_text(text: str, stop: Sequence[str]) -> str:
    return text[: min((text.index(one) for one in stop if one in text), default=len(text))]
