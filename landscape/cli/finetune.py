"""``landscape finetune``."""

from __future__ import annotations

import argparse
from pathlib import Path

from landscape.cli.arguments import Commands, number, output_folder, whole
from landscape.cli.guard import DONE, FAILED, resuming
from landscape.cli.shared import Outcome, attach_mask, load, model_arguments


def add(commands: Commands) -> None:
    """Declare the command."""
    tune = commands.add_parser("finetune", help="train a random fraction of a model's weights")
    model_arguments(tune)
    least = whole(least=1)
    tune.add_argument("--lr", type=number(above=0), required=True, help="learning rate")
    tune.add_argument("--epochs", type=least, default=5, help="passes over the examples (5)")
    tune.add_argument("--batch-size", type=least, default=8, help="examples a step (8)")
    tune.add_argument(
        "--select-by", choices=("accuracy", "loss"), default="accuracy",
        help="what makes a checkpoint the best on dev (accuracy); the code of paper 1 takes loss",
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
    with resuming(chosen.output, "checkpoint.safetensors", "result.json"):
        return _train(chosen)


def _train(chosen: argparse.Namespace) -> Outcome:
    import landscape as ls

    path = None if chosen.trajectory is None else ls.Trajectory(every=chosen.trajectory)
    model, tokenizer, task = load(chosen)
    attach_mask(model, chosen)
    run = ls.finetune(
        model, tokenizer, task, lr=chosen.lr, epochs=chosen.epochs, batch_size=chosen.batch_size,
        seed=chosen.seed, directory=chosen.output, progress=True, probes=[path] if path else [],
        overwrite=chosen.force, select_by=chosen.select_by, max_length=chosen.max_length,
        bos=chosen.bos,
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
