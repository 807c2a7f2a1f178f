"""Optimizers by name, or made by a function of your own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import nn
from torch.optim import Optimizer

from landscape import checks
from landscape.errors import UserError
from landscape.sources.carriers import optional
from landscape.training.adamw import AdamW

OptimizerName: TypeAlias = Literal["adamw", "sgd", "adafactor", "schedule-free"]

MakeOptimizer: TypeAlias = Callable[..., Optimizer]
"""A function or class of optimizers, called as ``make(parameters, lr=lr)``."""

#: which settings each name takes, beside the learning rate; a function takes none
TAKES: dict[str, tuple[str, ...]] = {
    "adamw": ("betas", "eps", "weight_decay"),
    "sgd": ("momentum", "weight_decay"),
    "adafactor": ("weight_decay",),
    "schedule-free": ("betas", "eps", "weight_decay"),
}


def make_optimizer(
    optimizer: OptimizerName | MakeOptimizer,
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    warmup: int = 0,
    moving: bool = False,
) -> Optimizer:
    """Make an optimizer of some parameters.

    Args:
        optimizer: "adamw" and "sgd" are torch's. "adafactor" is transformers' with a given
            learning rate (``scale_parameter=False``): torch's multiplies every step by the size of
            the parameter, which for a mask is the size of the change, nothing at the start.
            "schedule-free" is AdamW of the package schedulefree. A function is called as
            ``optimizer(parameters, lr=lr)``: ``torch.optim.NAdam``, say, or
            ``partial(torch.optim.RMSprop, alpha=0.9)``. Parameters without entries, of which a
            sparse mask leaves some, are left out of these and of "adafactor".
        parameters: to train, or groups of them, as `parameter_groups` makes them.
        lr: the learning rate.
        betas, eps, weight_decay, momentum: of those that `TAKES` lists for the name.
        warmup: steps of "schedule-free" in which its learning rate rises linearly; the others
            leave that to a schedule (`make_lr_schedule`).
        moving: whether a mask moves, which a state has to follow: "adamw" is `landscape.AdamW`,
            and a function has to make one: ``partial(landscape.AdamW, ages="shared")``.

    Raises:
        UserError: an unknown name, a function that makes no optimizer or one that needs the loss
            in each step (L-BFGS), schedulefree is missing, or a mask moves whose weights another
            optimizer would lose.

    Source: Loshchilov & Hutter 2019 (AdamW), Shazeer & Stern 2018 (Adafactor), Defazio et al. 2024
    (schedule-free).
    """
    held: list[Any] = list(parameters)
    made = None if isinstance(optimizer, str) else _made(optimizer, held, lr)
    if moving and not (optimizer == "adamw" or isinstance(made, AdamW)):
        shown = repr(optimizer) if isinstance(optimizer, str) else "a function that makes another"
        raise UserError(
            "expected the optimizer adamw or a landscape.AdamW, whose state follows a mask that "
            f"moves, got {shown}; leave the schedule of masks out, or the optimizer"
        )
    if made is not None:
        return made if moving else _without_empty(made)  # what is empty may grow
    assert isinstance(optimizer, str)
    checks.choice("optimizer", optimizer, get_args(OptimizerName))
    given = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
    make = partial(_MAKERS[optimizer](moving, warmup), **{n: given[n] for n in TAKES[optimizer]})
    return _without_empty(make(held, lr=lr)) if optimizer == "adafactor" else make(held, lr=lr)


def _adamw(moving: bool, warmup: int) -> MakeOptimizer:
    return AdamW if moving else torch.optim.AdamW


def _sgd(moving: bool, warmup: int) -> MakeOptimizer:
    return torch.optim.SGD


def _adafactor(moving: bool, warmup: int) -> MakeOptimizer:
    from transformers.optimization import Adafactor

    return partial(Adafactor, scale_parameter=False, relative_step=False)


def _schedule_free(moving: bool, warmup: int) -> MakeOptimizer:
    return partial(optional("schedulefree").AdamWScheduleFree, warmup_steps=warmup)


#: name -> what gives the class, for a mask that moves or not and a number of steps of warm-up
_MAKERS: dict[OptimizerName, Callable[[bool, int], MakeOptimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
    "adafactor": _adafactor,
    "schedule-free": _schedule_free,
}


def name_of(optimizer: OptimizerName | MakeOptimizer, lr: float) -> object:
    """Return what tells an optimizer from others, as JSON: its name, or its type and defaults."""
    if isinstance(optimizer, str):
        return optimizer
    made = _made(optimizer, [nn.Parameter(torch.zeros(1))], lr)
    plain = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in made.defaults.items()
        if value is None or isinstance(value, bool | int | float | str | tuple)
    }
    return {"type": f"{type(made).__module__}.{type(made).__qualname__}", **plain}


def _made(make: MakeOptimizer, parameters: list[Any], lr: float) -> Optimizer:
    made = make(parameters, lr=lr)
    # those of trainers and of other libraries wrap one
    checks.has(
        "optimizer", made, "a function that makes an optimizer", "param_groups", "step",
        do="give a name, or a class such as torch.optim.NAdam",
    )  # fmt: skip
    closure = inspect.signature(made.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UserError(
            f"expected an optimizer that steps by the gradient it has, got {type(made).__name__}, "
            "which asks for the loss again in each step; choose another"
        )
    return made


def _without_empty(optimizer: Optimizer) -> Optimizer:
    """Leave out parameters without entries, by whose size some optimizers divide."""
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if p.numel()]
    return optimizer
