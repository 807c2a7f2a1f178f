"""What a sweep shows while it runs: one table on a terminal, a line a run elsewhere, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from landscape.sweep.config import RunConfig
from landscape.sweep.executors import Event, Job

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table


@dataclass
class Counts:
    """Count what a sweep has done; `parts` are the shares that running ones have done.

    Args:
        known: jobs that are known to be needed.
        most: jobs that there may be, once the finished ones choose rates.
        done: those of them that are finished, of which `diverged` ones.
        failed: addresses of those that failed, until they are tried once more.
        here: those that this sweep itself has ended, from which the time left follows.
        clock: in seconds.
    """

    known: int = 0
    most: int = 0
    done: int = 0
    diverged: int = 0
    failed: set[str] = field(default_factory=set)
    here: int = 0
    parts: dict[str, float] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def count(self, event: Event) -> None:
        """Count what happened to a job."""
        address = event.job.config.address
        if event.kind == "alone":
            return
        if event.kind == "began":  # perhaps once more: a run that was packed is finished alone
            self.parts.setdefault(address, 0.0)
            return
        if event.kind == "step":
            self.parts[address] = event.step / event.total
            return
        self.parts.pop(address, None)
        self.here += address not in self.failed
        if event.kind == "failed":
            self.failed.add(address)
            return
        self.failed.discard(address)
        self.done += 1
        self.diverged += event.kind == "diverged"

    @property
    def left(self) -> float | None:
        """Return the seconds that known jobs still take at this pace, None before there is one."""
        worked = self.here + sum(self.parts.values())
        if worked <= 0:
            return None
        rest = self.known - self.done - len(self.failed) - sum(self.parts.values())
        return max(rest, 0.0) * (self.clock() - self.began) / worked

    def row(self) -> dict[str, str]:
        """Return what is shown, by the columns' names."""
        left, more = self.left, self.most > self.known
        return {
            "done": f"{self.done} of {self.known}" + more * f" to {self.most}",
            "running": str(len(self.parts)),
            "diverged": str(self.diverged), "failed": str(len(self.failed)),
            "time left": "?" if left is None else duration(left) + more * " or more",
        }  # fmt: skip


class Progress:
    """Show what happens to the jobs of a sweep; a context, in which it is shown.

    Args:
        shown: False shows nothing.
        console: where the table is shown; standard output if absent.
    """

    def __init__(self, shown: bool = True, *, console: Console | None = None) -> None:
        self.counts = Counts()
        self._shown = shown
        self._console = console
        self._live: Live | None = None
        self._differ: tuple[str, ...] = ()
        self._planned = False

    def __enter__(self) -> Self:
        if self._shown:
            from rich.console import Console
            from rich.live import Live

            console = self._console or Console()
            if console.is_terminal:
                self._live = Live(get_renderable=self._table, console=console, refresh_per_second=2)
                self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def plan(
        self, jobs: Sequence[Job], lacking: Sequence[Job], diverged: int, most: int = 0
    ) -> None:
        """Take note of a plan, and say of the first what it lacks, for a run may take long.

        Args:
            jobs: all that are known to be needed, of which `lacking` are not finished.
            diverged: how many of the finished ones diverged.
            most: jobs that there may be.
        """
        self.counts.known, self.counts.most = len(jobs), most
        self.counts.done = len(jobs) - len(lacking)
        self.counts.diverged = diverged
        self.counts.failed &= {job.config.address for job in lacking}
        self.counts.parts.clear()
        self._differ = differing([job.config for job in jobs])
        if not self._planned and lacking and self._live is None:
            self.note(f"computing: {self.counts.row()['done']} runs are done")
        self._planned = True

    def tell(self, event: Event) -> None:
        """Show what happened to a job."""
        self.counts.count(event)
        if event.kind == "alone":
            self.note(f"a pack is computed one run at a time instead: {event.said}")
            return
        if not self._shown or self._live is not None or event.kind in ("began", "step"):
            return
        shown = self.counts.row()
        said = f": {event.said}" if event.said else ""
        print(
            f"{event.kind} {label(event.job.config, self._differ)}{said} ({shown['done']} done, "
            f"{shown['diverged']} diverged, {shown['failed']} failed, {shown['time left']} left)",
            flush=True,
        )

    def note(self, sentence: str) -> None:
        """Show a sentence about the store."""
        if self._shown:
            print(sentence, flush=True)

    def _table(self) -> Table:
        from rich.table import Table

        shown = self.counts.row()
        table = Table(*shown, title="sweep")
        table.add_row(*shown.values())
        return table


def differing(configs: Sequence[RunConfig]) -> tuple[str, ...]:
    """Name the values in which configurations differ, in the order of the fields.

    >>> differing([RunConfig(lr=0.1), RunConfig(lr=0.2, seed=1)])
    ('lr', 'seed')
    """
    values = [config.as_dict() for config in configs]
    return tuple(name for name in RunConfig().as_dict() if any(
        one[name] != values[0][name] for one in values
    ))  # fmt: skip


def label(config: RunConfig, names: Sequence[str]) -> str:
    """Name a run in few words: its address and some of its values.

    >>> label(RunConfig(lr=0.1, seed=2), ("lr", "seed"))[17:]
    '(lr 0.1, seed 2)'
    """
    values = config.as_dict()
    said = ", ".join(f"{name} {values[name]}" for name in names if values[name] is not None)
    return f"{config.address} ({said})" if said else config.address


def duration(seconds: float) -> str:
    """Write a time in two figures or so.

    >>> duration(42.4), duration(150), duration(3 * 3600 + 60), duration(200000)
    ('42 s', '2.5 min', '3.0 h', '2.3 days')
    """
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size * (2 if unit == "days" else 1):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
