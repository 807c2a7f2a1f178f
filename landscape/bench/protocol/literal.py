"""The papers' protocol as their code does it, kept simple: what `protocol` compares with.

Every candidate is a row of its own, the whole of it goes through the model, and the output head
gives the logits of the whole vocabulary at every position. Training pads the rows of a batch, in
the order in which they come, on the left to the longest, rounded up to a multiple of 8; evaluation
and generation take one row at a time. The keys and values of rows that are not gone on from are not
kept, which is kinder to this side than that code is.

Source: Malladi et al. 2023 (MeZO), whose code Xu & Zhang 2024 take.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from landscape.tasks.encoding import Encoded
from landscape.tasks.padding import pad_id
from landscape.tasks.task import Generation, Loss

MULTIPLE = 8
"""Padded rows are a multiple of it long."""


def loss_sum(
    model: nn.Module, examples: Sequence[Encoded], loss: Loss, pad: int
) -> tuple[Tensor, int]:
    """Return the loss of a batch, summed over its terms, and their number."""
    if loss == "language modelling":
        pairs = [(e.prompt, e.candidates[e.label]) for e in examples]
    else:
        pairs = [(e.prompt, candidate) for e in examples for candidate in e.candidates]
    rows = [prompt + candidate for prompt, candidate in pairs]
    length = -(-max(map(len, rows)) // MULTIPLE) * MULTIPLE
    ids = torch.tensor([[pad] * (length - len(row)) + list(row) for row in rows])
    held = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    logits = model(input_ids=ids, attention_mask=held, use_cache=False).logits
    ahead, labels = logits[:, :-1].contiguous(), ids[:, 1:].clone()
    for i, (_, candidate) in enumerate(pairs):
        labels[i, : -len(candidate)] = -100
    if loss == "language modelling":
        count = int((labels != -100).sum())
        return F.cross_entropy(ahead.view(-1, ahead.shape[-1]), labels.view(-1)) * count, count
    asked = labels != -100
    found = ahead.log_softmax(-1).gather(2, labels.masked_fill(~asked, 0).unsqueeze(2)).squeeze(2)
    scores = (found * asked).sum(1) / asked.sum(1)
    total, start = scores.new_zeros(()), 0
    for e in examples:
        own = scores[start : start + len(e.candidates)].unsqueeze(0)
        total = total + F.cross_entropy(own, torch.tensor([e.label]))
        start += len(e.candidates)
    return total, len(examples)


@torch.no_grad()
def scores(model: nn.Module, example: Encoded) -> list[float]:
    """Return the mean log-probability of each candidate's tokens, from a forward of its own."""
    found = []
    for candidate in example.candidates:
        ids = torch.tensor([[*example.prompt, *candidate]])
        log_probs = model(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1)
        selected = log_probs[torch.arange(ids.shape[1] - 1), ids[0, 1:]]
        found.append(float(selected[-len(candidate) :].mean()))
    return found


@torch.no_grad()
def texts(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase,
    generation: Generation, max_length: int,
) -> list[str]:  # fmt: skip
    """Return the text after each prompt, one prompt at a time, with keys and values kept."""
    ends = [tokenizer.encode(text, add_special_tokens=False)[-1] for text in generation.stop]
    found = []
    for prompt in prompts:
        kept = [prompt[0], *prompt[1:][-(max_length - generation.max_new_tokens - 1) :]]
        ids = torch.tensor([kept])
        row = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=1,
            pad_token_id=pad_id(tokenizer), max_new_tokens=generation.max_new_tokens,
            eos_token_id=[*ends, tokenizer.eos_token_id],
        )  # fmt: skip
        found.append(tokenizer.decode(row[0, len(kept) :], skip_special_tokens=True).strip())
    return found
