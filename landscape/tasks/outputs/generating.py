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
from landscape.tasks.encoding import truncated
from landscape.tasks.outputs.decoding import Reading, decode, keeps_all, read
from landscape.tasks.outputs.encoder_decoder import decoder_start, encoder_rows
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

    Cost: one forward of the padded prompts, then one for each new token of the longest text, of a
    token for each row that is not done. Prompts of about one length waste least. Models that do
    not keep the keys and values of all tokens generate by transformers' own loop.
    """
    room = prompt_room(model, generation, max_length)
    kept = [truncated(prompt, room) for prompt in prompts]
    if reads_once(model):
        reading = read(without_wrappers(model), kept, pad_id(tokenizer))
        return texts_after(reading, tokenizer, generation)
    encodes = kind(model) == "encoder-decoder language model"
    device = next(model.parameters()).device
    batch = {name: x.to(device) for name, x in padded(kept, pad_id(tokenizer)).items()}
    batch = encoder_rows(model, batch) if encodes else batch
    begun = 1 if encodes else batch["input_ids"].shape[1]
    ends = _end_tokens(tokenizer, generation)
    settings = GenerationConfig(
        max_new_tokens=generation.max_new_tokens, do_sample=False, num_beams=1, use_cache=True,
        pad_token_id=pad_id(tokenizer), eos_token_id=ends or None,
        decoder_start_token_id=decoder_start(model) if encodes else None,
    )  # fmt: skip
    stops = [_Stops(_Ended(tokenizer, generation), begun)]
    with _instead_of_its_own(without_wrappers(model), settings):
        rows = _generator(model).generate(**batch, stopping_criteria=StoppingCriteriaList(stops))
    return _texts(rows[:, begun:].tolist(), tokenizer, generation)


def prompt_room(model: nn.Module, generation: Generation, max_length: int) -> int:
    """Return the most tokens of a prompt that is generated after.

    Raises:
        UserError: as `generate`.
    """
    if kind(model) == "encoder-decoder language model":
        return max_length
    if kind(model) != "causal language model":
        raise UserError(
            f"expected a language model, which generates text, got "
            f"{type(without_wrappers(model)).__name__}; load one without num_labels"
        )
    room = max_length - generation.max_new_tokens
    if room < 1:
        raise UserError(
            f"expected room for a prompt beside {generation.max_new_tokens} new tokens, got a "
            f"max_length of {max_length}; generate fewer, or raise max_length"
        )
    return room


def reads_once(model: nn.Module) -> bool:
    """Tell whether a model's prompts can be read once, for a loss and for a text after them."""
    base = without_wrappers(model)
    return keeps_all(base) and _generator(model) is base


def texts_after(
    reading: Reading, tokenizer: PreTrainedTokenizerBase, generation: Generation
) -> list[str]:
    """Return what `generate` does, of prompts that a model has read; this ends the reading."""
    ended = _Ended(tokenizer, generation)
    return _texts(decode(reading, generation.max_new_tokens, ended), tokenizer, generation)


class _Ended:
    """Tell which rows end with a token or a text to stop at.

    Of the text only the last tokens are looked at, one for each byte of the longest text to stop
    at. One that they hide costs time: it is cut off afterwards.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, generation: Generation) -> None:
        self.tokenizer = tokenizer
        self.ends = _end_tokens(tokenizer, generation)
        self.stop = generation.stop if generation.stop_by == "text" else ()
        self.width = max((len(text.encode()) for text in self.stop), default=0)

    def __call__(self, rows: Sequence[Sequence[int]]) -> list[bool]:
        ended = [row[-1] in self.ends for row in rows]
        if self.stop:
            texts = self.tokenizer.batch_decode([row[-self.width :] for row in rows])
            found = [any(stop in text for stop in self.stop) for text in texts]
            ended = [one or other for one, other in zip(ended, found, strict=True)]
        return ended


class _Stops(StoppingCriteria):
    """Ask of the rows of transformers' own generation, whose new tokens begin somewhere."""

    def __init__(self, ended: _Ended, begun: int) -> None:
        self.ended, self.begun = ended, begun

    def __call__(
        self, input_ids: Int[Tensor, "b t"], scores: object, **kwargs: object
    ) -> Bool[Tensor, " b"]:
        found = self.ended(input_ids[:, self.begun :].tolist())
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


def _texts(
    rows: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase, generation: Generation
) -> list[str]:
    """Return the texts of rows up to where they end, without special tokens and outer spaces."""
    ends = _end_tokens(tokenizer, generation)
    kept = [
        row[: min((row.index(end) for end in ends if end in row), default=len(row))] for row in rows
    ]
    texts = tokenizer.batch_decode(kept, skip_special_tokens=True)
    if generation.stop_by == "text":
        texts = [_before(text, generation.stop) for text in texts]
    return [text.strip() for text in texts]


def _before(text: str, stop: Sequence[str]) -> str:
    return text[: min((text.index(one) for one in stop if one in text), default=len(text))]
