"""What an executor is: from jobs that a store lacks to rows in it, told as it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from landscape.sweep.config import RunConfig
from landscape.sweep.store import RunStore


@dataclass(frozen=True)
class Job:
    """Hold a run and what is to be measured on it."""

    config: RunConfig
    measure: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Places:
    """Say where runs are computed and their inputs lie: nothing here changes a result.

    Args:
        sources: task -> folder with its files, instead of the hub.
        device: such as "cuda"; None is the CPU.
    """

    sources: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None


@dataclass(frozen=True)
class Event:
    """Tell what happened to a job: for a progress display and for nothing else.

    Args:
        kind: "began", "step" (with its number and the number of all), "finished", "diverged" (a
            result too) or "failed" (with the sentence); "alone" (with the reason): a pack ended,
            of which this is the first run, and its runs are computed one at a time.
        ends: whether every further job would fail as this one, which ends the sweep; else it goes
            on.
    """

    kind: Literal["began", "step", "finished", "diverged", "failed", "alone"]
    job: Job
    step: int = 0
    total: int = 0
    said: str = ""
    ends: bool = False


class Executor(Protocol):
    """Compute jobs: each exactly once, its row and measurements written whole into the store."""

    def __call__(
        self,
        jobs: Sequence[Job],
        store: RunStore,
        places: Places,
        tell: Callable[[Event], None],
    ) -> None:
        """Compute the jobs that the store lacks, or whose measurements it lacks.

        A job that fails by a user's mistake is told and left out; the others go on.
        """
