"""A step, and an evaluation, of all lanes at once: as few launches and as little Python as of one.

On a GPU a small model's step takes the time of its launches. So here all lanes' rows are one
chunk, made by a gather on the device; masked layers multiply by a stack of matrices
(`landscape.training.packed.stacked`); AdamW updates all thetas at once; and losses and norms come
back in one transfer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from landscape.tasks.task import SplitName
from landscape.training.mode import training_mode
from landscape.training.packed.chunks import Chunk, Row, chunk_of, cut, weights
from landscape.training.packed.course import Course
from landscape.training.packed.dropout import LaneDropout, nothing_drawn
from landscape.training.packed.judging import Judge, Told
from landscape.training.packed.layers import Layers
from landscape.training.packed.stacked import Rows, Stack
from landscape.training.packed.table import Table
from landscape.training.packed.updating import StackedAdamW, is_stacked
from landscape.training.point import go_to

TOKENS = 2**14
"""Most tokens of a chunk: 20 GB of activations at OPT-125m's shape in float32, without dropout."""


class Together:
    """Step and judge lanes together.

    Args:
        model: the frozen one.
        tokenizer: of the model.
        courses: lane -> what it has of its own; `stackable` says yes.
        tokens: most tokens of a chunk, padding included; None is `TOKENS`.
        precision: device -> the context of a forward.
        dropout: the lanes of a step -> what draws for them; None where the model has none.
    """

    def __init__(
        self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, courses: Mapping[int, Course],
        *, tokens: int | None, precision: Callable[[torch.device], AbstractContextManager[object]],
        dropout: Callable[[Mapping[int, Course]], LaneDropout] | None = None,
    ) -> None:  # fmt: skip
        self._model, self._tokenizer, self._courses = model, tokenizer, dict(courses)
        self._tokens = TOKENS if tokens is None else tokens
        self._precision, self._device = precision, next(model.parameters()).device
        self._dropout = dropout
        self._judge = Judge(model, tokenizer)
        self._stack: Stack | None = None
        self._layers: Layers | None = None
        self._adamw: StackedAdamW | None = None
        self._tests: dict[int, Told] | None = None
        self._task = next(iter(courses.values())).lane.task
        read: dict[tuple[object, ...], Course] = {}
        for course in courses.values():
            key = id(course.lane.task), course.limit, course.lane.settings.bos
            course.epochs.reads_as(read.setdefault(key, course).epochs)
        lists = [course.epochs.encoded for course in courses.values()]
        self._table = Table(lists, self._task, tokenizer, self._device)

    def step(self, alive: Mapping[int, Course]) -> None:
        """Take a step of every lane, and note it in their histories."""
        stack, layers, adamw = self._parts(alive)
        slow = {lane: course for lane, course in alive.items() if not is_stacked(course)}
        for course in slow.values():
            course.updates.clear()
        rounds = self._rounds(alive)
        chunks = [chunk for some in rounds for chunk in some]
        average = {i: course.lane.settings.loss_average for i, course in alive.items()}
        scales = iter(weights(chunks, average))
        dropout = self._dropout(alive) if self._dropout is not None else None
        stack.begin()
        found = []
        with training_mode(self._model, 0), layers.installed(), nothing_drawn():
            for some in rounds:
                if dropout is not None:
                    dropout.begin_batch(some)
                for chunk in some:
                    found.append(self._backward(chunk, next(scales), stack, layers, dropout))
        stack.end()
        norms = torch.linalg.vector_norm(stack.gradient, dim=1)
        told = torch.cat([own.double() for own in (*found, norms)]).tolist()
        losses, count = dict.fromkeys(alive, 0.0), len(told) - len(alive)
        rows = [row.lane for chunk in chunks for row in chunk.rows]
        for lane, value in zip(rows, told[:count], strict=True):
            losses[lane] += value
        own_norms = dict(zip(alive, told[count:], strict=True))
        fine = {i: c.updates.is_fine(losses[i], own_norms[i]) for i, c in alive.items()}
        if len(slow) < len(alive):
            adamw.step(norms, fine)
        for i, (lane, course) in enumerate(alive.items()):
            if lane in slow:
                thetas = [weight.theta for weight in course.masked.values()]
                views = stack.views(thetas, stack.gradient[i])
                for theta, view in zip(thetas, views, strict=True):
                    theta.grad = view
                course.history.append(course.updates.update(losses[lane]))
            else:
                course.updates.optimizer.__dict__["_opt_called"] = True  # schedules ask for it
                course.history.append(course.updates.note(losses[lane], own_norms[lane]))

    def tested(self, lane: int) -> Told | None:
        """Return what `told` says of a lane on test, at its best point; at first, for all lanes."""
        if self._tests is None:
            began = time.perf_counter()
            asked = {i: c for i, c in self._courses.items() if c.lane.settings.test}
            before = {i: course.point() for i, course in asked.items()}
            try:
                for course in asked.values():
                    go_to(course.parameters, course.best.point)
                told = self.told(asked, "test")
            finally:
                for i, course in asked.items():
                    go_to(course.parameters, before[i])
            self._tests = {} if told is None else dict(zip(asked, told, strict=True))
            for course in asked.values():
                course.seconds += (time.perf_counter() - began) / len(asked)
        return self._tests.get(lane)

    def release(self) -> None:
        """Give the lanes' optimizers states of their own, to be copied."""
        if self._adamw is not None:
            self._adamw.release()
            self._adamw = None

    def forget(self) -> None:
        """Go on from what the lanes hold, which has changed."""
        self._adamw = self._tests = None

    def told(self, courses: Mapping[int, Course], split: SplitName) -> list[Told] | None:
        """Return what `landscape.evaluate` says of lanes; None where each is judged alone."""
        if not self._judge.can(courses, split):
            return None
        stack = self._stack
        if stack is None or list(stack.courses) != list(courses):
            stack = Stack(self._model, courses, bind=False)
        return self._judge.judge(courses, split, stack)

    def _parts(self, alive: Mapping[int, Course]) -> tuple[Stack, Layers, StackedAdamW]:
        """Return what holds the lanes that are left, made anew when some have ended."""
        stack, layers = self._stack, self._layers
        if stack is None or layers is None or list(stack.courses) != list(alive):
            self.release()
            stack, layers = Stack(self._model, alive), Layers(self._model, alive)
            layers.stack = stack
            self._stack, self._layers = stack, layers
        if self._adamw is None:
            self._adamw = StackedAdamW(stack)
        return stack, layers, self._adamw

    def _backward(
        self, chunk: Chunk, scale: Tensor, stack: Stack, layers: Layers, dropout: LaneDropout | None
    ) -> Tensor:
        """Add the gradients of a chunk to the stack's; return each example's share of the loss."""
        layers.begin(chunk)
        every = list(stack.courses)
        held = [every.index(lane) for lane in layers.sizes]  # a lane between may have no rows
        sizes = [layers.sizes.get(lane, 0) for lane in every[held[0] : held[-1] + 1]]
        stack.at = Rows.of(held[0], sizes, stack.device)
        inside: AbstractContextManager[object] = nullcontext()
        if dropout is not None:
            dropout.begin_chunk(chunk)
            inside = dropout
        with inside, self._precision(self._device):
            own = chunk.shares(self._model, scale)
        layers.refuse_uncalled()
        own.sum().backward()
        return own.detach()

    def _rounds(self, alive: Mapping[int, Course]) -> list[list[Chunk]]:
        """Return the chunks of a step, in one list; where dropout draws, in one a batch."""
        dealt = {lane: course.epochs.chosen(course.updates.taken) for lane, course in alive.items()}
        if self._dropout is None:
            return [self._chunks({lane: range(len(own)) for lane, own in dealt.items()}, dealt)]
        count = max(map(len, dealt.values()))
        rounds = ({i: [b] for i, own in dealt.items() if b < len(own)} for b in range(count))
        return [self._chunks(some, dealt) for some in rounds]

    def _chunks(
        self, batches: Mapping[int, Sequence[int]], dealt: Mapping[int, Sequence[Sequence[int]]]
    ) -> list[Chunk]:
        """Return the rows of some batches: neighbouring lanes together, each in one chunk."""
        groups: list[list[tuple[Row, int]]] = [[]]
        longest = size = 0
        for lane, some in batches.items():
            own, held = [], self._courses[lane].epochs.encoded
            for batch in some:
                chosen = dealt[lane][batch]
                own += [(Row(lane, batch, at, held[i]), i) for at, i in enumerate(chosen)]
            height = sum(self._height(row) for row, _ in own)
            length = max(row.encoded.length for row, _ in own)
            if groups[-1] and (size + height) * max(longest, length) > self._tokens:
                groups.append([])
                longest = size = 0
            longest, size = max(longest, length), size + height
            groups[-1] += own
        return [chunk for group in groups for chunk in self._made(group)]

    def _height(self, row: Row) -> int:
        return 1 if self._table.usable else len(getattr(row.encoded, "candidates", (0,)))

    def _made(self, group: Sequence[tuple[Row, int]]) -> list[Chunk]:
        """Return a group as one chunk; as several, where it is of one lane that is too long."""
        rows = [row for row, _ in group]
        size = sum(map(self._height, rows)) * max(row.encoded.length for row in rows)
        parts = [rows]
        if size > self._tokens and len({row.lane for row in rows}) == 1:
            parts = cut(rows, self._tokens)
        if not self._table.usable:
            return [chunk_of(part, self._task, self._tokenizer) for part in parts]
        places = {row[:3]: place for row, place in group}
        lists = {lane: i for i, lane in enumerate(self._courses)}
        return [
            self._table.chunk(part, [(lists[row.lane], places[row[:3]]) for row in part])
            for part in parts
        ]
