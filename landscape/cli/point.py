"""Where the landscape is measured: at a fresh mask, at a delta, or in all weights."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from landscape.cli.arguments import file, whole
from landscape.cli.judging import load_subject, own_task, subject
from landscape.cli.shared import attach_mask, has_head, head_for, masked_arguments
from landscape.cli.task import asked_task, open_task
from landscape.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from landscape.tasks.padding import Batch


def point_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that say where, and on what data, the landscape is measured."""
    masked_arguments(parser, default=None)
    group = parser.add_argument_group("where the landscape is measured")
    where = group.add_mutually_exclusive_group()
    where.add_argument(
        "--delta", type=file, help="at this delta, which knows its model and its task; not at a "
        "fresh mask",
    )  # fmt: skip
    where.add_argument(
        "--full", action="store_true", help="all parameters, without a mask; also --ratio 1.0"
    )
    group.add_argument(
        "--force", action="store_true", help="take --model for the base, whatever the delta says"
    )
    group.add_argument(
        "--examples", type=whole(least=1), default=32, help="training examples averaged (32)"
    )


def load_point(
    chosen: argparse.Namespace, *, other: str | None = None
) -> tuple[nn.Module, list[Batch]]:
    """Return the model at the delta or fresh mask that a command was given, and its batches.

    Args:
        chosen: the command's arguments.
        other: a delta file that says the model and the task, where no delta is measured at.
    """
    import landscape as ls

    budget = [key for key in ("ratio", "density", "count") if getattr(chosen, key) is not None]
    if chosen.full and budget:
        raise UserError(f"expected --full or --{budget[0]}, got both; --full takes every weight")
    if chosen.delta and budget:
        raise UserError(
            f"expected --delta or --{budget[0]}, got both; a delta has weights of its own"
        )
    at = subject(chosen, other=other)
    about = at.about
    if about and not (chosen.task or chosen.data):
        task = own_task(chosen, at, about)
    else:
        headed = has_head(at.model, chosen) or bool(about and about.head)
        task = open_task(asked_task(chosen, head=headed))
    model, tokenizer = load_subject(chosen, at, head_for(at.model, chosen, task))
    if chosen.full or chosen.ratio == 1.0:
        size = sum(p.numel() for p in model.requires_grad_(True).parameters())
        print(f"all {size:,} parameters, without a mask")
    elif not chosen.delta:
        attach_mask(model, chosen)
    rows: dict[str, Any] = {"bos": about.bos} if about else {}
    if about and about.max_length:
        rows["max_length"] = about.max_length
    return model, ls.make_batches(
        task.train[: chosen.examples], tokenizer, chosen.examples, sort=True, loss=task.loss, **rows
    )
