"""Which rows each step takes: every epoch in an order of its own."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from landscape import seeds
from landscape.tasks import Task
from landscape.tasks.forms import form_of
from landscape.tasks.forms.form import AnyEncoded, Encoding
from landscape.tasks.padding import Batch
from landscape.training.processes import Processes
from landscape.training.settings import Settings


class Share(NamedTuple):
    """What a process computes of a step: batches, and whether their rows count."""

    batches: list[Batch]
    counted: bool
    """False in a process that has no rows left in this step: it runs a batch of another with
    weight 0, so that collective operations match."""


class Epochs:
    """Deal the training examples of a task to steps, batches and processes.

    The order of the examples is a pure function of (seed, epoch), so a step finds its rows
    whatever came before. A step takes accumulate batches of batch_size rows in each process.

    Args:
        task, tokenizer, settings: of the run.
        limit: most tokens of a row.
        processes: that share the rows.
    """

    def __init__(
        self, task: Task, tokenizer: PreTrainedTokenizerBase, settings: Settings, limit: int,
        processes: Processes,
    ) -> None:  # fmt: skip
        self._task, self._tokenizer, self._settings = task, tokenizer, settings
        self._limit, self._processes = limit, processes
        self._rows = settings.batch_size * settings.accumulate * processes.count
        self.steps = -(-len(task.train) // self._rows)
        """Steps of an epoch."""
        number = settings.evaluations_per_epoch
        self._order: tuple[int, list[int]] = -1, []
        self._evaluated = {self.steps * (i + 1) // number for i in range(number)}

    @cached_property
    def encoded(self) -> list[AnyEncoded]:
        """Return the training examples as tokens, in the order of the task."""
        encoding = Encoding(self._limit, self._settings.bos)
        return form_of(self._task.train).encode(self._task.train, self._tokenizer, encoding)

    @property
    def truncated(self) -> dict[str, int] | None:
        """Return how many rows have lost tokens, of how many, to how many; None where none has."""
        lost = [e.length for e in self.encoded if e.truncated]
        return {"rows": len(lost), "of": len(self.encoded), "tokens": max(lost)} if lost else None

    def reads_as(self, other: Epochs) -> None:
        """Take the tokens of another of the same task, tokenizer, limit and bos, read already."""
        self.encoded = other.encoded

    def dealt(self, step: int) -> list[list[AnyEncoded]]:
        """Return the rows of a step, counted from 0, in the batches that all processes take."""
        return [[self.encoded[i] for i in rows] for rows in self.chosen(step)]

    def chosen(self, step: int) -> list[list[int]]:
        """Return which examples `dealt` deals."""
        epoch, place = divmod(step, self.steps)
        if epoch != self._order[0]:
            derived = seeds.derived(self._settings.seed, "order", epoch)
            order = torch.randperm(len(self.encoded), generator=seeds.generator(derived))
            self._order = epoch, order.tolist()
        chosen = self._order[1][place * self._rows : (place + 1) * self._rows]
        size = self._settings.batch_size
        return [chosen[i : i + size] for i in range(0, len(chosen), size)]

    def share(self, step: int) -> Share:
        """Return this process's share of a step, counted from 0."""
        dealt = self.dealt(step)
        own = dealt[self._processes.rank :: self._processes.count]
        collate = form_of(self._task.train).collate
        batches = [collate(rows, self._tokenizer, self._task.loss) for rows in own or dealt[:1]]
        return Share(batches, bool(own))

    def is_evaluation_due(self, steps: int) -> bool:
        """Tell whether dev is evaluated after so many steps: evenly, last at an epoch's end."""
        if self._settings.evaluate_every is not None:
            last = self.steps * self._settings.epochs
            return steps % self._settings.evaluate_every == 0 or steps == last
        return (steps - 1) % self.steps + 1 in self._evaluated
