"""Slow scoring, kept simple: one forward a candidate, no padding, all positions, all logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from landscape.tasks import Example


def token_log_probs(model: Any, tokenizer: Any, example: Example, j: int) -> list[float]:
    """Return log p of each token of candidate j after the prompt, from a forward of its own."""
    prompt = tokenizer(example.prompt)["input_ids"]
    whole = tokenizer(example.prompt + example.candidates[j])["input_ids"]
    assert whole[: len(prompt)] == prompt
    if model.config.is_encoder_decoder:
        return decoder_log_probs(model, prompt, whole[len(prompt) :])
    with torch.no_grad():
        log_probs = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    return [float(log_probs[i - 1, whole[i]]) for i in range(len(prompt), len(whole))]


def decoder_log_probs(model: Any, prompt: list[int], candidate: list[int]) -> list[float]:
    """Return log p of each token of a candidate by a decoder that sees the ended prompt.

    The model's own call with ``labels`` shifts them to the right by itself.
    """
    encoder = torch.tensor([[*prompt, model.config.eos_token_id]])
    with torch.no_grad():
        logits = model(input_ids=encoder, labels=torch.tensor([candidate])).logits[0]
    log_probs = logits.log_softmax(-1)
    return [float(log_probs[i, token]) for i, token in enumerate(candidate)]


def scores(model: Any, tokenizer: Any, example: Example) -> list[float]:
    """Return the mean log-probability of each candidate."""
    each = [token_log_probs(model, tokenizer, example, j) for j in range(len(example.candidates))]
    return [sum(values) / len(values) for values in each]


def loss_terms(model: Any, tokenizer: Any, example: Example, loss: str) -> list[float]:
    """Return the terms of an example's loss: one for classification, else one a token."""
    if loss == "language modelling":
        return [-x for x in token_log_probs(model, tokenizer, example, example.label)]
    values = scores(model, tokenizer, example)
    normaliser = math.log(sum(math.exp(v) for v in values))
    return [normaliser - values[example.label]]


def judge(
    model: Any, tokenizer: Any, examples: Sequence[Example], loss: str
) -> tuple[float, float]:
    """Return accuracy and mean loss, one example at a time."""
    right, terms = 0, []
    for example in examples:
        values = scores(model, tokenizer, example)
        right += values.index(max(values)) == example.label
        terms += loss_terms(model, tokenizer, example, loss)
    return right / len(examples), sum(terms) / len(terms)
