"""Probes of `finetune` as callbacks of a transformers trainer."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback


class Probe(Protocol):
    """What `finetune` calls: `start` once, then the probe itself after every step."""

    def start(self, optimizer: Optimizer) -> None:
        """Begin a run."""

    def __call__(self, model: nn.Module, record: dict[str, Any]) -> None:
        """Look at the model after a step; what it finds goes into the step's record."""


class ProbeCallback(TrainerCallback):
    """Forward the events of a trainer to a probe, and what it finds to ``state.log_history``."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Start the probe."""
        self._probe.start(given["optimizer"])

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Let the probe look at the model."""
        record: dict[str, Any] = {"step": state.global_step}
        self._probe(given["model"], record)
        if len(record) > 1:
            state.log_history.append(record)
