"""The gradients of a step of all lanes: chunk by chunk, one forward and one backward each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from landscape import checks
from landscape.errors import UserError
from landscape.models.kinds import num_labels
from landscape.tasks import Task
from landscape.tasks.outputs.scoring import task_split
from landscape.training.mode import training_mode
from landscape.training.packed.chunks import (
    CPU,
    GPU,
    GPU_BF16,
    Chunk,
    Row,
    chunk_of,
    cut,
    weights,
)
from landscape.training.packed.course import Course
from landscape.training.packed.dropout import LaneDropout, Solo
from landscape.training.packed.layers import Layers, is_batched
from landscape.training.packed.refusals import has_dropout

TOKENS, GPU_TOKENS = 2048, 16384
"""Most tokens of a chunk, on a CPU and on a GPU: what bounds the memory of a step."""


class Gradients:
    """Compute the gradients of all lanes of a model at once.

    Args:
        model: the frozen one.
        tokenizer: of the model.
        task: of one lane, whose kind of examples and loss all have.
        autocast: whether losses are computed in bfloat16 where torch's autocast says so.
        tokens: most tokens of a chunk, padding included; None is 2048, and 16384 on a GPU.
    """

    def __init__(
        self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, task: Task, *, autocast: bool,
        tokens: int | None,
    ) -> None:  # fmt: skip
        self._model, self._tokenizer, self._task, self._autocast = model, tokenizer, task, autocast
        self._batched = is_batched(next(model.parameters()))
        usual = GPU_TOKENS if self._batched else TOKENS
        self._tokens = usual if tokens is None else checks.whole("tokens", tokens, least=1)
        self._drops = has_dropout(model)
        self._layers: tuple[tuple[int, ...], Layers] | None = None

    def put(self, alive: Mapping[int, Course]) -> dict[int, float]:
        """Put every lane's gradient into its parameters; return the losses."""
        rounds = self.chunks(alive)
        average = {lane: course.lane.settings.loss_average for lane, course in alive.items()}
        scales = iter(weights([c for chunks in rounds for c in chunks], average))
        dropout = self._dropout(alive)
        layers = self._layers_of(alive)
        done: list[tuple[Chunk, Tensor]] = []
        with training_mode(self._model, 0), layers.installed():
            for chunks in rounds:
                if dropout is not None:
                    dropout.begin_batch(_solo(chunks))
                for chunk in chunks:
                    own = self._backward(chunk, next(scales), layers, dropout)
                    done.append((chunk, own))
        return _by_lane(done)

    def _layers_of(self, alive: Mapping[int, Course]) -> Layers:
        """Return the layers of the lanes that are alive, which stay the same for many steps."""
        if self._layers is None or self._layers[0] != tuple(alive):
            self._layers = tuple(alive), Layers(self._model, alive)
        return self._layers[1]

    def _backward(
        self, chunk: Chunk, scale: Tensor, layers: Layers, dropout: LaneDropout | None
    ) -> Tensor:
        """Add a chunk's gradients; return each example's part of its lane's loss, shape (b,)."""
        layers.sizes = chunk.sizes()
        layers.length = chunk.batch["input_ids"].shape[1]
        inside: AbstractContextManager[Any] = nullcontext()
        if dropout is not None:
            dropout.begin_chunk([(row.lane, row.place) for row in chunk.rows], layers.length)
            inside = dropout
        device = next(self._model.parameters()).device
        with _nothing_drawn(), inside, self._precision(device):
            outputs, loss = task_split(self._model, chunk.batch)
            terms, _ = loss(outputs)
            own = terms.reshape(len(chunk.rows), -1).sum(1) * scale.to(terms)
        own.sum().backward()
        return own.detach()

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16) if self._autocast else nullcontext()

    def chunks(self, alive: Mapping[int, Course]) -> list[list[Chunk]]:
        """Return the chunks of the lanes' next step, in one list; with dropout, in one a batch."""
        rows = []
        for lane, course in alive.items():
            for batch, held in enumerate(course.epochs.dealt(course.updates.taken)):
                rows += [Row(lane, batch, place, e) for place, e in enumerate(held)]
        rounds = [rows]
        if self._drops:
            count = 1 + max(row.batch for row in rows)
            rounds = [[row for row in rows if row.batch == b] for b in range(count)]
        return [
            [chunk_of(group, self._task, self._tokenizer) for group in self._cut(some)]
            for some in rounds
        ]

    def _cut(self, rows: Sequence[Row]) -> list[list[Row]]:
        cost = (GPU_BF16 if self._autocast else GPU) if self._batched else CPU
        return cut(rows, self._tokens, cost=cost, even=self._batched)

    def _dropout(self, alive: Mapping[int, Course]) -> LaneDropout | None:
        if not self._drops:
            return None
        seeds = {lane: course.dropout_seed for lane, course in alive.items()}
        return LaneDropout(seeds, left=not num_labels(self._model))


def _by_lane(done: Sequence[tuple[Chunk, Tensor]]) -> dict[int, float]:
    """Add up the parts of each lane's loss; a GPU is waited for once."""
    losses: dict[int, float] = {}
    rows = [row for chunk, _ in done for row in chunk.rows]
    parts: list[float] = torch.cat([own for _, own in done]).tolist()
    for row, part in zip(rows, parts, strict=True):
        losses[row.lane] = losses.get(row.lane, 0.0) + part
    return losses


def _solo(chunks: Sequence[Chunk]) -> dict[int, Solo]:
    """Return the shape of each lane's solo batch, from the chunks that hold its rows."""
    heights: dict[int, dict[int, int]] = {}
    lengths: dict[int, int] = {}
    for chunk in chunks:
        tokens, first = chunk.batch["attention_mask"].sum(1).tolist(), 0
        for row, height in zip(chunk.rows, chunk.height, strict=True):
            heights.setdefault(row.lane, {})[row.place] = height
            longest = max(tokens[first : first + height])
            lengths[row.lane] = max(lengths.get(row.lane, 0), int(longest))
            first += height
    return {
        lane: Solo(tuple(own[place] for place in sorted(own)), lengths[lane])
        for lane, own in heights.items()
    }


@contextmanager
def _nothing_drawn() -> Iterator[None]:
    """Refuse a forward that draws random numbers past the lanes' generators.

    Raises:
        UserError: it does.
    """
    before = torch.get_rng_state()
    yield
    if not torch.equal(before, torch.get_rng_state()):
        raise UserError(
            "expected a model whose dropout is torch's, got one that draws random numbers "
            "otherwise; train these runs one at a time"
        )
