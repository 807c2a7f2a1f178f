"""``landscape suggest-lr``."""

from __future__ import annotations

import argparse
import dataclasses

from landscape.cli.arguments import Commands, whole
from landscape.cli.shared import Outcome, attach_mask, load, masked_arguments


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
    import landscape as ls

    model, tokenizer, task = load(chosen)
    attach_mask(model, chosen)
    found = ls.suggest_lr(
        model, tokenizer, task, optimizer=chosen.optimizer, examples=chosen.examples,
        batch_size=chosen.batch_size,
    )  # fmt: skip
    print(found)
    return Outcome(dataclasses.asdict(found))
