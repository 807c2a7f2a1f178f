"""What a sweep would cost: how many runs, and their time on a device, before any of them begins."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from landscape.folders import device_name, kind_of
from landscape.shown import counted
from landscape.sweep.config import RunConfig
from landscape.sweep.grid import Grid
from landscape.sweep.plan import Rows, at_most, wanted

TOKENS = 64
"""Tokens an example is taken to have where nothing like it was ever run."""
#: what runs of about the same cost have in common, from the nearest to the farthest
_LIKE = ("model", "dtype", "task", "head", "method", "schedule", "options", "settings",
         "num_train", "num_dev", "num_test", "epochs", "batch_size")  # fmt: skip
_ALIKE = ("model", "dtype", "task")


@dataclass(frozen=True)
class Estimate:
    """Hold what a sweep would cost.

    Args:
        known: runs that are known to be needed; `finished` are those of them that are there.
        most: runs, if every search is widened as often as it may be.
        seconds: time on the device of the known runs that are lacking, of a processor times its
            threads; None where a model's is unknown.
        most_seconds: that time with all further ones.
        device: the name of what it is the time of.
        basis: sentences that say what the time follows from.
    """

    known: int
    finished: int
    most: int
    seconds: float | None
    most_seconds: float | None
    device: str
    basis: tuple[str, ...]


def estimate(
    grids: Sequence[Grid],
    rows: Rows,
    others: Iterable[Mapping[str, Any]],
    device: str | None = None,
) -> Estimate:
    """Estimate what grids would cost; measurements are not counted.

    A run takes the median time of finished runs that differ in ratio, rate, mask or seed alone;
    else the time of runs of its model and task in proportion to its `work`; else, on a processor,
    what its operations take at a speed that is measured here: 2 x parameters x tokens a forward
    pass. Runs that another device computed tell nothing: a GPU's are a hundred times as fast.

    Args:
        grids: of the sweep.
        rows: their finished rows, by address.
        others: finished rows of any grid.
        device: that would compute, such as "cuda"; None is the processor.

    Cost: a tenth of a second where the speed is measured.
    """
    jobs = {job.config.address: job.config for job in wanted(grids, rows)}
    times = _Times(others, device)
    lacking = [times.of(config) for run, config in jobs.items() if run not in rows]
    seconds, most_seconds, most = _sum(lacking), None, at_most(grids, rows)
    if seconds is not None:
        every = [found or 0.0 for found in map(times.of, jobs.values())]
        most_seconds = seconds + (most - len(jobs)) * fmean(every)
    why = Counter(times.why(config) for run, config in jobs.items() if run not in rows)
    basis = [f"{counted(count, 'run')} {said}" for said, count in why.items()]
    if any(grid.measure for grid in grids):
        basis.append("measurements are not counted")
    if times.elsewhere and len(lacking):
        basis.append(f"{counted(times.elsewhere, 'finished run')} of other devices tell nothing")
    finished = sum(run in rows for run in jobs)
    return Estimate(
        len(jobs), finished, most, seconds, most_seconds, times.device, tuple(basis)
    )  # fmt: skip


def work(config: RunConfig) -> float:
    """Return the forward passes of an example that a run amounts to.

    A step counts three, for its backward pass takes two; dev is evaluated every epoch.

    >>> work(RunConfig(epochs=2, num_train=100, num_dev=10, num_test=5))
    625
    """
    if config.method == "none":
        return config.num_dev + config.num_test
    return config.epochs * (3 * config.num_train + config.num_dev) + config.num_test


class _Times:
    """Tell what runs take, from those that are finished, or from their operations."""

    def __init__(self, rows: Iterable[Mapping[str, Any]], device: str | None) -> None:
        self.device = device_name(device)
        self.elsewhere = 0
        self._counts = kind_of(device) == "cpu"
        self._like: dict[str, list[float]] = {}
        self._pace: dict[str, list[float]] = {}
        self._speed: float | None = None
        for row in rows:
            wall, made = row["outcome"].get("seconds"), row.get("provenance", {})
            if wall is None:
                continue
            if made.get("device") != self.device:
                self.elsewhere += 1
                continue
            config = RunConfig.of(row["config"])
            seconds = wall * (made.get("threads", 1) if self._counts else 1)
            self._like.setdefault(_key(config, _LIKE), []).append(seconds)
            self._pace.setdefault(_key(config, _ALIKE), []).append(seconds / work(config))

    def of(self, config: RunConfig) -> float | None:
        """Return the processor time of a run in seconds, None where nothing is known of it."""
        if like := self._like.get(_key(config, _LIKE)):
            return median(like)
        if pace := self._pace.get(_key(config, _ALIKE)):
            return median(pace) * work(config)
        parameters = _parameters(config.model)
        if parameters is None or not self._counts:
            return None
        return 2 * parameters * TOKENS * work(config) / self._measured()

    def why(self, config: RunConfig) -> str:
        """Say what the time of a run follows from."""
        if _key(config, _LIKE) in self._like:
            return "as finished ones like them took"
        if _key(config, _ALIKE) in self._pace:
            return "as finished ones of their model and task took, by the examples seen"
        if _parameters(config.model) is None or not self._counts:
            return (
                f"of {config.model} on {config.task} at a time that is unknown: no such is "
                f"finished on {self.device}"
            )
        return (
            f"by a count of operations, at {TOKENS} tokens an example (short texts take a "
            f"fraction) and the {self._measured() / 1e9:.0f} GFLOP/s of a matrix product here"
        )

    def _measured(self) -> float:
        if self._speed is None:
            self._speed = measured_speed()
        return self._speed


def measured_speed(size: int = 768) -> float:
    """Return the operations a second of a float32 matrix product on one thread of this machine.

    By processor time, for a busy neighbour makes no run dearer.

    Args:
        size: of the square matrices.
    """
    import torch

    threads = torch.get_num_threads()
    a = torch.ones(size, size)
    try:
        torch.set_num_threads(1)
        best = min(_seconds(lambda: a @ a) for _ in range(4))
    finally:
        torch.set_num_threads(threads)
    return 2 * size**3 / best


def _seconds(call: Any) -> float:
    began = time.thread_time()
    call()
    return time.thread_time() - began


def _key(config: RunConfig, names: Sequence[str]) -> str:
    values = config.as_dict()
    return json.dumps([values[name] for name in names], sort_keys=True)


def _parameters(model: str) -> int | None:
    from landscape.models import PACKAGED

    return PACKAGED[model].parameters if model in PACKAGED else None


def _sum(seconds: Sequence[float | None]) -> float | None:
    known = [found for found in seconds if found is not None]
    return sum(known) if len(known) == len(seconds) else None
