"""Runs that are computed by a formula: rows as training writes them, in no time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from landscape.sweep.config import RunConfig
from landscape.sweep.executors import Event, Job, Places
from landscape.sweep.measurements import key
from landscape.sweep.store import RunStore

Dev = Callable[[RunConfig], tuple[float, float] | None]
"""From a configuration to accuracy and loss on dev; None diverges."""


def peak(config: RunConfig, at: float = 1e-5) -> tuple[float, float]:
    """The best rate is `at` over the ratio, by decades; the seed is a small noise."""
    off = abs(math.log10(config.lr * (config.ratio or 1.0) / at)) if config.lr else 3.0
    return 0.9 - 0.1 * off + 0.001 * (config.seed % 7), 0.5 + off


def outcome(config: RunConfig, dev: Dev = peak) -> dict:
    found = dev(config)
    value, loss = found or (0.5, 0.7)
    scored = {"accuracy": value, "loss": loss, "n": config.num_dev}
    return {
        "metric": "accuracy", "count": 10, "ratio": 1e-3, "dev": scored, "test": scored,
        "correct": "01", "distance": 1.0, "relative_distance": 0.1, "diverged": found is None,
        "best_step": 1, "steps": 2, "train_loss": [1.0, 0.5], "evaluations": [], "identity": {},
        "seconds": 2.0, "peak_memory": 1000,
    }  # fmt: skip


def row(config: RunConfig, dev: Dev = peak) -> dict:
    return {"address": config.address, "config": config.as_dict(), "outcome": outcome(config, dev),
            "measured": {}}  # fmt: skip


def rows_of(configs: Sequence[RunConfig], dev: Dev = peak) -> dict[str, dict]:
    return {config.address: row(config, dev) for config in configs}


@dataclass
class ByFormula:
    """An executor; what it computed is noted, job by job.

    Args:
        dev: the formula.
        refused: address -> the sentence of a job that fails.
        ends: whether that ends the sweep.
        stop: jobs after which it is interrupted, as by Ctrl-C.
    """

    dev: Dev = peak
    refused: Mapping[str, str] = field(default_factory=dict)
    ends: bool = False
    stop: float = math.inf
    trained: list[str] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    places: Places = field(default_factory=Places)

    def __call__(
        self,
        jobs: Sequence[Job],
        store: RunStore,
        places: Places,
        tell: Callable[[Event], None],
    ) -> None:
        self.batches.append(len(jobs))
        self.places = places
        for job in jobs:
            run = job.config.address
            if len(self.trained) + len(self.measured) >= self.stop:
                raise KeyboardInterrupt
            tell(Event("began", job))
            if run in self.refused:
                tell(Event("failed", job, said=self.refused[run], ends=self.ends))
                continue
            if job.config not in store:
                store.write(job.config, outcome(job.config, self.dev), provenance={})
                self.trained.append(run)
            tell(Event("step", job, 1, 2))
            for name, options in job.measure.items():
                if key(name, options) not in store.row(job.config)["measured"]:
                    store.write_measured(
                        job.config, key(name, options), {"value": 1.0}, provenance={}
                    )
                    self.measured.append(run)
            diverged = store.row(job.config)["outcome"]["diverged"]
            tell(Event("diverged" if diverged else "finished", job))
