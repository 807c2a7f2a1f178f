"""Times of several functions, taken in turn, so that a busy machine is slow to all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from landscape.errors import UserError


@dataclass(frozen=True)
class Times:
    """Hold the seconds of every function, a round each.

    Args:
        wall: name -> seconds by the clock.
        cpu: name -> seconds of this process's threads together, without those it waited.
    """

    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]

    def over(self, name: str, base: str) -> dict[str, float | list[float]]:
        """Return the ratios of two functions' times in a round: medians and quartiles.

        >>> Times({"a": [2.0, 9.0], "b": [1.0, 3.0]}, {"a": [1.0], "b": [1.0]}).over("a", "b")
        {'wall': 2.5, 'wall_quartiles': [2.25, 2.75], 'cpu': 1.0, 'cpu_quartiles': [1.0, 1.0]}
        """
        found: dict[str, float | list[float]] = {}
        for clock, times in (("wall", self.wall), ("cpu", self.cpu)):
            ratios = [a / b for a, b in zip(times[name], times[base], strict=True)]
            found[clock] = median(ratios)
            found[f"{clock}_quartiles"] = np.quantile(ratios, [0.25, 0.75]).tolist()
        return found


def interleaved(functions: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Call every function once a round, in turn, after a round to warm up.

    Every other round runs backwards, so that what a function leaves in caches is nobody's gain.

    Raises:
        UserError: rounds is below 1.
    """
    refuse_rounds(rounds)
    times = Times({name: [] for name in functions}, {name: [] for name in functions})
    for turn in range(rounds + 1):
        names = list(functions)
        for name in names if turn % 2 else names[::-1]:
            wall, cpu = time.perf_counter(), time.process_time()
            functions[name]()
            if turn:
                times.wall[name].append(time.perf_counter() - wall)
                times.cpu[name].append(time.process_time() - cpu)
    return times


def refuse_rounds(rounds: int) -> None:
    """Refuse a benchmark without a round.

    Raises:
        UserError: rounds is below 1.
    """
    if rounds < 1:
        raise UserError(f"expected at least 1 timed round, got {rounds}; give rounds=1 or more")
