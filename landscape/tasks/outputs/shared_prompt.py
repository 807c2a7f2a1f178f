"""Scores of candidates of several tokens, without gradients, that compute each prompt once.

An example's trunk is its prompt and the tokens that all its candidates begin with; a branch is what
a candidate adds. The keys and values of the trunks are kept, and the branches look at them: of b
examples with c candidates of s tokens after prompts of t, b (t + c s) tokens go through the model
instead of b c (t + s). The candidates' first own tokens are predicted by the trunk already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer

from landscape.tasks.encoding import Encoded
from landscape.tasks.outputs.decoding import keeps_all, read
from landscape.tasks.outputs.forward import last_logits, token_log_probs, wide
from landscape.tasks.padding import padded

_Encoded = TypeVar("_Encoded", bound=Encoded)

TOKENS = 4096
"""Most tokens of the trunks of a forward, which bounds the keys and values that are kept."""

CONTEXT = 4 * TOKENS
"""Most keys that the branches of a forward look at, which bounds a layer's copy of them."""


@torch.no_grad()
def shared_log_probs(
    model: nn.Module, encoded: Sequence[Encoded], pad: int
) -> tuple[Float[Tensor, "b c"], Int[Tensor, "b c"]] | None:
    """Return the summed log-probabilities of candidates' tokens, and how many there are.

    Args:
        model: causal language model, masked, compiled or not.
        encoded: b examples, best of similar lengths: trunks are padded to the longest.
        pad: token that fills up rows.

    Returns:
        What ``candidate_log_probs`` of `landscape.tasks.outputs.scoring` does of their batch, or
        None for a model that does not keep all keys and values, such as one with a sliding window,
        a recurrent state, a learned prefix or an encoder, or that runs in several replicas.

    Cost: keys and values of at most `TOKENS` tokens, or of one trunk, are held at once.
    """
    if not keeps_all(model):
        return None
    device = next(model.parameters()).device
    width = max(len(e.candidates) for e in encoded)
    totals = []
    for part in parts(encoded, lambda _: 1, TOKENS):
        trunks = _trunks(model, part, width, pad)
        if trunks is None:
            return None
        totals.append(trunks.totals)
        _add_branches(model, part, trunks, pad)
    counts = torch.zeros(len(encoded), width, dtype=torch.long, device=device)
    for i, e in enumerate(encoded):
        counts[i, : len(e.candidates)] = torch.tensor([len(c) for c in e.candidates])
    return torch.cat(totals).masked_fill(counts == 0, -torch.inf), counts


def parts(
    encoded: Sequence[_Encoded], rows: Callable[[_Encoded], int], most: int
) -> Iterator[Sequence[_Encoded]]:
    """Cut examples into runs, of one at least, whose padded rows have at most so many tokens.

    >>> examples = [Encoded((1, 2, 3), ((4,), (5,)), 0)] * 5
    >>> [len(part) for part in parts(examples, lambda e: len(e.candidates), 16)]
    [2, 2, 1]
    """
    first, longest, count = 0, 0, 0
    for i, e in enumerate(encoded):
        longest, count = max(longest, e.length), count + rows(e)
        if i > first and count * longest > most:
            yield encoded[first:i]
            first, longest, count = i, e.length, rows(e)
    yield encoded[first:]


def _in_common(encoded: Encoded) -> int:
    """Return how many tokens all candidates begin with; each keeps one of its own."""
    shortest, *_ = candidates = sorted(encoded.candidates, key=len)
    for i, token in enumerate(shortest):
        if any(candidate[i] != token for candidate in candidates):
            return i
    return len(shortest) - 1


@dataclass(frozen=True)
class _Trunks:
    """Hold what trunks leave for their branches: keys and values, which of them are text, sums."""

    cache: Cache
    mask: Int[Tensor, "b t"]
    totals: Float[Tensor, "b c"]


def _trunks(model: nn.Module, encoded: Sequence[Encoded], width: int, pad: int) -> _Trunks | None:
    """Compute trunks, and the log-probabilities of all that they predict of the candidates."""
    shared = [_in_common(e) for e in encoded]
    rows = [e.prompt + e.candidates[0][:n] for e, n in zip(encoded, shared, strict=True)]
    last = max(shared) + 1
    reading = read(model, rows, pad, last)
    device, shape = reading.mask.device, tuple(reading.mask.shape)
    if not all(_holds(layer, shape) for layer in reading.cache.layers):
        return None
    log_probs = wide(reading.logits).log_softmax(-1)
    totals = log_probs.new_zeros(len(rows), width)
    for i, (e, n) in enumerate(zip(encoded, shared, strict=True)):
        common = torch.tensor(e.candidates[0][:n], dtype=torch.long, device=device)
        first = torch.tensor([candidate[n] for candidate in e.candidates], device=device)
        before = log_probs[i, last - 1 - n : last - 1].gather(1, common.unsqueeze(1)).sum()
        totals[i, : len(first)] = before + log_probs[i, -1, first]
    return _Trunks(reading.cache, reading.mask, totals)


def _holds(layer: Any, shape: tuple[int, ...]) -> bool:
    """Tell whether a layer has the keys of all tokens of all rows."""
    keys = getattr(layer, "keys", None)
    return keys is not None and keys.dim() == 4 and (keys.shape[0], keys.shape[2]) == shape


def _add_branches(model: nn.Module, encoded: Sequence[Encoded], trunks: _Trunks, pad: int) -> None:
    """Add to the sums the log-probabilities of all but the first token of each branch."""
    branches = [
        (candidate[_in_common(e) :], i, j)
        for i, e in enumerate(encoded)
        for j, candidate in enumerate(e.candidates)
        if len(candidate) > _in_common(e) + 1
    ]
    branches.sort(key=lambda branch: -len(branch[0]))  # the shorter ones are padded less
    start = 0
    while start < len(branches):
        rows = max(1, CONTEXT // (trunks.mask.shape[1] + len(branches[start][0]) - 1))
        tokens, of, at = zip(*branches[start : start + rows], strict=True)
        owners = torch.tensor(of, device=trunks.mask.device)
        trunks.totals[owners, list(at)] += _after(model, tokens, owners, trunks, pad)
        start += rows


def _after(
    model: nn.Module, branches: Sequence[tuple[int, ...]], owners: Tensor, trunks: _Trunks, pad: int
) -> Tensor:
    """Return the summed log-probabilities (rows,) of branches after their first tokens."""
    given = padded([branch[:-1] for branch in branches], pad, left=False)
    asked = padded([branch[1:] for branch in branches], 0, left=False)
    ids, mask, targets, there = (x.to(owners.device) for x in (*given.values(), *asked.values()))
    batch = {"input_ids": ids, "attention_mask": torch.cat([trunks.mask[owners], mask], 1)}
    cache = Cache(layers=[_Read(layer, owners) for layer in trunks.cache.layers])
    logits = last_logits(model, batch, ids.shape[1], cache)
    return token_log_probs(logits, targets, there.bool()).sum(1)


class _Read(DynamicLayer):
    """A layer's keys and values of trunks, shown before those of each branch and left as they are.

    So the copies of one layer only are there at a time.
    """

    def __init__(self, layer: Any, owners: Int[Tensor, " rows"]) -> None:
        super().__init__()
        self.lazy_initialization(layer.keys, layer.values)
        self.keys, self.values, self._owners = layer.keys, layer.values, owners

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        owners = self._owners.to(key_states.device)
        pairs = ((self.keys, key_states), (self.values, value_states))
        keys, values = (torch.cat([held[owners], new], -2) for held, new in pairs)
        return keys, values
