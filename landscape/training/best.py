"""The checkpoint that is best on dev, and when to stop waiting for a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from landscape.errors import UserError
from landscape.tasks import Task
from landscape.tasks.metrics import METRICS
from landscape.training.settings import SelectBy


class BestOnDev:
    """Keep the point that dev judges best: the first of equals.

    Args:
        task: whose metric judges.
        select_by: "metric", the task's, ties going to the lower loss; "accuracy", the same where
            that is the task's metric; or "loss", ties going to the better metric.
        start: the point to keep where no evaluation is any good.
        patience: evaluations without a better one after which to stop; None never stops.

    Raises:
        UserError: "accuracy" for a task that is judged by something else.
    """

    def __init__(
        self, task: Task, select_by: SelectBy, start: dict[str, Tensor], patience: int | None = None
    ) -> None:
        if select_by == "accuracy" and task.metric != "accuracy":
            raise UserError(
                f'expected select_by "metric" or "loss" for a task judged by {task.metric}, got '
                '"accuracy"; leave select_by out'
            )
        self.point = start
        self.step = 0
        self._metric, self._by_loss, self._patience = task.metric, select_by == "loss", patience
        self._key = (-math.inf, -math.inf)

    def beaten_by(self, found: Mapping[str, float]) -> bool:
        """Tell whether an evaluation is better than all before it."""
        return self._key_of(found) > self._key

    def become(self, step: int, found: Mapping[str, float], point: dict[str, Tensor]) -> None:
        """Keep a point with its evaluation, and the step after which it was found."""
        self.step, self._key, self.point = step, self._key_of(found), point

    def is_final(self, evaluations: list[dict[str, Any]]) -> bool:
        """Tell whether patience has run out."""
        later = sum(evaluation["step"] > self.step for evaluation in evaluations)
        return self._patience is not None and later >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept."""
        point = {name: value.clone() for name, value in self.point.items()}
        return {"step": self.step, "key": list(self._key), "point": point}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keep what another kept."""
        devices = {name: value.device for name, value in self.point.items()}
        self.step, self._key = state["step"], tuple(state["key"])
        self.point = {n: value.to(devices[n], copy=True) for n, value in state["point"].items()}

    def _key_of(self, found: Mapping[str, float]) -> tuple[float, float]:
        value, loss = found[self._metric], -found["loss"]
        metric = value if METRICS[self._metric].larger_is_better else -value
        return (loss, metric) if self._by_loss else (metric, loss)
