"""What artefacts may set: fields that know their sentence, their default and whose default it is.

A class here is a group of fields that several artefacts share; an artefact's own configuration
inherits from those it needs and adds its own.
"""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")
XU_ZHANG = "Xu & Zhang 2024"
ID3 = "Agarwal et al. 2024"
#: the model and the data that come as packages, for presets that need no network
PACKAGED: dict[str, Any] = {"model": "smollm2-135m", "task": "rotten_tomatoes"}
#: the small encoder that comes as a package, for presets that need many steps
ENCODER: dict[str, Any] = PACKAGED | {"model": "minilm-l6", "targets": "*.self.[qv]*.weight"}


def paper(value: Value, source: str = XU_ZHANG) -> Value:
    """Declare a field whose default is a paper's; every other default is ours."""
    return dataclasses.field(default=value, metadata={"source": source})


@dataclass(frozen=True)
class Setting:
    """Hold what artefacts share; a field is an option, with a sentence and a default."""

    #: model: a packaged name, a hub name or a path
    model: str = paper("facebook/opt-125m")
    #: task, by name
    task: str = paper("sst2")
    #: folder with the task's files in the official layout, instead of the hub
    source: str = ""
    #: patterns of the masked modules
    targets: str = paper("*.[qv]_proj")
    #: trainable over all parameters
    ratios: tuple[float, ...] = paper((1e-1, 1e-2, 1e-3, 1e-4, 1e-5))
    #: each seed draws its mask, its examples and their order
    seeds: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class Tuned(Setting):
    """Add how every ratio is trained at several learning rates, of which dev chooses one."""

    #: the learning rates tried are each of these over the ratio, at most max_rate
    rate_times_ratio: tuple[float, ...] = (1e-7, 1e-6, 1e-5)
    #: largest learning rate tried
    max_rate: float = paper(1e-1)
    #: passes over the training examples
    epochs: int = paper(5)
    #: examples a step
    batch_size: int = paper(8)
    #: training, development and test examples
    num_train: int = paper(1000)
    num_dev: int = paper(500)
    num_test: int = paper(1000)
    #: training examples that the Hessian averages over
    hessian_examples: int = 64
    #: relative residual at which Lanczos stops
    tolerance: float = 1e-2
    #: matvecs after which Lanczos stops
    max_products: int = 60

    def rates(self, ratio: float) -> tuple[float, ...]:
        """List the learning rates tried at a ratio, rounded to two digits."""
        tried = {float(f"{min(c / ratio, self.max_rate):.2g}") for c in self.rate_times_ratio}
        return tuple(sorted(tried))


@dataclass(frozen=True)
class Trained(Setting):
    """Add how a mask is trained once: AdamW at a learning rate that goes like 1 / ratio."""

    #: trainable over all parameters
    ratios: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    #: each seed draws its mask, its examples and their order
    seeds: tuple[int, ...] = (0,)
    #: the learning rate is this over the ratio, at most max_rate
    rate_times_ratio: float = 1e-6
    #: largest learning rate
    max_rate: float = 1.0
    #: passes over the training examples
    epochs: int = paper(5)
    #: examples a step
    batch_size: int = paper(8)
    #: training examples
    num_train: int = paper(1000)
    #: development examples, on which the checkpoint is chosen
    num_dev: int = paper(500)
    #: training examples that the curvature averages over
    curvature_examples: int = 64
    #: examples in one pass through the model
    micro_batch: int = 8
    #: relative residual at which Lanczos stops
    tolerance: float = 1e-2
    #: matvecs after which Lanczos stops
    max_products: int = 60

    def rate(self, ratio: float) -> float:
        """Return the learning rate at a ratio."""
        return min(self.rate_times_ratio / ratio, self.max_rate)


#: presets of a `Trained` configuration: the smallest that runs, and the largest that is run here
TRAINED_SMOKE: dict[str, Any] = PACKAGED | {
    "rate_times_ratio": 1e-5, "epochs": 1, "num_train": 16, "num_dev": 8, "curvature_examples": 2,
}  # fmt: skip
TRAINED_LOCAL: dict[str, Any] = ENCODER | {
    "rate_times_ratio": 3e-5, "epochs": 1, "num_train": 640, "num_dev": 200,
    "curvature_examples": 32, "micro_batch": 32,
}  # fmt: skip


def origin(field: dataclasses.Field[Any]) -> str:
    """Return whose default a field has: a paper's name, or "ours"."""
    return str(field.metadata.get("source", "ours"))


def sentences(config: type) -> dict[str, str]:
    """Return what the ``#:`` comment above a field, or above several, says of it, by field."""
    found: dict[str, str] = {}
    kinds = [kind for kind in reversed(config.__mro__) if dataclasses.is_dataclass(kind)]
    for kind in kinds:
        comment: list[str] = []
        before = ""
        for line in map(str.strip, inspect.getsource(kind).splitlines()):
            if line.startswith("#:"):
                comment = [*(comment if before.startswith("#:") else []), line[2:].strip()]
            elif comment and line.partition(":")[0].isidentifier():
                found[line.partition(":")[0]] = " ".join(comment)
            before = line
    return found
