"""Chunks of a step: the rows of all lanes' batches, sorted by length and cut where padding ends.

A solo run pads each row to the longest of its batch of 8. R lanes have 8 R rows a step, which
sorted by length and cut into chunks pad next to nothing, each chunk with rows of many lanes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from landscape.tasks.forms import FORMS
from landscape.tasks.forms.form import AnyEncoded
from landscape.tasks.outputs.labelled import IGNORED
from landscape.tasks.outputs.scoring import task_split
from landscape.tasks.padding import Batch
from landscape.tasks.task import Task

OVERHEAD = 48
"""Tokens whose computation costs what a chunk costs beside its tokens: by small models' steps."""


class Row(NamedTuple):
    """An example of one lane's step: of which batch it is, and its place there."""

    lane: int
    batch: int
    place: int
    encoded: AnyEncoded


@dataclass(frozen=True)
class Chunk:
    """Hold some rows of a step, ordered by lane, as one batch.

    Args:
        rows: one an example.
        batch: of the rows, as their form collates it.
        terms: loss terms of each example, shape (b,).
        height: rows of the batch's inputs that each example has: 1, or its candidates.
    """

    rows: Sequence[Row]
    batch: Batch
    terms: list[int]
    height: list[int]

    def sizes(self) -> dict[int, int]:
        """Return the rows of the batch's inputs that each lane has, in their order."""
        found: dict[int, int] = {}
        for row, height in zip(self.rows, self.height, strict=True):
            found[row.lane] = found.get(row.lane, 0) + height
        return found

    def shares(self, model: nn.Module, scale: Tensor) -> Float[Tensor, " b"]:
        """Return each example's share of its lane's loss, in a forward of the model.

        Args:
            model: whose layers compute each row as its lane's (`landscape.training.packed.layers`).
            scale: what each example's summed loss weighs, shape (b,).
        """
        outputs, loss = task_split(model, self.batch)
        terms, _ = loss(outputs)
        return terms.reshape(len(self.rows), -1).sum(1) * scale.to(terms)


def cut(rows: Sequence[Row], most: int) -> list[list[Row]]:
    """Cut rows into groups of similar length, at the least cost; each is ordered by lane.

    The cost of a group is its padded size, its rows times the longest, plus `OVERHEAD`.

    Args:
        rows: of all lanes.
        most: most tokens of a group, padding included; a row that is longer is alone.

    >>> groups = cut([Row(0, 0, i, _Of(n)) for i, n in enumerate([9, 500, 8, 480])], 2000)
    >>> [[row.place for row in group] for group in groups]
    [[1, 3], [0, 2]]
    """
    ordered = sorted(rows, key=lambda r: (-r.encoded.length, r.lane, r.batch, r.place))
    lengths = [row.encoded.length for row in ordered]
    best, begins = [0.0] + [float("inf")] * len(ordered), [0] * (len(ordered) + 1)
    for stop in range(1, len(ordered) + 1):
        for start in range(stop - 1, -1, -1):
            size = lengths[start] * (stop - start)
            if size > most and stop - start > 1:
                break
            if best[start] + size + OVERHEAD < best[stop]:
                best[stop], begins[stop] = best[start] + size + OVERHEAD, start
    groups, stop = [], len(ordered)
    while stop:
        groups.append(
            sorted(ordered[begins[stop] : stop], key=lambda r: (r.lane, r.batch, r.place))
        )
        stop = begins[stop]
    return groups[::-1]


def chunk_of(rows: Sequence[Row], task: Task, tokenizer: PreTrainedTokenizerBase) -> Chunk:
    """Collate rows, of whichever lanes, as the form of their examples does."""
    batch = FORMS[task.kind].collate([row.encoded for row in rows], tokenizer, task.loss)
    return Chunk(rows, batch, terms_of(batch, len(rows)), _height(batch, len(rows)))


def terms_of(batch: Mapping[str, Tensor], count: int) -> list[int]:
    """Return how many loss terms each example has."""
    if "targets" in batch and "rows" not in batch:
        found: list[int] = batch["target_mask"].sum(1).tolist()
        return found
    labels = batch["labels"]
    return (labels != IGNORED).sum(1).tolist() if labels.dim() == 2 else [1] * count


def _height(batch: Mapping[str, Tensor], count: int) -> list[int]:
    """Return how many rows of the inputs each example has."""
    return (batch["rows"] >= 0).sum(1).tolist() if "rows" in batch else [1] * count


def weights(chunks: Sequence[Chunk], average: Mapping[int, str]) -> list[Tensor]:
    """Return what each example's summed loss weighs in its lane's mean, a tensor (b,) a chunk.

    Args:
        chunks: all of a step.
        average: lane -> `loss_average` of its settings: over terms, or over batches' means.
    """
    counts: dict[tuple[int, int], int] = {}
    for chunk in chunks:
        for row, terms in zip(chunk.rows, chunk.terms, strict=True):
            counts[row.lane, row.batch] = counts.get((row.lane, row.batch), 0) + terms
    totals: dict[int, int] = {}
    batches: dict[int, int] = {}
    for (lane, _), terms in counts.items():
        totals[lane] = totals.get(lane, 0) + terms
        batches[lane] = batches.get(lane, 0) + 1

    def weight(row: Row) -> float:
        own = counts[row.lane, row.batch] * batches[row.lane]
        terms = own if average[row.lane] == "batches" else totals[row.lane]
        return 1 / terms if terms else float("nan")

    return [torch.tensor([weight(r) for r in c.rows], dtype=torch.float64) for c in chunks]


class _Of(NamedTuple):
    """A stand-in for an encoded example, in the doctest above."""

    length: int
