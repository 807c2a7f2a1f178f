"""Batches: prompts and candidates as padded token rows, ready to be scored.

A row holds a prompt and all but the last token of a candidate, padded on the left, so that the
model's last L outputs predict the candidate's L tokens. When every candidate of a batch is one
token the row is the prompt alone, and one forward serves all candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from landscape import checks
from landscape.tasks.encoding import MAX_LENGTH, Bos, Encoded, encode, length_limit
from landscape.tasks.task import Example, Loss

__all__ = [
    "Batch", "Bos", "collate", "encode", "length_limit", "length_order", "make_batches", "pad_id"
]  # fmt: skip

Batch: TypeAlias = dict[str, Tensor]
"""A batch of b examples with at most c candidates, in rows of t tokens.

Every batch: ``input_ids`` and ``attention_mask`` (rows, t); ``labels`` (b,).
Single-token candidates, rows = b: ``candidate_ids`` (b, c) and ``candidate_mask`` (b, c).
Longer ones, one row each: ``targets`` and ``target_mask`` (rows, L), right-aligned; ``rows``
(b, c), the row of each candidate, -1 where there is none.
Language modelling, one row for each right candidate: ``targets`` and ``target_mask`` alone.
"""


def collate(encoded: Sequence[Encoded], pad_id: int, *, loss: Loss = "classification") -> Batch:
    """Pad encoded examples on the left into one batch.

    Args:
        encoded: b >= 1 examples.
        pad_id: token that fills up rows; it is masked out, so any legal id does.
        loss: "classification" keeps all candidates; "language modelling" keeps the right ones
            only, which is all that training on them needs.

    Returns:
        The batch; see ``Batch`` for its entries.
    """
    labels = torch.tensor([e.label for e in encoded])
    if loss == "language modelling":
        right = [(e.prompt, e.candidates[e.label]) for e in encoded]
        return {"labels": labels, **_candidate_rows(right, pad_id)}
    width = max(len(e.candidates) for e in encoded)
    if all(e.single_token for e in encoded):
        ids = torch.full((len(encoded), width), pad_id)
        mask = torch.zeros(len(encoded), width, dtype=torch.bool)
        for i, e in enumerate(encoded):
            ids[i, : len(e.candidates)] = torch.tensor([c[0] for c in e.candidates])
            mask[i, : len(e.candidates)] = True
        padded = _pad_left([e.prompt for e in encoded], pad_id)
        return {"labels": labels, "candidate_ids": ids, "candidate_mask": mask, **padded}
    rows = torch.full((len(encoded), width), -1)
    pairs: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for i, e in enumerate(encoded):
        count = len(e.candidates)
        rows[i, :count] = torch.arange(len(pairs), len(pairs) + count)
        pairs += [(e.prompt, candidate) for candidate in e.candidates]
    return {"labels": labels, "rows": rows, **_candidate_rows(pairs, pad_id)}


def make_batches(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    *,
    sort: bool = False,
    loss: Loss = "classification",
    max_length: int = MAX_LENGTH,
    bos: Bos = "tokenizer",
) -> list[Batch]:
    """Tokenise examples and collate them into padded batches.

    Args:
        examples: at least one.
        tokenizer: of the model.
        batch_size: examples a batch, >= 1; the last batch may be smaller.
        sort: order by length first, which saves padding; else the given order is kept.
        loss: see ``collate``; pass ``task.loss``.
        max_length: see ``encode``.
        bos: see ``encode``.

    Returns:
        The batches.

    Raises:
        UserError: no examples, a batch size below 1, or text that ``encode`` refuses.
    """
    checks.several("examples", examples, "examples")
    checks.tokenizer(tokenizer)
    batch_size = checks.whole("batch_size", batch_size, least=1)
    max_length = checks.whole("max_length", max_length, least=2)
    if not examples:
        checks.refuse("examples", "at least one example", [], "give the rows to make batches of")
    encoded = encode(examples, tokenizer, max_length=max_length, bos=bos)
    if sort:
        encoded = [encoded[i] for i in length_order(encoded)]
    pad = pad_id(tokenizer)
    return [
        collate(encoded[i : i + batch_size], pad, loss=loss)
        for i in range(0, len(encoded), batch_size)
    ]


def length_order(encoded: Sequence[Encoded]) -> list[int]:
    """Return the indices of examples from longest to shortest.

    Equal lengths are ordered by their tokens, so that the same examples in any order make the
    same batches; longest first, so that a batch too large for memory fails at once.
    """
    return sorted(
        range(len(encoded)),
        key=lambda i: (-encoded[i].length, encoded[i].prompt, encoded[i].candidates),
    )


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the tokenizer's padding token, or 0 for one that has none: padding is masked out."""
    return 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)


def _candidate_rows(
    pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], pad_id: int
) -> dict[str, Tensor]:
    inputs = [prompt + candidate[:-1] for prompt, candidate in pairs]
    targets = _pad_left([candidate for _, candidate in pairs], pad_id)
    return {
        "targets": targets["input_ids"],
        "target_mask": targets["attention_mask"].bool(),
        **_pad_left(inputs, pad_id),
    }


def _pad_left(rows: Sequence[tuple[int, ...]], pad_id: int) -> dict[str, Tensor]:
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_id)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = 1
    return {"input_ids": ids, "attention_mask": mask}
