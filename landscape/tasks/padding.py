"""Rows of tokens of one length: padded on the left for decoders, on the right for heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

Batch: TypeAlias = dict[str, Tensor]
"""A batch of b examples, in rows of t tokens; what it holds says how it is scored.

Candidates and completions (`landscape.tasks.outputs.scoring`): ``input_ids`` and ``attention_mask``
(rows, t), padded on the left; ``labels`` (b,). Single-token candidates, at most c, rows = b:
``candidate_ids`` (b, c) and ``candidate_mask`` (b, c). Longer ones, one row each: ``targets`` and
``target_mask`` (rows, L), right-aligned; ``rows`` (b, c), the row of each candidate, -1 where there
is none. Language modelling, one row for each right text: ``targets`` and ``target_mask`` alone.

For a head (`landscape.tasks.outputs.labelled`): the model's own arguments with ``labels``, as a
trainer of transformers feeds them: texts padded on the right with ``labels`` (b,), whole or
floating; tagged words with ``labels`` (b, t), -100 where none is asked; ``pixel_values`` (b,
channels, height, width) with ``labels`` (b,).
"""


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the tokenizer's padding token, or 0 for one that has none: padding is masked out."""
    found = getattr(tokenizer, "pad_token_id", None)
    return 0 if found is None else int(found)


def padded(rows: Sequence[Sequence[int]], pad: int, *, left: bool = True) -> Batch:
    """Return rows as ``input_ids`` (rows, t), and where they hold tokens (rows, t)."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad)
    held = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        place = slice(longest - len(row), None) if left else slice(len(row))
        ids[i, place] = torch.tensor(row, dtype=torch.long)
        held[i, place] = 1
    return {"input_ids": ids, "attention_mask": held}
