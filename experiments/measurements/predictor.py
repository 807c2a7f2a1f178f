"""What predicts a learning rate, and what judges one: evidence before a run, losses after it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch

from landscape.advisor import measure_rates
from landscape.sweep.measurements import Measurement, Point
from landscape.sweep.measurements.curvature import chosen
from landscape.tasks.batches import make_batches
from landscape.tasks.outputs.scoring import task_split


def evidence(point: Point) -> dict[str, Any]:
    """Measure what `landscape.suggest_lr` looks at, raw, so that its constants can be fitted again.

    Options: ``examples`` (64) of the training split, in batches of the run's, each in parts of four
    rows; ``optimizer`` ("adamw").
    """
    asked = chosen(point, {"examples": 64, "optimizer": "adamw"})
    seen, size = point.task.train[: asked["examples"]], point.config.batch_size
    steps = [
        make_batches(seen[i : i + size], point.tokenizer, 4, sort=True, loss=point.task.loss)
        for i in range(0, len(seen), size)
    ]
    found = measure_rates(point.model, steps, optimizer=asked["optimizer"])
    return {"evidence": dataclasses.asdict(found)}


def losses(point: Point) -> dict[str, Any]:
    """Return the loss of every development example, null where it is not finite. No options."""
    chosen(point, {})
    model, task = point.model, point.task
    model.eval()
    found: list[float | None] = []
    with torch.no_grad():
        for batch in make_batches(task.dev, point.tokenizer, 32, sort=True, loss=task.loss):
            outputs, loss = task_split(model, batch)
            each = loss(outputs)[0].tolist()
            found += [round(t, 5) if math.isfinite(t) else None for t in each]
    return {"losses": found}


EVIDENCE = Measurement("what the predictor of learning rates looks at", before=evidence)
LOSSES = Measurement("the loss of every development example, after training", after=losses)
