"""``landscape finetune``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.cli.about import about_run
from landscape.cli.arguments import bos, number, output_folder, whole
from landscape.cli.guard import DONE, FAILED, resuming
from landscape.cli.parser import Commands
from landscape.cli.shared import (
    DTYPE,
    SPREAD,
    Outcome,
    attach_mask,
    has_head,
    head_for,
    load_model,
    masked_arguments,
)
from landscape.cli.task import asked_task, open_task
from landscape.cli.telling import begin, tell_run
from landscape.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from landscape.tasks import Task

DENSE_LR = 1e-3
"""Learning rate of a head: that of a mask, which is larger the fewer weights it has, breaks it."""

_SETTINGS = (
    "lr", "epochs", "batch_size", "seed", "accumulate", "select_by", "patience", "max_length",
    "bos", "loss_average", "evaluate_every", "autocast", "optimizer", "momentum",
    "weight_decay", "lr_schedule", "warmup",
)  # fmt: skip


def add(commands: Commands) -> None:
    """Declare the command."""
    tune = commands.add_parser(
        "finetune", help="train a random fraction of a model's weights", epilog=SPREAD
    )
    masked_arguments(tune)
    _training_arguments(tune)
    _optimizer_arguments(tune)
    _head_arguments(tune)
    kept = tune.add_argument_group("what is kept")
    kept.add_argument(
        "--output", type=output_folder,
        help="folder of the run, which goes on from there and gets the delta file (nothing is "
        "kept)",
    )  # fmt: skip
    kept.add_argument(
        "--trajectory", type=whole(least=1), metavar="STEPS",
        help="record the weights every so many steps, for `landscape surface`; needs --output",
    )  # fmt: skip
    kept.add_argument(
        "--force", action="store_true", help="start --output anew, whatever run it holds"
    )
    tune.set_defaults(command=_finetune)


def _head_arguments(tune: argparse.ArgumentParser) -> None:
    """Declare what is trained whole beside the mask."""
    head = tune.add_argument_group("head")
    head.add_argument(
        "--dense", nargs="+", metavar="PATTERN",
        help="modules trained whole beside the mask, or none (a classifier's head)",
    )  # fmt: skip
    head.add_argument(
        "--dense-lr", type=number(above=0),
        help=f"their learning rate, for they need a smaller one ({DENSE_LR:g})",
    )  # fmt: skip


def _training_arguments(tune: argparse.ArgumentParser) -> None:
    """Declare what is trained on, how long, and which checkpoint is kept."""
    least = whole(least=1)
    train = tune.add_argument_group("training")
    train.add_argument("--lr", type=number(above=0), required=True, help="learning rate")
    train.add_argument("--epochs", type=least, default=5, help="passes over the examples (5)")
    train.add_argument("--batch-size", type=least, default=8, help="examples a forward (8)")
    train.add_argument(
        "--accumulate", type=least, default=1,
        help="batches a step, which has the gradient of one large batch (1)",
    )  # fmt: skip
    train.add_argument(
        "--loss-average", choices=("terms", "batches"), default="terms",
        help="what weighs the same in a step of several batches (terms); the code of Xu & "
        "Zhang (2024) takes batches",
    )  # fmt: skip
    train.add_argument(
        "--evaluate-every", type=least, metavar="STEPS",
        help="steps between dev evaluations (an epoch)",
    )  # fmt: skip
    train.add_argument(
        "--select-by", choices=("metric", "accuracy", "loss"), default="metric",
        help="what makes a checkpoint the best on dev (the task's metric); the code of "
        "Xu & Zhang (2024) takes loss",
    )  # fmt: skip
    train.add_argument(
        "--patience", type=least, metavar="EVALUATIONS",
        help="stop after so many dev evaluations without a better one (never)",
    )  # fmt: skip
    train.add_argument(
        "--max-length", type=whole(least=2),
        help="most tokens of a row (2048, or what the model takes)",
    )  # fmt: skip
    train.add_argument(
        "--bos", type=bos, default="tokenizer",
        help="what rows start with: tokenizer, none, or a token id (tokenizer); 0 for OPT as in "
        "the code of Xu & Zhang (2024)",
    )  # fmt: skip
    train.add_argument(
        "--autocast", choices=("bf16",), help="compute the training loss in bfloat16 (in --dtype)"
    )


def _optimizer_arguments(tune: argparse.ArgumentParser) -> None:
    """Declare how the weights are updated."""
    how = tune.add_argument_group("optimizer")
    how.add_argument(
        "--optimizer", choices=("adamw", "sgd", "adafactor", "schedule-free"), default="adamw",
        help="schedule-free needs the package schedulefree (adamw)",
    )  # fmt: skip
    how.add_argument("--momentum", type=number(least=0, below=1), default=0.0, help="of sgd (0)")
    how.add_argument(
        "--weight-decay", type=number(least=0), default=0.0,
        help="decay towards the pretrained weights (0)",
    )  # fmt: skip
    how.add_argument(
        "--lr-schedule", choices=("constant", "linear", "cosine"), default="constant",
        help="how the learning rate falls to 0 (constant: it does not)",
    )  # fmt: skip
    how.add_argument(
        "--warmup", type=_warmup, default=0, metavar="STEPS|SHARE",
        help="steps in which the learning rate rises from 0, or their share of all, such as 0.1 "
        "(0)",
    )  # fmt: skip


def _warmup(text: str) -> int | float:
    """Read a number of steps, or a share of all."""
    return whole()(text) if text.isdigit() else number(least=0, below=1)(text)


def _finetune(chosen: argparse.Namespace) -> Outcome:
    if chosen.trajectory is not None and not chosen.output:
        raise UserError("expected --output with --trajectory, a file there, got none; give both")
    from landscape.training.settings import Settings

    settings = {name: getattr(chosen, name) for name in _SETTINGS}
    Settings.of(settings)  # before anything is loaded
    with resuming(chosen.output, "checkpoint.safetensors", "result.json"):
        return _train(chosen, settings)


def _dense(chosen: argparse.Namespace, model: nn.Module, task: Task) -> list[str]:
    """Return the modules that are trained whole: by default a head that is new to the task."""
    from landscape.models.kinds import head_modules
    from landscape.tasks import Completion, Example

    if chosen.dense is not None:
        named: list[str] = [pattern for pattern in chosen.dense if pattern != "none"]
    else:
        named = [] if task.kind in (Example, Completion) else head_modules(model)
    if chosen.dense_lr is not None and not named:
        raise UserError(
            "expected modules that are trained whole with --dense-lr, got none; name them with "
            "--dense, or leave it out"
        )
    return named


def _train(chosen: argparse.Namespace, settings: dict[str, Any]) -> Outcome:
    import landscape as ls
    from landscape.training.finetuning import run_through

    path = None if chosen.trajectory is None else ls.Trajectory(every=chosen.trajectory)
    asked = asked_task(chosen, head=has_head(chosen.model, chosen))
    task = open_task(asked)
    head = head_for(chosen.model, chosen, task)
    model, tokenizer = load_model(chosen.model, chosen, head)
    dense = _dense(chosen, model, task)
    attach_mask(model, chosen, dense=dense)
    if dense:
        settings["dense_lr"] = chosen.dense_lr or DENSE_LR
    training = ls.Training(
        model, tokenizer, task, **settings, folder=chosen.output, overwrite=chosen.force,
        probes=[path] if path else [],
    )  # fmt: skip
    before = begin(training, task.metric, chosen.output)
    run = run_through(training, progress=True)
    if chosen.output:
        delta = Path(chosen.output) / "delta.safetensors"
        if not (run.stored and delta.is_file()):
            about = about_run(chosen.model, chosen.dtype or DTYPE, head, asked, task, settings)
            ls.save_delta(model, delta, about=about)
        print(f"delta: {delta} ({delta.stat().st_size:,} bytes)")
    if path and path.steps:  # a run that was finished before takes no step
        file = path.save(Path(chosen.output) / "trajectory.safetensors")
        print(f"trajectory: {file}, from step {path.steps[0]}, length {path.length:.4g}")
    tell_run(run, task.metric, len(task.dev), before)
    result = {"config": run.config, "before": before, "metrics": run.metrics,
              "distance": run.distance}  # fmt: skip
    return Outcome(result, FAILED if run.diverged else DONE)
