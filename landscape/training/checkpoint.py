"""A run's numbers in its folder: checkpoints, the chosen point, and who may come back to them."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from landscape.errors import UserError
from landscape.identity import run_identity
from landscape.runs import json_object
from landscape.subspace import attached_mask, is_attached, synchronise, trainable
from landscape.tasks import Task
from landscape.tensorfile import read_tensors, write_tensors
from landscape.training.baselines import method_of
from landscape.training.moving import MovingMask
from landscape.training.schedule import Schedule

P = ParamSpec("P")
R = TypeVar("R")


def from_one_start(function: Callable[P, R]) -> Callable[P, R]:
    """Let a run with a folder that is stopped leave its model where it began.

    The same call then finds the model that the folder was begun with.
    """

    @functools.wraps(function)
    def run(*args: P.args, **settings: P.kwargs) -> R:
        model: Any = args[0] if args else settings.get("model")
        passing = settings.get("directory") is None or settings.get("schedule") is not None
        if passing or not isinstance(model, nn.Module):
            return function(*args, **settings)
        start, remembered = point(trainable(model), None), method_of(model).state_dict()
        try:
            return function(*args, **settings)
        except BaseException:
            go_to(trainable(model), start, None)
            method_of(model).load_state_dict(remembered)
            if is_attached(model):
                synchronise(model)
            raise

    return run


def identity_of(
    model: nn.Module,
    tokenizer: Any,
    task: Task,
    folder: Path,
    test: bool,
    schedule: Schedule | None,
    overwrite: bool,
) -> dict[str, Any]:
    """Return what a run depends on; a model that its own run has left counts as at the start.

    A stopped run of a schedule leaves a mask, which goes with the next call; a finished run leaves
    the numbers that its folder holds.

    Raises:
        UserError: a run of a schedule is asked for on a model with another mask.
    """
    folder = folder.expanduser()
    if schedule is not None and is_attached(model):
        left = dict(attached_mask(model).rule) == schedule.as_dict()
        if not left or not (folder / "config.json").exists():
            raise UserError(
                "expected a model without a mask for a schedule, got one that has one; detach or "
                "merge it"
            )
    scheduled = schedule is not None
    found = run_identity(model, tokenizer, task, test=test, scheduled=scheduled)
    finished = not overwrite and not scheduled and (folder / "result.json").exists()
    if finished and (folder / "theta.safetensors").exists():
        end = read_tensors(folder / "theta.safetensors", "the numbers of a run").tensors
        here = point(trainable(model), None)
        if end.keys() == here.keys() and all(torch.equal(end[n], here[n].cpu()) for n in end):
            found["starting values"] = None
    return found


def point(parameters: dict[str, nn.Parameter], moving: MovingMask | None) -> dict[str, Tensor]:
    """Copy the trainable numbers and, where the mask moves, its indices."""
    point = {name: p.detach().clone() for name, p in parameters.items()}
    if moving is not None:
        point |= {f"{name}.indices": i.clone() for name, i in moving.indices().items()}
    return point


@torch.no_grad()
def go_to(
    parameters: dict[str, nn.Parameter], point: dict[str, Tensor], moving: MovingMask | None
) -> None:
    """Give the model the numbers of a point, and the mask they belong to."""
    if moving is not None:
        moving.go_to({name: point[f"{name}.indices"] for name in moving.indices()})
    for name, parameter in parameters.items():
        parameter.copy_(point[name])


def save(
    path: Path,
    config: dict[str, Any],
    told: dict[str, Any],
    model: nn.Module,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    moving: MovingMask | None,
) -> None:
    """Write a checkpoint: where the run is, its best point, the optimizer's and method's state."""
    tensors = {f"theta/{key}": value for key, value in point(parameters, moving).items()}
    tensors |= {f"best/{key}": value.clone() for key, value in best.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"state/{key}/{name}"] = value.clone()
    tensors |= {f"method/{key}": value for key, value in method_of(model).state_dict().items()}
    # a text, since JSON has no word for the losses of a run that diverged
    header = {"run": run_key(config), "state": json.dumps(told)}
    write_tensors(path, tensors, header)


def restore(
    path: Path,
    config: dict[str, Any],
    fields: set[str],
    model: nn.Module,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    moving: MovingMask | None,
) -> dict[str, Any]:
    """Go to a checkpoint and return what it says of the run; `best` receives its best point.

    Raises:
        UserError: it is damaged, of another run, or says other things than the given fields.
    """
    cure = "remove it, and the run starts again from its beginning"
    stored, header = read_numbers(path, config, cure)
    told = json_object(str(header.get("state")), path)
    if told.keys() != fields:
        raise UserError(f"expected the state of a run in {path}, got {sorted(told)}; {cure}")
    go_to(parameters, _below(stored, "theta"), moving)
    method_of(model).load_state_dict(_below(stored, "method"))
    best.update({key: value.to(best[key].device) for key, value in _below(stored, "best").items()})
    for key, value in _below(stored, "state").items():
        kind, _, name = key.partition("/")
        parameter = parameters[name]
        # torch's AdamW keeps its one count of steps on the processor
        optimizer.state[parameter][kind] = value if value.dim() == 0 else value.to(parameter.device)
    return told


def read_numbers(
    path: Path, config: dict[str, Any], cure: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read numbers that a run of this configuration wrote.

    Raises:
        UserError: they are missing, damaged, or another run's.
    """
    file = read_tensors(path, "the numbers of a run", cure=cure)
    file.check()
    if file.header.get("run") != run_key(config):
        raise UserError(f"expected the numbers of this run in {path}, got another run's; {cure}")
    return file.tensors, file.header


def run_key(config: dict[str, Any]) -> str:
    """Return a hash by which files know their run."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _below(stored: dict[str, Tensor], folder: str) -> dict[str, Tensor]:
    start = f"{folder}/"
    return {k.removeprefix(start): v for k, v in stored.items() if k.startswith(start)}
