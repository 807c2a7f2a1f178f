"""The configuration of one run, resolved: what determines its result, and its address."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal, get_args

from landscape import checks
from landscape.errors import UserError
from landscape.sweep.naming import known

Head = Literal["fitted", "random", "trained"]
ADDRESS = 16
"""Hexadecimal digits of an address."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Hold what determines the result of one fine-tuning run, in plain types.

    Where the task's files lie, the device and how many run at once are no part of it: they say how
    a run is computed, not which.

    Args:
        model: a packaged name, a hub name or a path.
        dtype: of the model's weights.
        head: of a model with a head: "fitted" to the training examples on the pretrained features,
            then frozen; "random" and frozen; or "trained" beside the mask. A language model has
            none.
        task: by name.
        num_train, num_dev, num_test: examples; `seed` draws them.
        method: "random" or "structured" masks; a score of `select_mask` or, with a schedule, of the
            schedule; a name in `landscape.baselines.BASELINES`; "none" evaluates the pretrained
            model.
        schedule: kind of a `landscape.Schedule`; "" for a mask that stays, or no mask.
        options: of the method or schedule: granularity, rank, steps, ...
        ratio: the papers' p, trainable over all parameters. A mask has exactly one of ratio and
            count, one in n:m blocks neither. "lora" and "adapter" may have one, and take the
            nearest rank or width, unless options say it; other baselines have neither.
        count: trainable weights.
        targets: patterns of the masked modules; ("auto",) is the model's query and value layers.
        lr: the learning rate; None for "none".
        epochs, batch_size: of the training.
        settings: other settings of `finetune`: optimizer, lr_schedule, autocast, ...
        seed: of the examples, their order, dropout, and a random head.
        mask_seed: of the mask; None is `seed`: every seed draws its own.

    Raises:
        UserError: a value that is out of range, or two that contradict each other.
    """

    model: str = "smollm2-135m"
    dtype: str = "float32"
    head: Head = "fitted"
    task: str = "rotten_tomatoes"
    num_train: int = 1000
    num_dev: int = 500
    num_test: int = 1000
    method: str = "random"
    schedule: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    ratio: float | None = None
    count: int | None = None
    targets: tuple[str, ...] = ("auto",)
    lr: float | None = None
    epochs: int = 5
    batch_size: int = 8
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    mask_seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("model", "dtype", "task", "method", "schedule"):
            checks.text(name, getattr(self, name))
        for name in ("options", "settings"):
            checks.instance(name, getattr(self, name), Mapping, "give a dict")
            for entry, value in getattr(self, name).items():
                _refuse_strange(f"the entry {entry} of {name}", value)
        plain: dict[str, Any] = {"targets": tuple(checks.patterns("targets", self.targets))}
        for name in ("num_train", "num_dev", "num_test", "epochs", "batch_size"):
            plain[name] = checks.whole(name, getattr(self, name), least=1)
        checks.choice("head", self.head, get_args(Head))
        if self.ratio is not None:
            plain["ratio"] = checks.number("ratio", self.ratio, above=0, most=1)
        if self.count is not None:
            plain["count"] = checks.whole("count", self.count, least=1)
        if self.lr is not None:
            plain["lr"] = checks.number("lr", self.lr, above=0)
        plain["seed"] = checks.seed(self.seed)
        if self.mask_seed is not None:
            plain["mask_seed"] = checks.seed(self.mask_seed, "mask_seed")
        if plain.get("mask_seed") == plain["seed"]:
            plain["mask_seed"] = None
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> RunConfig:
        """Make a configuration of named values, as JSON has them.

        Raises:
            UserError: a name that is none; the nearest one is offered.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        for name in given:
            known("a run's settings", name, names)
        return cls(**given)

    def as_dict(self) -> dict[str, Any]:
        """Return all values as JSON has them."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def named(self) -> dict[str, Any]:
        """Return the values that are not the defaults: what the address is made of.

        A setting that is new to this version so leaves the addresses of older runs as they are.
        """
        usual = _usual()
        return {k: v for k, v in self.as_dict().items() if v != usual[k]}

    @cached_property
    def address(self) -> str:
        """Return 16 hexadecimal digits that no other configuration has.

        >>> RunConfig(ratio=1e-3).address == RunConfig(ratio=0.001, seed=0).address
        True
        """
        text = json.dumps(self.named(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(f"run 1\0{text}".encode()).hexdigest()[:ADDRESS]

    def replace(self, **values: Any) -> RunConfig:
        """Return this configuration with other values."""
        return dataclasses.replace(self, **values)


@cache
def _usual() -> dict[str, Any]:
    """Return the default values."""
    return RunConfig().as_dict()


def _refuse_strange(name: str, value: Any) -> None:
    """Refuse what JSON lacks: a file would have something else than the address is made of."""
    try:
        json.dumps(_plain(value), allow_nan=False)
    except (TypeError, ValueError):
        raise UserError(
            f"expected finite numbers, texts, or lists and dicts of these for {name}, got "
            f"{checks.shown(value)}; name it so, and a large number for no limit"
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in sorted(value.items())}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value  # numpy's numbers
