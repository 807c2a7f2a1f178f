"""Time generating text with a mask attached, merged, and without one, interleaved."""

from __future__ import annotations

import copy
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import nn
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM

from landscape import seeds
from landscape.bench.interleaved import interleaved, refuse_rounds
from landscape.folders import provenance
from landscape.masks import random_mask
from landscape.subspace import attach, merge, trainable

#: the sizes of SmolLM2-135M, on which a token takes some fifty milliseconds on a CPU
SHAPE = LlamaConfig(
    vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
    num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
)  # fmt: skip
TARGETS = {"q_v": "*.[qv]_proj", "all": "*_proj"}
RATIOS = (1e-3, 1e-2)


def bench_generate(
    *, rounds: int = 5, seed: int = 0, tokens: int = 32, shape: LlamaConfig = SHAPE
) -> dict[str, Any]:
    """Generate greedily from one prompt with an attached, the merged and the plain model, in turn.

    Random weights and token ids. Every model generates the same number of tokens.

    Args:
        rounds: timed rounds after one warm-up, at least 1.
        seed: of weights, mask, theta and prompt.
        tokens: to generate.
        shape: of the model.

    Returns:
        `cells`: layers, ratio, count, median seconds of each model, `attached_over_merged` and
        `plain_over_merged`, a dict each of the median of a round's ratios and their quartiles,
        by the clock (`wall`) and of the CPU (`cpu`); what two equal models differ by,
        `plain_over_merged`, is what the machine's noise leaves; provenance.

    Raises:
        UserError: rounds is below 1.
    """
    refuse_rounds(rounds)
    cases = [(layers, ratio) for ratio in RATIOS for layers in TARGETS]
    cells = [
        _cell(*case, rounds, seed, tokens, shape) for case in tqdm(cases, leave=False, disable=None)
    ]
    return {"rounds": rounds, "tokens": tokens, "cells": cells, "provenance": provenance()}


def _cell(
    layers: str, ratio: float, rounds: int, seed: int, tokens: int, shape: LlamaConfig
) -> dict[str, Any]:
    with seeds.drawing(seed):
        plain: Any = LlamaForCausalLM(shape).eval()
        prompt = torch.randint(4, shape.vocab_size, (1, 8))
    attached = copy.deepcopy(plain)
    mask = random_mask(attached, ratio=ratio, targets=TARGETS[layers], seed=seed)
    attach(attached, mask)
    with torch.no_grad():
        for theta in trainable(attached).values():
            theta.fill_(1e-3)
    models: dict[str, nn.Module] = {
        "attached": attached, "merged": merge(copy.deepcopy(attached)), "plain": plain,
    }  # fmt: skip

    def generate(model: Any) -> None:
        model.generate(
            prompt, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0
        )

    times = interleaved({name: partial(generate, model) for name, model in models.items()}, rounds)
    return {
        "layers": layers, "ratio": ratio, "count": mask.count,
        "seconds": {name: median(seconds) for name, seconds in times.wall.items()},
        "attached_over_merged": times.over("attached", "merged"),
        "plain_over_merged": times.over("plain", "merged"),
    }  # fmt: skip
