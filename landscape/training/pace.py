"""The pace of checkpoints: every so many steps, or as often as costs two percent of the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from landscape import checks

APART = 50.0
"""Time between two checkpoints, in units of what the last one took: they cost a part in 51."""
LONGEST = 600.0
"""Seconds between two checkpoints at most, whatever one took: a disk may have stalled once."""


class Pace:
    """Say after which steps a checkpoint is due.

    A kill costs what was computed since the last one: with ``every=None`` the step in flight where
    a step takes 50 times as long as a checkpoint, else about 50 times what a checkpoint takes.
    When one is written changes no number of a run.

    Args:
        every: steps between checkpoints, which are also written after evaluations; None is after
            the first step and the last, and whenever 50 times what the last one took has passed.
        clock: in seconds.

    Raises:
        UserError: steps below 1.
    """

    def __init__(
        self, every: int | None, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._every = None if every is None else checks.whole("checkpoint_every", every, least=1)
        self._clock, self._next = clock, -float("inf")

    @property
    def by_clock(self) -> bool:
        """Whether time says when, and not the steps."""
        return self._every is None

    def is_due(self, taken: int, *, evaluated: bool, last: bool) -> bool:
        """Tell whether a checkpoint is due after a step.

        Args:
            taken: steps so far.
            evaluated: whether the last of them was followed by an evaluation.
            last: whether no step is left, so that what follows, such as a test, starts from it.
        """
        if self._every is None:
            return last or self._clock() >= self._next
        return last or evaluated or taken % self._every == 0

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Time the writing of a checkpoint, after which the next one is due."""
        began = self._clock()
        yield
        ended = self._clock()
        self._next = ended + min(APART * (ended - began), LONGEST)
