"""The parts of a training: what is given, checked; its mask, configuration and loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from landscape import checks
from landscape.errors import UserError
from landscape.identity import precision
from landscape.losses import Loss
from landscape.subspace import attached_mask, is_attached, trainable
from landscape.subspace.attachable import unwrapped
from landscape.tasks import Task
from landscape.training.loop import Loop, refuse_nothing
from landscape.training.lr_schedule import make_lr_schedule, warmup_steps
from landscape.training.optimizer import make_optimizer
from landscape.training.processes import Processes
from landscape.training.schedule import MovingMask, Schedule
from landscape.training.settings import Settings

Probe = Callable[[nn.Module, dict[str, Any]], None]
"""Called after every step with the model and the step's record, to which it may add."""


def check_kinds(
    model: object, tokenizer: object, task: object, schedule: object, probes: object
) -> None:
    """Refuse arguments of a training that are of another kind.

    Raises:
        UserError: with the argument's name.
    """
    checks.model(model)
    checks.tokenizer(tokenizer)
    checks.instance("task", task, Task, "load or make one")
    checks.several("probes", probes, "functions")
    for probe in probes:  # type: ignore[attr-defined]
        checks.has("each probe", probe, "a function", "__call__", do="give probe(model, record)")
    if schedule is not None:
        checks.instance("schedule", schedule, Schedule, "make one, or leave it out")


def checked_device(device: str | torch.device) -> torch.device:
    """Return a device of torch.

    Raises:
        UserError: it is none.
    """
    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        checks.refuse("device", "a device of torch", device, 'give "cpu", "cuda" or "cuda:1"')


def moving_mask(
    schedule: Schedule | None, model: nn.Module, settings: Settings, steps: int
) -> MovingMask | None:
    """Return the mask that a schedule moves, not yet attached; None without a schedule.

    Raises:
        UserError: it would see a part of a step's gradient only.
    """
    if schedule is None:
        return None
    if settings.accumulate > 1 or unwrapped(model) is not model:
        many = f"accumulate={settings.accumulate}" if settings.accumulate > 1 else "a wrapped model"
        raise UserError(
            "expected a schedule of masks to see the gradient of a step in one piece, got "
            f"{many}; use larger batches, or the model itself"
        )
    return MovingMask(schedule, model, steps)


def run_config(
    model: nn.Module, task: Task, settings: Settings, limit: int, moving: MovingMask | None,
    processes: Processes,
) -> dict[str, Any]:  # fmt: skip
    """Return everything that determines a run's result as JSON, its inputs by their names.

    Raises:
        UserError: the model has nothing to train.
    """
    count = moving.budget if moving else sum(p.numel() for p in trainable(model).values())
    refuse_nothing(count)
    mask: dict[str, Any] = {}
    if moving is None and is_attached(model):
        attached = attached_mask(model)
        mask = {"rule": dict(attached.rule), "count": attached.count, "ratio": attached.ratio}
    config = {
        "model": getattr(getattr(model, "config", None), "_name_or_path", "")
        or type(model).__name__,
        "dtype": precision(model), "task": task.name, "source": task.source, "mask": mask,
        "trainable": count, **settings.config(), "max_length": limit,
    }  # fmt: skip
    if settings.select_by == "metric":
        config["select_by"] = task.metric
    if processes.count > 1:
        config["processes"] = processes.count
    return config


def make_loop(
    model: nn.Module, loss: Loss, settings: Settings, steps: int, *, moving: bool
) -> Loop:
    """Return the loop of a run of so many steps, at its beginning."""
    warmup = warmup_steps(settings.warmup, steps)
    optimizer = make_optimizer(
        parameters=trainable(unwrapped(model)).values(), warmup=warmup, moving=moving,
        **settings.of_optimizer(),
    )  # fmt: skip
    if settings.optimizer == "schedule-free":
        warmup = 0  # it warms up by itself
    lr_schedule = make_lr_schedule(settings.lr_schedule, optimizer, steps=steps, warmup=warmup)
    return Loop(
        model, optimizer, loss, lr_schedule=lr_schedule, autocast=settings.autocast is not None,
        max_gradient_norm=settings.max_gradient_norm,
    )  # fmt: skip
