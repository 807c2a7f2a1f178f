"""``landscape finetune``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from landscape.cli.arguments import Commands, number, output_folder, whole
from landscape.cli.guard import DONE, FAILED, resuming
from landscape.cli.shared import Outcome, attach_mask, load, model_arguments

_SETTINGS = (
    "lr", "epochs", "batch_size", "seed", "accumulate", "select_by", "patience", "max_length",
    "bos", "autocast", "optimizer", "momentum", "weight_decay", "lr_schedule", "warmup",
)  # fmt: skip


def add(commands: Commands) -> None:
    """Declare the command."""
    tune = commands.add_parser("finetune", help="train a random fraction of a model's weights")
    model_arguments(tune)
    _training_arguments(tune)
    _optimizer_arguments(tune)
    least = whole(least=1)
    tune.add_argument("--device", help="where to train, such as cuda (where models load: cpu)")
    tune.add_argument(
        "--output", type=output_folder,
        help="folder of the run: resumes, and receives the delta file",
    )  # fmt: skip
    tune.add_argument(
        "--trajectory", type=least, metavar="STEPS",
        help="record the weights every so many steps, for `landscape surface`; needs --output",
    )  # fmt: skip
    tune.add_argument(
        "--force", action="store_true", help="start --output anew, whatever run it holds"
    )
    tune.set_defaults(command=_finetune)


def _training_arguments(tune: argparse.ArgumentParser) -> None:
    """Declare what is trained on, how long, and which checkpoint is kept."""
    least = whole(least=1)
    tune.add_argument("--lr", type=number(above=0), required=True, help="learning rate")
    tune.add_argument("--epochs", type=least, default=5, help="passes over the examples (5)")
    tune.add_argument("--batch-size", type=least, default=8, help="examples a forward (8)")
    tune.add_argument(
        "--accumulate", type=least, default=1,
        help="batches a step, which has the gradient of one large batch (1)",
    )  # fmt: skip
    tune.add_argument(
        "--select-by", choices=("metric", "accuracy", "loss"), default="metric",
        help="what makes a checkpoint the best on dev (the task's metric); the code of paper 1 "
        "takes loss",
    )  # fmt: skip
    tune.add_argument(
        "--patience", type=least, metavar="EVALUATIONS",
        help="stop after so many dev evaluations without a better one (never)",
    )  # fmt: skip
    tune.add_argument(
        "--max-length", type=whole(least=2),
        help="most tokens of a row (2048, or what the model takes)",
    )  # fmt: skip
    tune.add_argument(
        "--bos", type=_bos, default="tokenizer",
        help="what rows start with: tokenizer, none, or a token id (tokenizer); 0 for OPT as in "
        "the code of paper 1",
    )  # fmt: skip
    tune.add_argument(
        "--autocast", choices=("bf16",), help="compute the training loss in bfloat16 (no)"
    )


def _optimizer_arguments(tune: argparse.ArgumentParser) -> None:
    """Declare how the weights are updated."""
    tune.add_argument(
        "--optimizer", choices=("adamw", "sgd", "adafactor", "schedule-free"), default="adamw",
        help="adamw (default), sgd, adafactor, or schedule-free, which needs the package "
        "schedulefree",
    )  # fmt: skip
    tune.add_argument("--momentum", type=number(least=0, below=1), default=0.0, help="of sgd (0)")
    tune.add_argument(
        "--weight-decay", type=number(least=0), default=0.0,
        help="decay towards the pretrained weights (0)",
    )  # fmt: skip
    tune.add_argument(
        "--lr-schedule", choices=("constant", "linear", "cosine"), default="constant",
        help="how the learning rate falls to 0 (constant: it does not)",
    )  # fmt: skip
    tune.add_argument(
        "--warmup", type=_warmup, default=0,
        help="steps in which the learning rate rises from 0, or their share of all, such as 0.1 "
        "(0)",
    )  # fmt: skip


def _warmup(text: str) -> int | float:
    """Read a number of steps, or a share of all."""
    return whole()(text) if text.isdigit() else number(least=0, below=1)(text)


def _bos(text: str) -> int | str | None:
    """Read what rows start with."""
    if text in ("tokenizer", "none"):
        return None if text == "none" else text
    try:
        return whole()(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected tokenizer, none or a token id, got {text!r}; name what rows start with"
        ) from None


def _finetune(chosen: argparse.Namespace) -> Outcome:
    from landscape.errors import UserError

    if chosen.trajectory is not None and not chosen.output:
        raise UserError("expected --output with --trajectory, a file there, got none; give both")
    from landscape.training.settings import Settings

    settings = {name: getattr(chosen, name) for name in _SETTINGS}
    Settings.of(settings)  # before anything is loaded
    with resuming(chosen.output, "checkpoint.safetensors", "result.json"):
        return _train(chosen, settings)


def _train(chosen: argparse.Namespace, settings: dict[str, Any]) -> Outcome:
    import landscape as ls

    path = None if chosen.trajectory is None else ls.Trajectory(every=chosen.trajectory)
    model, tokenizer, task = load(chosen)
    attach_mask(model, chosen)
    run = ls.finetune(
        model, tokenizer, task, **settings, directory=chosen.output, overwrite=chosen.force,
        device=chosen.device, probes=[path] if path else [], progress=True,
    )  # fmt: skip
    if chosen.output:
        delta = Path(chosen.output) / "delta.safetensors"
        if not (run.stored and delta.is_file()):
            ls.save_delta(model, delta)
        print(f"delta: {delta} ({delta.stat().st_size:,} bytes)")
    if path and path.steps:  # a run that was finished before takes no step
        file = path.save(Path(chosen.output) / "trajectory.safetensors")
        print(f"trajectory: {file}, from step {path.steps[0]}, length {path.length:.4g}")
    dev, test = run.metrics["dev"] or {}, run.metrics["test"] or {}
    if run.diverged:
        print(f"diverged at step {run.metrics['steps']}: the loss is not finite; lower --lr")
    print(
        f"dev {dev.get(task.metric, float('nan')):.3f}, "
        f"test {test.get(task.metric, float('nan')):.3f}, distance {run.distance['l2']:.4g}, "
        f"{run.metrics['steps']} steps in {run.metrics['seconds']:.0f} s"
    )
    result = {"config": run.config, "metrics": run.metrics, "distance": run.distance}
    return Outcome(result, FAILED if run.diverged else DONE)
