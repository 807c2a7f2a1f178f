"""The checkpoint that is best on dev, and when to stop waiting for a better one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

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
    """

    def __init__(
        self, task: Task, select_by: SelectBy, start: dict[str, Tensor], patience: int | None = None
    ) -> None:
        self.evaluations: list[dict[str, Any]] = []
        """One dict an evaluation: step, the task's metric, loss."""
        self.point = start
        self.step = 0
        """Steps after which the best point was found, 0 while there is none."""
        self._metric, self._by_loss, self._patience = task.metric, select_by == "loss", patience
        self._key: tuple[float, ...] = (-math.inf, -math.inf)

    def judge(
        self, step: int, found: Mapping[str, float], point: Callable[[], dict[str, Tensor]]
    ) -> None:
        """Note an evaluation; keep the point where it is better than all before."""
        value, loss = found[self._metric], found["loss"]
        self.evaluations.append({"step": step, self._metric: value, "loss": loss})
        metric = value if METRICS[self._metric].larger_is_better else -value
        told = (-loss, metric) if self._by_loss else (metric, -loss)
        key = tuple(-math.inf if math.isnan(one) else one for one in told)
        if key > self._key:
            self.step, self._key, self.point = step, key, point()

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """Return the evaluation of the best point, None while there is none."""
        return next((e for e in self.evaluations if e["step"] == self.step), None)

    @property
    def is_final(self) -> bool:
        """Tell whether patience has run out."""
        later = sum(evaluation["step"] > self.step for evaluation in self.evaluations)
        return self._patience is not None and later >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of what is kept."""
        point = {name: value.clone() for name, value in self.point.items()}
        noted = [dict(evaluation) for evaluation in self.evaluations]
        return {"step": self.step, "key": list(self._key), "point": point, "evaluations": noted}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keep what another kept."""
        devices = {name: value.device for name, value in self.point.items()}
        self.step, self._key = state["step"], tuple(state["key"])
        self.point = {n: value.to(devices[n], copy=True) for n, value in state["point"].items()}
        self.evaluations = [dict(evaluation) for evaluation in state["evaluations"]]
