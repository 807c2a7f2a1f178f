"""What a measurement of a run is: a record of up to three functions, and where they look."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.sweep.config import RunConfig

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from landscape.tasks import Task
    from landscape.training.parts import Probe


@dataclass(frozen=True)
class Point:
    """Hold what a measurement looks at: a model with its trainable parameters, and its data.

    Args:
        config: of the run.
        model: before training at the pretrained weights with the mask attached, afterwards at the
            checkpoint that dev chose; a measurement leaves it as it was.
        tokenizer, task: of the run.
        folder: of the run, for files that a measurement keeps; None where nothing is kept.
        options: of the measurement.
    """

    config: RunConfig
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    task: Task
    folder: Path | None
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Measurement:
    """Say what is measured.

    Args:
        about: a sentence.
        before, after: point -> values, JSON; where both are there, they join the row as
            ``<name>_before`` and ``<name>_after``.
        during: point -> a probe of the training. What it adds to the record of a step joins the row
            as one of ``steps``, a list of dicts. So that a run that was killed has the same ones,
            it must be a function of the model, the optimizer and the step, not of earlier calls.
        options: that it has, with their usual values: a grid with another is refused; None where
            they are checked only as it measures.
    """

    about: str
    before: Callable[[Point], Mapping[str, Any]] | None = None
    after: Callable[[Point], Mapping[str, Any]] | None = None
    during: Callable[[Point], Probe] | None = None
    options: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def parts(self) -> tuple[str, ...]:
        """Return when it measures: some of "before", "during" and "after"."""
        return tuple(p for p in ("before", "during", "after") if getattr(self, p) is not None)


def key(name: str, options: Mapping[str, Any]) -> str:
    """Return the key of a measurement with its options: the same asks the same."""
    text = json.dumps([name, options], sort_keys=True)
    return f"{name.rpartition(':')[2]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
