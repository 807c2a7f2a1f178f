"""The parts of a training, put together: rows, mask, configuration, folder, loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedTokenizerBase

from landscape import checks
from landscape.errors import UserError
from landscape.identity import precision
from landscape.losses import Loss
from landscape.masks import Mask
from landscape.subspace import attached_mask, detach, is_attached, trainable
from landscape.subspace.attachable import unwrapped
from landscape.tasks import Example, Generation, Task
from landscape.tasks.encoding import length_limit
from landscape.tasks.fitting import refuse_unfit
from landscape.training.epochs import Epochs
from landscape.training.folder import RunFolder, identity_of
from landscape.training.groups import parameter_groups
from landscape.training.loop import Loop
from landscape.training.lr_schedule import make_lr_schedule, warmup_steps
from landscape.training.moving import MovingMask
from landscape.training.optimizer import make_optimizer
from landscape.training.processes import Processes
from landscape.training.schedule import Schedule
from landscape.training.settings import Settings
from landscape.training.updates import refuse_nothing

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


@dataclass(frozen=True)
class Parts:
    """Hold what a training works with.

    Args:
        inner: the model without what torch has wrapped around it.
        processes: that train it.
        limit: most tokens of a row.
        epochs: which rows each step takes.
        moving: the mask, where a schedule moves it.
        config: everything that determines the result, as JSON.
        folder: of the run, open; None where nothing is kept.
        parameters: the trainable parameters.
        loop: at its beginning.
    """

    inner: nn.Module
    processes: Processes
    limit: int
    epochs: Epochs
    moving: MovingMask | None
    config: dict[str, Any]
    folder: RunFolder | None
    parameters: dict[str, nn.Parameter]
    loop: Loop


def assemble(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    settings: Settings,
    loss: Loss,
    *,
    schedule: Schedule | None,
    folder: str | Path | None,
    overwrite: bool,
) -> Parts:
    """Make the parts of a training.

    The folder's hashes are of the model without the schedule's mask: hence the order.

    Raises:
        UserError: as `finetune`.
    """
    refuse_unfit(model, task.train)
    inner, processes = unwrapped(model), Processes.of(model)
    schedule = schedule and schedule.on(inner)
    limit = length_limit(inner, settings.max_length)
    epochs = Epochs(task, tokenizer, settings, limit, processes)
    total = settings.epochs * epochs.steps
    moving = _moving_mask(schedule, model, settings, total)
    count = moving.budget if moving else sum(p.numel() for p in trainable(inner).values())
    mask = attached_mask(inner) if moving is None and is_attached(inner) else None
    config = run_config(inner, task, settings, limit, mask=mask, count=count)
    if processes.count > 1:
        config["processes"] = processes.count
    kept = None
    if schedule is not None:
        config["schedule"] = schedule.as_dict()
    if folder is not None:
        folder = checks.path("folder", folder)
        identity = identity_of(
            inner, tokenizer, task, folder, test=settings.test, schedule=schedule,
            overwrite=overwrite,
        )  # fmt: skip
        kept = RunFolder(
            folder, config, identity, overwrite=overwrite, processes=processes,
            device=next(inner.parameters()).device,
        )  # fmt: skip
        config = kept.config
    if moving is not None:
        if is_attached(inner) and kept is not None:
            detach(inner)  # the mask that a stopped run of it has left
        moving.attach()
    loop = _make_loop(model, loss, settings, total, moving=moving is not None)
    parameters = trainable(inner)
    return Parts(inner, processes, limit, epochs, moving, config, kept, parameters, loop)


def _moving_mask(
    schedule: Schedule | None, model: nn.Module, settings: Settings, steps: int
) -> MovingMask | None:
    """Return the mask that a schedule moves, not yet attached; None without a schedule.

    Raises:
        UserError: it would see this process's part of a step's gradient only.
    """
    if schedule is None:
        return None
    if unwrapped(model) is not model:
        raise UserError(
            "expected the model itself for a schedule of masks, which looks at its gradients, got "
            f"it wrapped in {type(model).__name__}; pass the model inside"
        )
    return MovingMask(schedule, model, steps)


def run_config(
    model: nn.Module, task: Task, settings: Settings, limit: int, *, mask: Mask | None, count: int
) -> dict[str, Any]:
    """Return everything that determines a run's result as JSON, its inputs by their names.

    Args:
        model, task, settings: of the run.
        limit: most tokens of a row.
        mask: that is attached; None where there is none, or a schedule makes it.
        count: trainable parameters.

    Raises:
        UserError: the model has nothing to train, or the task has no accuracy to select by.
    """
    refuse_nothing(count)
    told: dict[str, Any] = {}
    if mask is not None:
        told = {"rule": dict(mask.rule), "count": mask.count, "ratio": mask.ratio}
    config = {
        "model": getattr(getattr(model, "config", None), "_name_or_path", "")
        or type(model).__name__,
        "dtype": precision(model), "task": task.name, "source": task.source, "mask": told,
        "trainable": count, **settings.config(), "max_length": limit,
    }  # fmt: skip
    if settings.select_by == "metric":
        config["select_by"] = task.metric
    elif settings.select_by not in (task.metric, "loss"):
        raise UserError(
            f'expected select_by "metric" or "loss" for a task judged by {task.metric}, got '
            f'"{settings.select_by}"; leave select_by out'
        )
    return config | _unusual(task, settings)


def _unusual(task: Task, settings: Settings) -> dict[str, Any]:
    """Return what a task asks beside its rows, as JSON, where it is not what tasks ask as a rule.

    A folder of an older version, which does not know it, is so the folder of the same run.
    """
    found: dict[str, Any] = {}
    if task.kind is Example and task.loss != "classification":
        found["loss"] = task.loss
    if settings.select_by == "loss" and task.metric != "accuracy":
        found["metric"] = task.metric
    if task.generation != Generation():
        found["generation"] = asdict(task.generation) | {"stop": list(task.generation.stop)}
    return found


def _make_loop(
    model: nn.Module, loss: Loss, settings: Settings, steps: int, *, moving: bool
) -> Loop:
    """Return the loop of a run of so many steps, at its beginning."""
    groups = parameter_groups(unwrapped(model), lr=settings.lr, dense_lr=settings.dense_lr)
    optimizer, lr_schedule = stepping(groups, settings, steps, moving=moving)
    return Loop(
        model, optimizer, loss, lr_schedule=lr_schedule, autocast=settings.autocast is not None,
        max_gradient_norm=settings.max_gradient_norm,
    )  # fmt: skip


def stepping(
    groups: list[dict[str, Any]], settings: Settings, steps: int, *, moving: bool = False
) -> tuple[Optimizer, LRScheduler | None]:
    """Return the optimizer of groups of parameters, and what sets its learning rate.

    Args:
        groups: of `landscape.training.groups`.
        settings: of the run.
        steps: of the whole run.
        moving: whether a schedule moves the mask.
    """
    warmup = warmup_steps(settings.warmup, steps)
    optimizer = make_optimizer(
        parameters=groups, warmup=warmup, moving=moving, **settings.of_optimizer()
    )
    if settings.optimizer == "schedule-free":
        warmup = 0  # it warms up by itself
    schedule = make_lr_schedule(settings.lr_schedule, optimizer, steps=steps, warmup=warmup)
    return optimizer, schedule
