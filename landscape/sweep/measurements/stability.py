"""Stability during a run: sharpness, plain and in the optimizer's metric, beside its threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from landscape import checks
from landscape.curvature.tracking import SharpnessProbe
from landscape.sweep.measurements.curvature import DATA, batches_of, chosen
from landscape.sweep.measurements.measurement import Measurement, Point
from landscape.tasks.outputs.scoring import task_loss

SEARCH: dict[str, Any] = {**DATA, "tol": 0.05, "max_matvecs": 40}
TRACKING_OPTIONS: dict[str, Any] = {**SEARCH, "every": 10}


class ColdProbe:
    """Measure sharpness at certain steps, each time from a cold start.

    `SharpnessProbe` goes on from its last eigenvector, which a run that was killed has lost; this
    one finds the same whatever came before, at the price of some more matvecs.

    Args:
        point: the run at its start; the options are those of the measurement.
        asked: the options, all of them.
        due: whether a step, counted from 1, is measured.
    """

    def __init__(self, point: Point, asked: dict[str, Any], due: Callable[[int], bool]) -> None:
        self._batches = batches_of(point, asked)
        self._probe = SharpnessProbe(
            self._batches, every=1, tol=asked["tol"], max_matvecs=asked["max_matvecs"]
        )
        self._due = due
        self._optimizer: Optimizer | None = None

    def start(self, optimizer: Optimizer) -> None:
        """Begin a run, or go on with one."""
        self._probe.start(optimizer)
        self._optimizer = optimizer

    def __call__(self, model: nn.Module, record: dict[str, Any]) -> None:
        """Measure, if the step is due, and write what was found into its record.

        Where the loss is not finite, no curvature is defined: its sharpness is NaN.
        """
        if not self._due(record["step"]):
            return
        with torch.no_grad():
            losses = [task_loss(model, batch)[0] for batch in self._batches]
        if not all(math.isfinite(loss) for loss in losses):
            record["sharpness"] = math.nan
            return
        assert self._optimizer is not None
        self._probe.start(self._optimizer)
        record.update(self._probe.measure(model))


def tracking(point: Point) -> ColdProbe:
    """Track sharpness during training, as `SharpnessProbe` defines it.

    Options: ``every`` (10) steps, from the first; ``examples`` (32) and ``batch_size`` (4) of the
    loss; ``tol`` (0.05) and ``max_matvecs`` (40).
    """
    asked = chosen(point, TRACKING_OPTIONS)
    every = checks.whole("every", asked["every"], least=1)
    return ColdProbe(point, asked, lambda step: (step - 1) % every == 0)


def preconditioned(point: Point) -> ColdProbe:
    """Measure sharpness in the optimizer's own metric at the last step of the training.

    With AdamW ``preconditioned_sharpness`` is lambda_1(P^-1 H), P of the state at that step, and
    ``preconditioned_threshold`` the value at which it turns unstable. A run that ends before its
    last step, diverged or out of patience, has none.

    Options: ``examples`` (32) and ``batch_size`` (4) of the loss; ``tol`` (0.05), ``max_matvecs``
    (40).
    """
    config, asked = point.config, chosen(point, SEARCH)
    rows = config.batch_size * int(config.settings.get("accumulate", 1))
    last = config.epochs * -(-len(point.task.train) // rows)
    return ColdProbe(point, asked, lambda step: step == last)


TRACKING = Measurement(
    "sharpness during training, every few steps", during=tracking, options=TRACKING_OPTIONS
)
PRECONDITIONED = Measurement(
    "sharpness in AdamW's own metric at the last step, beside its threshold",
    during=preconditioned, options=SEARCH,
)  # fmt: skip
