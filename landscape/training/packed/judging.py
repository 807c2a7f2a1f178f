"""Evaluations of several lanes in the same forwards, each on its own examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from landscape.models.modes import eval_mode
from landscape.tasks.batches import length_order
from landscape.tasks.encoding import length_limit
from landscape.tasks.example import Example, TextExample
from landscape.tasks.fitting import refuse_unfit
from landscape.tasks.forms import form_of
from landscape.tasks.forms.form import AnyEncoded, Encoding, Judging
from landscape.tasks.metrics import METRICS, Prediction
from landscape.tasks.task import SplitName
from landscape.training.packed.course import Course
from landscape.training.packed.layers import Layers
from landscape.training.packed.stacked import Rows, Stack

TOKENS = 2**16
"""Most tokens of a forward, padding included; it keeps no activations."""

ROWS = 2**11
"""Most rows of a forward, which bounds the logits of a vocabulary."""

Told = dict[str, float]


class Judge:
    """Judge lanes as `landscape.evaluate` does, many in a forward.

    Args:
        model: the frozen one.
        tokenizer: of the model.
    """

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._encoded: dict[tuple[object, ...], list[AnyEncoded]] = {}

    def can(self, courses: Mapping[int, Course], split: SplitName) -> bool:
        """Tell whether lanes can be judged together: examples of one row and one loss term each."""
        if len({course.lane.task.metric for course in courses.values()}) != 1:
            return False
        for course in courses.values():
            examples = course.lane.task.split(split)
            if not examples:
                return False
            if type(examples[0]) is Example:
                encoded = self._rows(course, split)
                if not all(e.single_token for e in encoded):  # type: ignore[attr-defined]
                    return False
            elif type(examples[0]) is not TextExample:
                return False
        return True

    @torch.no_grad()
    def judge(self, courses: Mapping[int, Course], split: SplitName, stack: Stack) -> list[Told]:
        """Return what `evaluate` would of each lane at the stack's thetas.

        Args:
            courses: those of the stack, all that it has; `can` says yes.
            split: to judge on.
            stack: of their thetas.
        """
        encoded = [self._rows(course, split) for course in courses.values()]
        examples = [course.lane.task.split(split) for course in courses.values()]
        for own in examples:
            refuse_unfit(self._model, own)
        form, judging = form_of(examples[0]), self._judging(next(iter(courses.values())))
        orders = [length_order(own) for own in encoded]
        predictions: list[list[Prediction | None]] = [[None] * len(own) for own in orders]
        losses: list[list[float]] = [[] for _ in orders]
        layers = Layers(self._model, courses)
        layers.stack = stack
        stack.begin()
        torch.clear_autocast_cache()
        with eval_mode(self._model), layers.installed():
            for taken in self._forwards(encoded, orders):
                layers.sizes = dict(zip(courses, map(len, taken), strict=True))
                stack.at = Rows.of(0, list(map(len, taken)), stack.device)
                chosen = [(lane, i) for lane, own in enumerate(taken) for i in own]
                rows = [encoded[lane][i] for lane, i in chosen]
                asked = int(type(examples[0][0]) is Example)  # the candidates' token
                layers.length = max(e.length for e in rows) - asked
                found = form.judge(
                    self._model, rows, [examples[lane][i] for lane, i in chosen], judging
                )
                told = zip(chosen, found.predictions, found.losses, strict=True)
                for (lane, i), prediction, loss in told:
                    predictions[lane][i] = prediction
                    losses[lane].append(loss)
        return [
            {
                judging.metric.name: judging.metric(
                    predictions[i], [form.answers(judging.metric, e) for e in own]
                ),
                "loss": math.fsum(losses[i]) / len(own),
                "n": len(own),
            }
            for i, own in enumerate(examples)
        ]

    def _forwards(
        self, encoded: Sequence[Sequence[AnyEncoded]], orders: Sequence[Sequence[int]]
    ) -> list[list[Sequence[int]]]:
        """Return the examples of each forward, by lane: the longest of each lane first."""
        starts, found = [0] * len(orders), []
        while any(start < len(order) for start, order in zip(starts, orders, strict=True)):
            left = [order[start:] for start, order in zip(starts, orders, strict=True)]
            longest = max(encoded[i][own[0]].length for i, own in enumerate(left) if own)
            count = sum(map(bool, left))
            size = max(1, min(TOKENS // longest, ROWS) // count)
            found.append([own[:size] for own in left])
            starts = [start + size for start in starts]
        return found

    def _rows(self, course: Course, split: SplitName) -> list[AnyEncoded]:
        key = id(course.lane.task), split, course.limit, course.lane.settings.bos
        if key not in self._encoded:
            examples, how = course.lane.task.split(split), self._judging(course).encoding
            self._encoded[key] = form_of(examples).encode(examples, self._tokenizer, how)
        return self._encoded[key]

    def _judging(self, course: Course) -> Judging:
        task, settings = course.lane.task, course.lane.settings
        encoding = Encoding(length_limit(self._model, course.limit), settings.bos)
        return Judging(METRICS[task.metric], task.loss, self._tokenizer, encoding, task.generation)
