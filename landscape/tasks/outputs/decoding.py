"""Reading rows once, with their keys and values kept, and greedy decoding after them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from transformers.cache_utils import DynamicCache, DynamicLayer

from landscape.models.kinds import without_wrappers
from landscape.tasks.outputs.forward import last_logits, token_log_probs, wide
from landscape.tasks.padding import padded

DONE = 0.25
"""Share of rows that are done at which the others' keys and values are copied without them."""


@dataclass(frozen=True)
class Reading:
    """Hold what a causal language model has read: b rows of tokens, padded on the left.

    Args:
        model: that has read them.
        cache: keys and values of all tokens.
        mask: which of them are text.
        logits: at the last positions of each row, the token after it being predicted by the last.
    """

    model: nn.Module
    cache: DynamicCache
    mask: Int[Tensor, "b t"]
    logits: Float[Tensor, "b last vocabulary"]


def keeps_all(model: nn.Module) -> bool:
    """Tell whether a model's forward and configuration speak of a cache of all tokens."""
    base: Any = without_wrappers(model)
    accepted = inspect.signature(base.forward).parameters
    needed = {"logits_to_keep", "past_key_values", "position_ids", "use_cache"}
    replicas = isinstance(model, (DataParallel, DistributedDataParallel))
    if not needed <= accepted.keys() or replicas or base.config.is_encoder_decoder:
        return False
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=base.config).layers)


@torch.no_grad()
def read(model: nn.Module, rows: Sequence[Sequence[int]], pad: int, last: int = 1) -> Reading:
    """Read rows of tokens once, for what follows them.

    Args:
        model: a causal language model that keeps all keys and values (`keeps_all`).
        rows: b of at least one token.
        pad: token that fills up rows.
        last: positions whose logits are wanted.
    """
    device = next(model.parameters()).device
    batch = {name: x.to(device) for name, x in padded(rows, pad).items()}
    cache = DynamicCache(config=without_wrappers(model).config)
    logits = last_logits(model, batch, last, cache)
    return Reading(model, cache, batch["attention_mask"], logits)


@torch.no_grad()
def log_probs_after(
    reading: Reading, answers: Sequence[Sequence[int]], pad: int
) -> Float[Tensor, " b"]:
    """Return the summed log-probability of each prompt's answer; the reading stays as it was.

    Args:
        reading: of b prompts.
        answers: b rows of at least one token.
        pad: token that fills up rows.
    """
    device = reading.mask.device
    asked = {name: x.to(device) for name, x in padded(answers, pad, left=False).items()}
    targets, there = asked["input_ids"], asked["attention_mask"]
    log_probs = wide(reading.logits[:, -1]).log_softmax(-1)
    totals = log_probs.gather(1, targets[:, :1]).squeeze(1)
    longest = targets.shape[1]
    if longest == 1:
        return totals
    # an answer's last token predicts nothing, and what is beyond it is not counted
    batch = {
        "input_ids": targets[:, :-1],
        "attention_mask": torch.cat([reading.mask, there[:, :-1]], 1),
    }
    logits = last_logits(reading.model, batch, longest - 1, reading.cache)
    reading.cache.crop(1 - longest)
    return totals + token_log_probs(logits, targets[:, 1:], there[:, 1:].bool()).sum(1)


@torch.no_grad()
def decode(
    reading: Reading, most: int, done: Callable[[list[list[int]]], list[bool]]
) -> list[list[int]]:
    """Return the most probable tokens after each prompt, one after the other; this ends a reading.

    Args:
        reading: of b prompts.
        most: tokens a row, at least 1.
        done: tokens of rows so far -> which of them are done, their last token being the last.

    Cost: a forward of the rows that are not done for each token of the longest row.
    """
    rows: list[list[int]] = [[] for _ in reading.mask]
    cache, mask, logits = reading.cache, reading.mask, reading.logits[:, -1]
    there = list(range(len(rows)))
    over = [False] * len(rows)
    for count in range(1, most + 1):
        tokens = logits.argmax(-1)
        for place, token in zip(there, tokens.tolist(), strict=True):
            if not over[place]:
                rows[place].append(token)
        going = [place for place in there if not over[place]]
        for place, ended in zip(going, done([rows[place] for place in going]), strict=True):
            over[place] = ended
        left = [i for i, place in enumerate(there) if not over[place]]
        if not left or count == most:
            break
        if len(there) - len(left) >= DONE * len(there):
            kept = torch.tensor(left, device=mask.device)
            cache.batch_select_indices(kept)
            mask, tokens = mask[kept], tokens[kept]
            there = [there[i] for i in left]
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        batch = {"input_ids": tokens.unsqueeze(1), "attention_mask": mask}
        logits = last_logits(reading.model, batch, 1, cache)[:, -1]
    return rows
