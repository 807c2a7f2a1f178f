"""The steps of several lanes together, as a state that can be saved and gone on from."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from landscape import checks
from landscape.models.kinds import num_labels
from landscape.tasks.evaluation import evaluate
from landscape.tasks.task import SplitName
from landscape.training.mode import training_mode
from landscape.training.packed.alone import alone
from landscape.training.packed.chunks import Chunk, Row, chunk_of, cut, weights
from landscape.training.packed.course import Course
from landscape.training.packed.dropout import LaneDropout, nothing_drawn
from landscape.training.packed.judging import Told
from landscape.training.packed.lane import Lane
from landscape.training.packed.layers import Layers
from landscape.training.packed.refusals import has_dropout, refuse_unpackable
from landscape.training.packed.stacked import stackable
from landscape.training.packed.together import Together
from landscape.training.run import run_of

TOKENS = 2048
"""Most tokens of a chunk: what bounds the memory of a step, however many lanes there are."""


class Pack:
    """Train several lanes together, a step of each at a time.

    Args:
        model: the frozen one; its weights are what they were after every step.
        tokenizer: of the model.
        lanes: at least one; they see examples of one kind, with one loss and one precision.
        tokens: most tokens of a chunk, padding included; None chooses by the device.
        stacked: whether what lanes differ in is computed for all at once
            (`landscape.training.packed.together`); None where the model is not on a CPU.

    Raises:
        UserError: lanes that cannot be packed, with the reason; or as `finetune`.
    """

    def __init__(
        self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, lanes: Sequence[Lane],
        *, tokens: int | None = None, stacked: bool | None = None,
    ) -> None:  # fmt: skip
        checks.model(model)
        checks.tokenizer(tokenizer)
        self._tokens = TOKENS if tokens is None else checks.whole("tokens", tokens, least=1)
        refuse_unpackable(model, lanes)
        self.model, self._tokenizer = model, tokenizer
        self.courses = [Course(model, tokenizer, lane) for lane in lanes]
        self._task, self._autocast = lanes[0].task, lanes[0].settings.autocast is not None
        self._drops = has_dropout(model)
        self._layers: tuple[tuple[int, ...], Layers] | None = None
        self._together: Together | None = None
        if stacked is None:
            stacked = next(model.parameters()).device.type != "cpu"
        if stacked and stackable(model, self.courses):
            every = dict(enumerate(self.courses))
            self._together = Together(
                model, tokenizer, every, tokens=tokens, precision=self._precision,
                dropout=self._dropout if self._drops else None,
            )  # fmt: skip

    @property
    def alive(self) -> dict[int, Course]:
        """Return the lanes with steps left, by number."""
        return {i: course for i, course in enumerate(self.courses) if not course.done}

    @property
    def taken(self) -> int:
        """Return the steps taken by the lane that has taken most."""
        return max(course.updates.taken for course in self.courses)

    def step(self) -> bool:
        """Take one step of every lane that has one left; tell whether any was evaluated on dev."""
        began, alive = time.perf_counter(), self.alive
        if self._together is not None:
            self._together.step(alive)
        else:
            for course in alive.values():
                course.updates.clear()
            losses = self._gradients(alive)
            for lane, course in alive.items():
                course.history.append(course.updates.update(losses[lane]))
        due = {i: c for i, c in alive.items() if c.epochs.is_evaluation_due(c.updates.taken)}
        self._judge(due)
        for course in alive.values():
            course.seconds += (time.perf_counter() - began) / len(alive)
        return bool(due)

    def finish(self, course: Course) -> None:
        """Test a lane at its best point and sum it up."""
        tested = None
        if self._together is not None and course.lane.settings.test:
            tested = self._together.tested(self.courses.index(course))
        began = time.perf_counter()
        with alone(self.model, course, course.best.point):
            if tested is None and course.lane.settings.test:
                tested = self.evaluate(course, "test")
            seconds = course.seconds + time.perf_counter() - began
            told = {"diverged": course.updates.diverged, "test": tested, "seconds": seconds,
                    "truncated": course.epochs.truncated}  # fmt: skip
            course.run = run_of(
                self.model, course.start, course.best, course.config, course.history, told, None
            )

    def evaluate(self, course: Course, split: SplitName) -> dict[str, float]:
        """Return what `landscape.evaluate` says of the model, which is one lane's now."""
        return evaluate(
            self.model, self._tokenizer, course.lane.task, split=split,
            max_length=course.limit, bos=course.lane.settings.bos,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of where every lane is."""
        if self._together is not None:
            self._together.release()
        return {str(i): course.state_dict() for i, course in enumerate(self.courses)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a state, of a pack that was made alike; it goes on bit for bit as that one."""
        for i, course in enumerate(self.courses):
            course.load_state_dict(state[str(i)])
        if self._together is not None:
            self._together.forget()

    def _judge(self, due: Mapping[int, Course]) -> None:
        """Evaluate lanes on dev, and keep their points where they are better."""
        with ExitStack() as inside:
            left = {}
            for lane, course in due.items():
                if course.updates.diverged:
                    continue
                inside.enter_context(course.updates.judged())
                if course.is_finite():
                    left[lane] = course
                else:
                    course.updates.diverged = True
            for course, told in zip(left.values(), self._told(left), strict=True):
                course.best.judge(course.updates.taken, told, course.point)

    def _told(self, courses: Mapping[int, Course]) -> list[Told]:
        """Return what dev says of lanes: together where that can be, else one by one."""
        told = None if self._together is None else self._together.told(courses, "dev")
        if told is not None:
            return told
        found = []
        for course in courses.values():
            with alone(self.model, course, course.point()):
                found.append(self.evaluate(course, "dev"))
        return found

    def _gradients(self, alive: Mapping[int, Course]) -> dict[int, float]:
        """Put every lane's gradient into its parameters; return the losses."""
        rounds = self.next_chunks()
        average = {lane: course.lane.settings.loss_average for lane, course in alive.items()}
        scales = iter(weights([c for chunks in rounds for c in chunks], average))
        dropout = self._dropout(alive) if self._drops else None
        layers = self._layers_of(alive)
        done: list[tuple[Chunk, Tensor]] = []
        with training_mode(self.model, 0), layers.installed():
            for chunks in rounds:
                if dropout is not None:
                    dropout.begin_batch(chunks)
                for chunk in chunks:
                    own = self._backward(chunk, next(scales), layers, dropout)
                    done.append((chunk, own))
        return _by_lane(done)

    def _layers_of(self, alive: Mapping[int, Course]) -> Layers:
        """Return the layers of the lanes that are alive, which stay the same for many steps."""
        if self._layers is None or self._layers[0] != tuple(alive):
            self._layers = tuple(alive), Layers(self.model, alive)
        return self._layers[1]

    def _backward(
        self, chunk: Chunk, scale: Tensor, layers: Layers, dropout: LaneDropout | None
    ) -> Tensor:
        """Add a chunk's gradients; return each example's part of its lane's loss, shape (b,)."""
        layers.begin(chunk)
        inside: AbstractContextManager[object] = nullcontext()
        if dropout is not None:
            dropout.begin_chunk(chunk)
            inside = dropout
        device = next(self.model.parameters()).device
        with nothing_drawn(), inside, self._precision(device):
            own = chunk.shares(self.model, scale)
        layers.refuse_uncalled()
        own.sum().backward()
        return own.detach()

    def _precision(self, device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16) if self._autocast else nullcontext()

    def next_chunks(self) -> list[list[Chunk]]:
        """Return the chunks of the next step, in one list; where dropout draws, in one a batch."""
        rows = []
        for lane, course in self.alive.items():
            for batch, held in enumerate(course.epochs.dealt(course.updates.taken)):
                rows += [Row(lane, batch, place, e) for place, e in enumerate(held)]
        rounds = [rows]
        if self._drops:
            count = 1 + max(row.batch for row in rows)
            rounds = [[row for row in rows if row.batch == b] for b in range(count)]
        return [
            [chunk_of(group, self._task, self._tokenizer) for group in cut(some, self._tokens)]
            for some in rounds
        ]

    def _dropout(self, alive: Mapping[int, Course]) -> LaneDropout:
        seeds = {lane: course.dropout_seed for lane, course in alive.items()}
        device = next(self.model.parameters()).device
        return LaneDropout(seeds, left=not num_labels(self.model), device=device)


def _by_lane(done: Sequence[tuple[Chunk, Tensor]]) -> dict[int, float]:
    """Add up the parts of each lane's loss."""
    losses: dict[int, float] = {}
    rows = [row for chunk, _ in done for row in chunk.rows]
    parts: list[float] = torch.cat([own for _, own in done]).tolist()
    for row, part in zip(rows, parts, strict=True):
        losses[row.lane] = losses.get(row.lane, 0.0) + part
    return losses
