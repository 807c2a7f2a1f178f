"""What a fine-tuning run did."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from landscape.distances import distance
from landscape.folders import peak_memory
from landscape.training.best import BestOnDev
from landscape.training.point import Point


@dataclass(frozen=True)
class Run:
    """Hold what a fine-tuning run did.

    Args:
        config: everything that determined its result.
        history: one dict a step: step, loss, gradient_norm; with a schedule of masks ``updated``,
            how many weights the step updated; with one of learning rates ``lr``.
        evaluations: one dict an evaluation on dev: step, the task's metric, loss.
        metrics: dev and test results of the chosen checkpoint, `best_step`, `diverged`, `steps`
            taken, `seconds`, `peak_memory` in bytes.
        distance: the distance of the chosen checkpoint to initialisation.
        path: the run's folder, or None.
        stored: whether the run was finished before, and this was read from its folder.
    """

    config: dict[str, Any]
    history: list[dict[str, float]]
    evaluations: list[dict[str, float]]
    metrics: dict[str, Any]
    distance: dict[str, Any]
    path: Path | None = None
    stored: bool = False

    @property
    def diverged(self) -> bool:
        """Tell whether the loss became NaN or infinite, which ended the run."""
        return bool(self.metrics["diverged"])


def run_of(
    model: nn.Module,
    start: Point,
    best: BestOnDev,
    config: dict[str, Any],
    history: list[dict[str, float]],
    metrics: Mapping[str, Any],
    path: Path | None,
) -> Run:
    """Sum up a run whose model is at its chosen point.

    Args:
        model, start: its distance is measured from here.
        best: what dev said.
        config, history, path: of the run.
        metrics: diverged, test and seconds.
    """
    every: dict[str, Any] = {
        "diverged": metrics["diverged"],
        "best_step": best.step,
        "steps": len(history),
        "dev": best.evaluation,
        "test": metrics["test"],
        "seconds": metrics["seconds"],
        "peak_memory": peak_memory(),
    }
    moved = dataclasses.asdict(distance(model, start))
    return Run(config, history, best.evaluations, every, moved, path)
