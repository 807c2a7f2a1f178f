"""The settings of a run: what determines its result beside model, tokenizer, task and schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, get_args

from landscape import checks
from landscape.errors import UserError
from landscape.tasks.encoding import Bos
from landscape.training.adamw import check_betas
from landscape.training.lr_schedule import LrSchedule
from landscape.training.optimizer import TAKES, MakeOptimizer, OptimizerName, name_of

SelectBy = Literal["metric", "accuracy", "loss"]
Autocast = Literal["bf16"]
LossAverage = Literal["terms", "batches"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Hold the settings of a run, in plain types; `finetune` explains each."""

    lr: float
    epochs: int = 5
    batch_size: int = 8
    seed: int = 0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    test: bool = True
    max_gradient_norm: float = 1.0
    evaluations_per_epoch: int = 1
    select_by: SelectBy = "metric"
    max_length: int | None = None
    bos: Bos = "tokenizer"
    optimizer: OptimizerName | MakeOptimizer = "adamw"
    momentum: float = 0.0
    lr_schedule: LrSchedule = "constant"
    warmup: int | float = 0
    accumulate: int = 1
    autocast: Autocast | None = None
    patience: int | None = None
    dense_lr: float | None = None
    loss_average: LossAverage = "terms"
    evaluate_every: int | None = None

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Settings:
        """Check settings and return them.

        Raises:
            UserError: one that is unknown, missing, out of range, or without effect beside others.
        """
        known = [f.name for f in fields(cls)]
        unknown = [name for name in given if name not in known]
        if unknown or "lr" not in given:
            raise UserError(
                f"expected settings among {', '.join(known)}, lr among them, got "
                f"{', '.join(given) or 'none'}; check the spelling"
            )
        found = cls(**{name: _KINDS[name](name, value) for name, value in given.items()})
        found._refuse_without_effect()
        return found

    def config(self) -> dict[str, Any]:
        """Return the settings as a run's folder holds them: JSON, new ones where they are used.

        A folder of an older version, which does not know them, is so the folder of the same run.
        """
        config = {f.name: getattr(self, f.name) for f in fields(self)}
        for field in fields(self)[[f.name for f in fields(self)].index("optimizer") :]:
            if config[field.name] == field.default:
                del config[field.name]
        if "optimizer" in config:
            config["optimizer"] = name_of(self.optimizer, self.lr)
        return config | {"betas": list(self.betas)}

    def of_optimizer(self) -> dict[str, Any]:
        """Return the settings that `make_optimizer` takes, beside its parameters."""
        names = ("optimizer", "lr", "betas", "eps", "weight_decay", "momentum")
        return {name: getattr(self, name) for name in names}

    def _refuse_without_effect(self) -> None:
        if self.evaluate_every is not None and self.evaluations_per_epoch != 1:
            raise UserError(
                f"expected evaluate_every or evaluations_per_epoch, got {self.evaluate_every} and "
                f"{self.evaluations_per_epoch}; leave one out"
            )
        name = self.optimizer
        taken = TAKES[name] if isinstance(name, str) else ()
        for field in fields(self):
            optional = field.name in ("betas", "eps", "weight_decay", "momentum")
            if optional and field.name not in taken and getattr(self, field.name) != field.default:
                shown = repr(name) if isinstance(name, str) else "a function, which sets its own"
                raise UserError(
                    f"expected an optimizer that takes {field.name}, got {shown}; leave "
                    f"{field.name} out, or choose another optimizer"
                )
        if name == "schedule-free" and self.lr_schedule != "constant":
            raise UserError(
                f'expected lr_schedule "constant" with the optimizer "schedule-free", which '
                f"averages instead, got {self.lr_schedule!r}; leave it out, or choose adamw"
            )


def _optimizer(name: str, value: object) -> OptimizerName | MakeOptimizer:
    if callable(value):
        return value
    checks.choice(name, value, get_args(OptimizerName))
    return value  # type: ignore[return-value]


def _warmup(name: str, value: object) -> int | float:
    """Return a number of steps, or a share of all."""
    if isinstance(value, float):
        return checks.number(name, value, least=0, below=1)
    return checks.whole(name, value)


def _or_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else check(name, value)


def _one_of(kind: Any) -> Callable[[str, Any], Any]:
    return lambda name, value: checks.choice(name, value, get_args(kind))


_WHOLE = partial(checks.whole, least=1)
_KINDS: dict[str, Callable[[str, Any], Any]] = {
    "lr": partial(checks.number, above=0),
    "epochs": _WHOLE,
    "batch_size": _WHOLE,
    "seed": lambda name, value: checks.seed(value, name),
    "weight_decay": partial(checks.number, least=0),
    "betas": check_betas,
    "eps": partial(checks.number, least=0),
    "test": checks.flag,
    "max_gradient_norm": partial(checks.number, above=0, infinite=True),
    "evaluations_per_epoch": _WHOLE,
    "select_by": _one_of(SelectBy),
    "max_length": _or_none(partial(checks.whole, least=2)),
    "bos": lambda name, value: value,  # judged by the tokenizer
    "optimizer": _optimizer,
    "momentum": partial(checks.number, least=0, below=1),
    "lr_schedule": _one_of(LrSchedule),
    "warmup": _warmup,
    "accumulate": _WHOLE,
    "autocast": _or_none(_one_of(Autocast)),
    "patience": _or_none(_WHOLE),
    "dense_lr": _or_none(partial(checks.number, above=0)),
    "loss_average": _one_of(LossAverage),
    "evaluate_every": _or_none(_WHOLE),
}
