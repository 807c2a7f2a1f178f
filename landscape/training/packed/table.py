"""All training examples of a pack as one padded table on the device, of which a step takes rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from landscape.tasks.forms import FORMS
from landscape.tasks.forms.form import AnyEncoded
from landscape.tasks.outputs.scoring import SCORED
from landscape.tasks.padding import Batch
from landscape.tasks.task import Task
from landscape.training.packed.chunks import Chunk, Row, terms_of


class Table:
    """Hold examples as one batch, and make batches of some of them.

    Args:
        lists: of encoded examples; a list that is given twice is held once.
        task: whose kind and loss all have.
        tokenizer: of the model.
        device: of the model.
    """

    def __init__(
        self, lists: Sequence[Sequence[AnyEncoded]], task: Task,
        tokenizer: PreTrainedTokenizerBase, device: torch.device,
    ) -> None:  # fmt: skip
        distinct = {id(one): one for one in lists}
        self._first, count = {}, 0
        for key, one in distinct.items():
            self._first[key] = count
            count += len(one)
        self._of = [self._first[id(one)] for one in lists]
        every = [encoded for one in distinct.values() for encoded in one]
        batch = FORMS[task.kind].collate(every, tokenizer, task.loss)
        self.usable = "rows" not in batch
        """Whether each example is one row: not one a candidate."""
        self._left = bool(SCORED & batch.keys())
        self._lengths = {"attention_mask": batch["attention_mask"].sum(1).tolist()}
        if "target_mask" in batch:
            self._lengths["target_mask"] = batch["target_mask"].sum(1).tolist()
        self._terms = terms_of(batch, count)
        self._batch = {name: value.to(device) for name, value in batch.items()}
        self._device = device

    def chunk(self, rows: Sequence[Row], places: Sequence[tuple[int, int]]) -> Chunk:
        """Return rows as a chunk.

        Args:
            rows: ordered by lane.
            places: of each row, its list and its place there.
        """
        chosen = [self._of[which] + place for which, place in places]
        longest = {name: max(own[i] for i in chosen) for name, own in self._lengths.items()}
        index = torch.tensor(chosen).to(self._device, non_blocking=True)
        batch: Batch = {}
        for name, value in self._batch.items():
            width = self._width(name, value.dim(), longest)
            if width is not None:
                value = value[:, value.shape[1] - width :] if self._left else value[:, :width]
            batch[name] = value.index_select(0, index)
        return Chunk(rows, batch, [self._terms[i] for i in chosen], [1] * len(rows))

    def _width(self, name: str, dim: int, longest: dict[str, int]) -> int | None:
        """Return how many columns of an entry to keep; None for all."""
        if name in ("targets", "target_mask"):
            return longest["target_mask"]
        if name in ("candidate_ids", "candidate_mask") or dim != 2:
            return None
        return longest["attention_mask"]
