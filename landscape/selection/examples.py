"""Single examples out of batches, and an example under another label."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from landscape.errors import UserError


def single_examples(batch: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield batches of one example each.

    Args:
        batch: of `make_batches`, or any other whose tensors all have the examples as their first
            axis and which has ``labels``.

    Raises:
        UserError: the batch does not say which rows belong to an example.
    """
    if "labels" not in batch:
        raise UserError("expected batches with 'labels', one an example, got none; add them")
    count = len(batch["labels"])
    if "rows" in batch:
        yield from (_candidates(batch, i) for i in range(count))
        return
    odd = [key for key, value in batch.items() if len(value) != count]
    if odd:
        raise UserError(
            f"expected {count} rows, one an example, got {len(batch[odd[0]])} in {odd[0]}; "
            "give batches of one row an example"
        )
    for i in range(count):
        yield {key: value[i : i + 1] for key, value in batch.items()}


def _candidates(batch: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    rows = batch["rows"][i]
    own = rows[rows >= 0]
    fresh = torch.full_like(rows, -1)
    fresh[rows >= 0] = torch.arange(own.numel(), device=rows.device)
    shared = {"rows": fresh[None], "labels": batch["labels"][i : i + 1]}
    return {key: shared[key] if key in shared else value[own] for key, value in batch.items()}


def possible_labels(model: nn.Module, example: dict[str, Tensor]) -> list[int]:
    """Return the labels that an example may have.

    Raises:
        UserError: the example has no finite set of labels.
    """
    if "candidate_mask" in example:
        return example["candidate_mask"][0].nonzero().view(-1).tolist()
    if "rows" in example:
        return (example["rows"][0] >= 0).nonzero().view(-1).tolist()
    known = getattr(getattr(model, "config", None), "num_labels", None)
    numbers, several = example["labels"].is_floating_point(), example["labels"].dim() != 1
    if "targets" in example or known is None or several or numbers:
        got = "numbers" if numbers else "labels of tokens" if several else "language modelling"
        raise UserError(
            "expected examples with a finite set of labels for the true Fisher information, got "
            f"{got}; use information='empirical', or classification batches"
        )
    return list(range(int(known)))
