"""The steps of several lanes together, as a state that can be saved and gone on from."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape import checks
from landscape.errors import UserError
from landscape.tasks.evaluation import evaluate
from landscape.tasks.task import SplitName
from landscape.training.packed.alone import alone
from landscape.training.packed.chunks import Chunk
from landscape.training.packed.course import Course
from landscape.training.packed.gradients import Gradients
from landscape.training.packed.lane import Lane
from landscape.training.packed.layers import is_batched
from landscape.training.packed.refusals import why_not
from landscape.training.run import run_of
from landscape.training.updates import gradient_norms

GPU_ROWS = 256
"""Examples of a forward of an evaluation on a GPU, which 32 do not fill."""


class Pack:
    """Train several lanes together, a step of each at a time.

    Args:
        model: the frozen one; its weights are what they were after every step.
        tokenizer: of the model.
        lanes: at least one; they see examples of one kind, with one loss and one precision.
        tokens: most tokens of a chunk, padding included; None is 2048, and 16384 on a GPU.

    Raises:
        UserError: lanes that cannot be packed, with the reason; or as `finetune`.
    """

    def __init__(
        self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, lanes: Sequence[Lane],
        *, tokens: int | None = None,
    ) -> None:  # fmt: skip
        checks.model(model)
        checks.tokenizer(tokenizer)
        _refuse(model, lanes)
        self._gradients = Gradients(
            model, tokenizer, lanes[0].task, autocast=lanes[0].settings.autocast is not None,
            tokens=tokens,
        )  # fmt: skip
        self._batched = is_batched(next(model.parameters()))
        self.model, self._tokenizer = model, tokenizer
        self.courses = [Course(model, tokenizer, lane) for lane in lanes]

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
        for course in alive.values():
            course.updates.clear()
        losses = self._gradients.put(alive)
        norms = gradient_norms([c.updates for c in alive.values()]) if self._batched else ()
        for i, (lane, course) in enumerate(alive.items()):
            norm = norms[i] if norms else None
            course.history.append(course.updates.update(losses[lane], norm=norm))
        due = [c for c in alive.values() if c.epochs.is_evaluation_due(c.updates.taken)]
        for course in due:
            self._judge(course)
        for course in alive.values():
            course.seconds += (time.perf_counter() - began) / len(alive)
        return bool(due)

    def next_chunks(self) -> list[list[Chunk]]:
        """Return the chunks of the next step, as `Gradients.chunks`."""
        return self._gradients.chunks(self.alive)

    def finish(self, course: Course) -> None:
        """Test a lane at its best point and sum it up."""
        began = time.perf_counter()
        with alone(self.model, course, course.best.point):
            tested = self.evaluate(course, "test") if course.lane.settings.test else None
            seconds = course.seconds + time.perf_counter() - began
            told = {"diverged": course.updates.diverged, "test": tested, "seconds": seconds}
            course.run = run_of(
                self.model, course.start, course.best, course.config, course.history, told, None
            )

    def evaluate(self, course: Course, split: SplitName) -> dict[str, float]:
        """Return what `landscape.evaluate` says of the model, which is one lane's now."""
        return evaluate(
            self.model, self._tokenizer, course.lane.task, split=split,
            batch_size=GPU_ROWS if self._batched else 32, max_length=course.limit,
            bos=course.lane.settings.bos,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of where every lane is."""
        return {str(i): course.state_dict() for i, course in enumerate(self.courses)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a state, of a pack that was made alike; it goes on bit for bit as that one."""
        for i, course in enumerate(self.courses):
            course.load_state_dict(state[str(i)])

    def _judge(self, course: Course) -> None:
        if course.updates.diverged:
            return
        with course.updates.judged():
            if not course.is_finite():
                course.updates.diverged = True
                return
            with alone(self.model, course, course.point()):
                found = self.evaluate(course, "dev")
            course.best.judge(course.updates.taken, found, course.point)


def _refuse(model: nn.Module, lanes: Sequence[Lane]) -> None:
    checks.several("lanes", lanes, "lanes")
    if not lanes:
        checks.refuse("lanes", "at least one lane", "none", "make some with Lane")
    for lane in lanes:
        checks.instance("each lane", lane, Lane, "make one with Lane")
        reason = why_not(model, lane)
        if reason is None and _together(lane) != _together(lanes[0]):
            reason = "lanes of a pack share the kind of examples, the loss and autocast"
        if reason is not None:
            raise UserError(
                f"expected runs that can be packed, got one that cannot, since {reason}; train it "
                "alone with finetune"
            )


def _together(lane: Lane) -> tuple[object, ...]:
    """Return what the lanes of a pack have in common."""
    return lane.task.kind, lane.task.loss, lane.settings.autocast
