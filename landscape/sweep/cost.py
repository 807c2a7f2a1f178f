"""What a sweep would cost: how many runs, and their processor time, before any of them begins."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

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
        seconds: processor time of the known runs that are lacking; None where a model's is unknown.
        most_seconds: processor time with all further ones.
        basis: sentences that say what the time follows from.
    """

    known: int
    finished: int
    most: int
    seconds: float | None
    most_seconds: float | None
    basis: tuple[str, ...]


def estimate(grids: Sequence[Grid], rows: Rows, others: Iterable[Mapping[str, Any]]) -> Estimate:
    """Estimate what grids would cost; measurements are not counted.

    A run takes the median time of finished runs that differ in ratio, rate, mask or seed alone;
    else the time of runs of its model and task in proportion to its `work`; else what its
    operations take at a speed that is measured here: 2 x parameters x tokens a forward pass.

    Args:
        grids: of the sweep.
        rows: their finished rows, by address.
        others: finished rows of any grid.

    Cost: a tenth of a second where the speed is measured.
    """
    jobs = {job.config.address: job.config for job in wanted(grids, rows)}
    times = _Times(others)
    lacking = [times.of(config) for run, config in jobs.items() if run not in rows]
    seconds, most_seconds, most = _sum(lacking), None, at_most(grids, rows)
    if seconds is not None:
        every = [found or 0.0 for found in map(times.of, jobs.values())]
        most_seconds = seconds + (most - len(jobs)) * fmean(every)
    why = Counter(times.why(config) for run, config in jobs.items() if run not in rows)
    basis = [f"{count} run{'s' * (count > 1)} {said}" for said, count in why.items()]
    if any(grid.measure for grid in grids):
        basis.append("measurements are not counted")
    finished = sum(run in rows for run in jobs)
    return Estimate(len(jobs), finished, most, seconds, most_seconds, tuple(basis))


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

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._like: dict[str, list[float]] = {}
        self._pace: dict[str, list[float]] = {}
        self._speed: float | None = None
        for row in rows:
            wall = row["outcome"].get("seconds")
            if wall is None:
                continue
            config = RunConfig.of(row["config"])
            seconds = wall * row.get("provenance", {}).get("threads", 1)
            self._like.setdefault(_key(config, _LIKE), []).append(seconds)
            self._pace.setdefault(_key(config, _ALIKE), []).append(seconds / work(config))

    def of(self, config: RunConfig) -> float | None:
        """Return the processor time of a run in seconds, None where nothing is known of it."""
        if like := self._like.get(_key(config, _LIKE)):
            return median(like)
        if pace := self._pace.get(_key(config, _ALIKE)):
            return median(pace) * work(config)
        parameters = _parameters(config.model)
        if parameters is None:
            return None
        return 2 * parameters * TOKENS * work(config) / self._measured()

    def why(self, config: RunConfig) -> str:
        """Say what the time of a run follows from."""
        if _key(config, _LIKE) in self._like:
            return "as finished ones like them took"
        if _key(config, _ALIKE) in self._pace:
            return "as finished ones of their model and task took, by the examples seen"
        if _parameters(config.model) is None:
            return f"of {config.model} at a time that is unknown: none is finished here"
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
