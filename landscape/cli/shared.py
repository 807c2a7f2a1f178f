"""What commands share: the model, the task, the mask, and the JSON line."""

from __future__ import annotations

import argparse
import json
from typing import Any

from landscape.tasks import TASKS


def model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that say which model, task and mask a command is about."""
    parser.add_argument("--model", default="smollm2-135m", help="packaged name, hub name or path")
    parser.add_argument(
        "--labels", type=int, help="load a sequence classifier with this many labels (encoders)"
    )
    parser.add_argument("--task", default="rotten_tomatoes", help=f"one of {', '.join(TASKS)}")
    parser.add_argument("--source", help="folder of the task's files, instead of the hub")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--ratio", type=float, help="trainable over all parameters (0.001)")
    budget.add_argument("--density", type=float, help="trainable over the target tensors")
    budget.add_argument("--count", type=int, help="number of trainable weights")
    parser.add_argument("--targets", default="*.[qv]_proj", help="pattern of the masked modules")
    parser.add_argument("--num-train", type=int, default=1000, help="training examples (1000)")
    parser.add_argument("--num-dev", type=int, default=500, help="development examples (500)")
    parser.add_argument("--num-test", type=int, default=1000, help="test examples (1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data and its order (0)")
    parser.add_argument("--mask-seed", type=int, default=0, help="seed of the mask (0)")
    json_argument(parser)


def json_argument(parser: argparse.ArgumentParser) -> None:
    """Declare ``--json``."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line"
    )


def print_json(result: dict[str, Any]) -> None:
    """Print the JSON line; NaN and infinity become null."""
    from landscape.runs import finite

    print(json.dumps(finite(result), allow_nan=False))


def load(chosen: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Return the model, its tokenizer and the task that a command was given."""
    import landscape as ls

    task = ls.load_task(
        chosen.task, source=chosen.source, num_train=chosen.num_train, num_dev=chosen.num_dev,
        num_test=chosen.num_test, seed=chosen.seed,
    )  # fmt: skip
    model, tokenizer = ls.load_model(chosen.model, labels=chosen.labels)
    return model, tokenizer, task


def attach_mask(model: Any, chosen: argparse.Namespace) -> None:
    """Attach a random mask of the budget that a command was given and print its summary."""
    import landscape as ls

    budget = {key: getattr(chosen, key) for key in ("ratio", "density", "count")}
    given = {key: value for key, value in budget.items() if value is not None} or {"ratio": 1e-3}
    mask = ls.random_mask(model, targets=chosen.targets, seed=chosen.mask_seed, **given)
    print(ls.attach(model, mask))


def point_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that say where, and on what data, the landscape is measured."""
    model_arguments(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--delta", help="delta file to measure at, instead of a fresh mask")
    where.add_argument(
        "--full", action="store_true", help="all parameters, without a mask; also --ratio 1.0"
    )
    parser.add_argument("--examples", type=int, default=32, help="training examples averaged (32)")


def load_point(chosen: argparse.Namespace) -> tuple[Any, list[Any]]:
    """Return the model at the delta or fresh mask that a command was given, and its batches."""
    import landscape as ls

    budget = [key for key in ("ratio", "density", "count") if getattr(chosen, key) is not None]
    if chosen.full and budget:
        raise ls.UserError(f"expected --full or --{budget[0]}, got both; --full takes every weight")
    model, tokenizer, task = load(chosen)
    if chosen.delta:
        print(ls.load_delta(model, chosen.delta))
    elif chosen.full or chosen.ratio == 1.0:
        size = sum(p.numel() for p in model.requires_grad_(True).parameters())
        print(f"all {size:,} parameters, without a mask")
    else:
        attach_mask(model, chosen)
    return model, ls.make_batches(
        task.train[: chosen.examples], tokenizer, chosen.examples, sort=True, loss=task.loss
    )
