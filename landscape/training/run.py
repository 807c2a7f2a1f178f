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
from landscape.shown import card
from landscape.training.best import BestOnDev
from landscape.training.point import Point


@dataclass(frozen=True, repr=False)
class Run:
    """Hold what a fine-tuning run did.

    Args:
        config: everything that determined its result.
        history: one dict a step: step, loss, gradient_norm; with a schedule of masks ``updated``,
            how many weights the step updated; with one of learning rates ``lr``.
        evaluations: one dict an evaluation on dev: step, the task's metric, loss.
        metrics: dev and test results of the chosen checkpoint, `best_step`, `diverged`, `steps`
            taken, `seconds`, `peak_memory` in bytes; `truncated`: how many train ``rows`` were cut,
            ``of`` how many, to how many ``tokens``, None where none was.
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

    def __repr__(self) -> str:
        dev, test = self.metrics.get("dev") or {}, self.metrics.get("test") or {}
        cut = self.metrics.get("truncated")
        truncation = f"; {told_truncated(cut)}" if cut else ""
        how = "diverged" if self.diverged else "read from its folder" if self.stored else "finished"
        said = ", ".join(f"{n} {_scores(one)}" for n, one in (("test", test), ("dev", dev)) if one)
        return (
            f"run on {self.config.get('task')}, {how} after {self.metrics['steps']} steps: "
            f"{said or 'not tested'}; best at step {self.metrics['best_step']}, distance "
            f"{self.distance['l2']:.4g}, {self.metrics['seconds']:.3g} s{truncation}"
        )

    def _repr_html_(self) -> str:
        told = {
            f"dev after step {e['step']}": _scores({k: v for k, v in e.items() if k != "step"})
            for e in self.evaluations
        }
        return card(repr(self), told | ({} if self.path is None else {"folder": self.path}))


def told_truncated(found: Mapping[str, int]) -> str:
    """Say which rows have lost tokens.

    >>> told_truncated({"rows": 12, "of": 1000, "tokens": 512})
    '12 of 1,000 train rows were cut to 512 tokens'
    """
    return f"{found['rows']:,} of {found['of']:,} train rows were cut to {found['tokens']:,} tokens"


def _scores(found: Mapping[str, float]) -> str:
    """Write a metric, a loss, and of how many examples they are."""
    n = f" (n = {int(found['n']):,})" if "n" in found else ""
    named = {k: v for k, v in found.items() if k not in ("n", "step")}
    return (
        " ".join(f"{k} {'none' if v is None else format(v, '.4g')}" for k, v in named.items()) + n
    )


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
        metrics: diverged, test, seconds and truncated.
    """
    every: dict[str, Any] = {
        "diverged": metrics["diverged"],
        "best_step": best.step,
        "steps": len(history),
        "dev": best.evaluation,
        "test": metrics["test"],
        "seconds": metrics["seconds"],
        "peak_memory": peak_memory(),
        "truncated": metrics["truncated"],
    }
    moved = dataclasses.asdict(distance(model, start))
    return Run(config, history, best.evaluations, every, moved, path)
