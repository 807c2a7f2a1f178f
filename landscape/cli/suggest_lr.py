"""``landscape suggest-lr``."""

from __future__ import annotations

import argparse
import dataclasses

from landscape.cli.arguments import whole
from landscape.cli.parser import Commands
from landscape.cli.shared import Outcome, attach_mask, load, masked_arguments
from landscape.errors import UserError


def add(commands: Commands) -> None:
    """Declare the command."""
    suggest = commands.add_parser("suggest-lr", help="predict the learning rate without training")
    masked_arguments(suggest)
    suggest.add_argument(
        "--optimizer", choices=("adamw", "sgd"), default="adamw", help="what trains (adamw)"
    )
    size = whole(least=1)
    suggest.add_argument("--examples", type=size, default=64, help="training examples used (64)")
    suggest.add_argument("--batch-size", type=size, default=8, help="examples a step (8)")
    suggest.set_defaults(command=_suggest_lr)


def _suggest_lr(chosen: argparse.Namespace) -> Outcome:
    least = 2 if chosen.optimizer == "adamw" else 1
    if chosen.batch_size < least:
        raise UserError(
            f"expected --batch-size of at least {least}, got {chosen.batch_size}; adamw's rate "
            "compares the examples of a batch"
        )
    if min(chosen.examples, chosen.num_train or chosen.examples) < 3 * chosen.batch_size:
        raise UserError(
            f"expected --examples and --num-train for at least three batches of "
            f"{chosen.batch_size}, got {min(chosen.examples, chosen.num_train or chosen.examples)}"
            "; raise them, or lower --batch-size"
        )
    import landscape as ls

    model, tokenizer, task = load(chosen)
    attach_mask(model, chosen)
    found = ls.suggest_lr(
        model, tokenizer, task, optimizer=chosen.optimizer, examples=chosen.examples,
        batch_size=chosen.batch_size,
    )  # fmt: skip
    print(found)
    return Outcome(dataclasses.asdict(found))
