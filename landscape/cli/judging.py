"""What evaluate and predict share: a model at a delta, or without one, as it is to be judged."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from landscape.cli.about import About, about_delta, files_of
from landscape.cli.arguments import bos, file, whole
from landscape.cli.shared import MODEL, json_argument, load_model, model_arguments
from landscape.cli.task import OWN, open_task
from landscape.errors import UserError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from landscape.tasks import Task


#: options that say which task it is
OF_TASK = (*OWN, "source", "num_train", "num_dev", "num_test", "seed", "loss", "head")


@dataclass(frozen=True)
class Subject:
    """Hold what is judged, before any of it is loaded.

    Args:
        model: its name.
        delta: the delta's file; None for the model alone.
        about: what the delta, or ``told``, says of itself.
        told: the file that says it.
    """

    model: str
    delta: str | None
    about: About | None
    told: str | None = None


def judging_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that say what is judged, and how its rows are made."""
    judged = parser.add_argument_group("what is judged")
    judged.add_argument("--delta", type=file, help="delta file, which knows its model and its task")
    model_arguments(parser, default=None)
    judged.add_argument(
        "--force", action="store_true", help="take --model for the base, whatever the delta says"
    )
    parser.add_argument(
        "--batch-size", type=whole(least=1), default=32, help="examples a forward (32)"
    )
    parser.add_argument(
        "--max-length", type=whole(least=2), help="most tokens of a row (the delta's, else 2048)"
    )
    parser.add_argument(
        "--bos", type=bos, default=argparse.SUPPRESS,
        help="what rows start with: tokenizer, none, or a token id (the delta's, else tokenizer)",
    )  # fmt: skip
    json_argument(parser)


def subject(chosen: argparse.Namespace, *, other: str | None = None) -> Subject:
    """Return what a command is to judge.

    Args:
        chosen: the command's arguments.
        other: a delta file that says of which model and task it is, where none is judged.

    Raises:
        UserError: a delta that does not say of which model it is, where none is named.
    """
    told = chosen.delta or other
    about = about_delta(told) if told else None
    if chosen.delta and about is None and chosen.model is None:
        raise UserError(
            f"expected a delta that knows its model, got {chosen.delta}, which does not say it; "
            "name it with --model"
        )
    if about and (chosen.num_labels or chosen.new_head):
        raise UserError(
            f"expected no --num-labels and no --new-head beside {told}, which knows its "
            "head, got one; leave it out"
        )
    model = chosen.model or (about.model if about else MODEL)
    return Subject(model, chosen.delta, about, told)


def own_task(chosen: argparse.Namespace, judged: Subject, about: About) -> Task:
    """Return the task that a delta was trained on, from the same files.

    Raises:
        UserError: arguments that say which task it is, or other files.
    """
    refuse_given(chosen, "no more", OF_TASK, "its own task is taken, or give --task")
    task = open_task(about.asked)
    _refuse_other_data(judged, about, task)
    return task


def refuse_given(chosen: argparse.Namespace, alone: str, names: Sequence[str], do: str) -> None:
    """Refuse arguments that a delta which knows its task leaves no room for."""
    given = [name for name in names if getattr(chosen, name)]
    if given:
        raise UserError(
            f"expected {alone} beside a delta that knows its task and how it reads rows, got "
            f"--{given[0].replace('_', '-')}; leave it out: {do}"
        )


def _refuse_other_data(judged: Subject, about: About, task: Task) -> None:
    """Refuse data that has changed since: its split would hold rows that were trained on."""
    now = files_of(task)
    from_hub = task.source.get("kind") == "hub"
    if about.sha256 != now and not (from_hub and None in (about.sha256, now)):
        raise UserError(
            f"expected the data that {judged.told} was trained on, got other files of the same "
            f"name ({task.name}), whose splits would mix rows that it has seen; give other rows "
            "with --data"
        )


def load_subject(
    chosen: argparse.Namespace, subject: Subject, head: Mapping[str, Any]
) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """Load the model, with the delta attached; the delta knows the head better."""
    import landscape as ls

    about = subject.about
    if about and chosen.dtype is None:
        chosen.dtype = about.dtype
    model, tokenizer = load_model(subject.model, chosen, about.head if about else head)
    if subject.delta:
        print(ls.load_delta(model, subject.delta, force=chosen.force))
    return model, tokenizer


def reading(chosen: argparse.Namespace, subject: Subject) -> dict[str, Any]:
    """Return how rows are made and how many a forward takes, for `landscape.evaluate`."""
    about = subject.about
    length = chosen.max_length or (about.max_length if about else None)
    start = getattr(chosen, "bos", about.bos if about else "tokenizer")
    return {"max_length": length, "bos": start, "batch_size": chosen.batch_size, "progress": True}
