"""What commands share: the model, the task, the mask, and how a result is told."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from landscape.cli.arguments import device, number, seed, whole
from landscape.cli.guard import DONE
from landscape.cli.output import print_json
from landscape.cli.task import asked_task, open_task, task_arguments
from landscape.errors import UserError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from landscape.curvature import EigenResult
    from landscape.tasks import Task

MODEL, DTYPE = "smollm2-135m", "float32"
SPREAD = "What follows ± is the standard error of a share of n examples."


@dataclass(frozen=True)
class Outcome:
    """Hold what a command found, for ``--json``, and its exit code."""

    result: Mapping[str, Any]
    code: int = DONE


def run(command: Callable[[argparse.Namespace], Outcome], chosen: argparse.Namespace) -> int:
    """Run a command; with ``--json`` print its result alone, its prose on the error stream.

    Args:
        command: from its arguments to what it found.
        chosen: the arguments; ``chosen.json`` says how the result is told.

    Returns:
        The exit code.
    """
    if not chosen.json:
        return command(chosen).code
    with contextlib.redirect_stdout(sys.stderr):
        outcome = command(chosen)
    print_json(outcome.result)
    return outcome.code


def model_arguments(parser: argparse.ArgumentParser, *, default: str | None = MODEL) -> None:
    """Declare the arguments that say which model a command is about, and where it runs.

    Args:
        parser: of the command.
        default: the model where none is named; None where a delta may name it.
    """
    own = "" if default else "the delta's, else "
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", default=default, help=f"packaged name, hub name or path ({own}{MODEL})"
    )  # fmt: skip
    group.add_argument(
        "--num-labels", type=whole(least=1),
        help="load it as a classifier with this many labels (of a model with a head: the task's)",
    )  # fmt: skip
    group.add_argument(
        "--new-head", action="store_true", help="draw another head than the one the files hold"
    )
    group.add_argument("--device", type=device, help="where it runs, such as cuda (cpu)")
    group.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16", "float64"),
        help=f"type of the model's weights ({own}{DTYPE})",
    )  # fmt: skip


def mask_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that say which mask is made."""
    group = parser.add_argument_group(
        "mask: of the size that one of --ratio, --density, --count says"
    )
    budget = group.add_mutually_exclusive_group()
    share = number(above=0, most=1)
    budget.add_argument("--ratio", type=share, help="trainable over all parameters (0.001)")
    budget.add_argument("--density", type=share, help="trainable over all weights of the targets")
    budget.add_argument("--count", type=whole(least=1), help="number of trainable weights")
    group.add_argument(
        "--targets", nargs="+", metavar="PATTERN", default=["auto"],
        help="names of the masked modules, * for any part (auto: query and value layers)",
    )  # fmt: skip
    group.add_argument(
        "--mask-seed", type=seed, default=0,
        help="seed of the mask (0, whatever --seed is; in `landscape sweep` it is --seed)",
    )  # fmt: skip


def masked_arguments(parser: argparse.ArgumentParser, *, default: str | None = MODEL) -> None:
    """Declare the arguments of a command about a model, a task and a mask.

    Args:
        parser: of the command.
        default: as for `model_arguments`.
    """
    model_arguments(parser, default=default)
    task_arguments(parser)
    mask_arguments(parser)
    json_argument(parser)


def json_argument(parser: argparse.ArgumentParser) -> None:
    """Declare ``--json``."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, and the prose on stderr"
    )


def has_head(name: str, chosen: argparse.Namespace) -> bool:
    """Tell whether a command's model is one with a head: a packaged encoder, or as it is asked."""
    from landscape.models import num_labels_for

    return bool(chosen.head or chosen.num_labels or num_labels_for(name, 2))


def load(chosen: argparse.Namespace) -> tuple[nn.Module, PreTrainedTokenizerBase, Task]:
    """Return the model, its tokenizer and the task that a command was given."""
    task = open_task(asked_task(chosen, head=has_head(chosen.model, chosen)))
    return *load_model(chosen.model, chosen, head_for(chosen.model, chosen, task)), task


def head_for(name: str, chosen: argparse.Namespace, task: Task) -> dict[str, Any]:
    """Return what `landscape.load_model` is told of a task's head: nothing of a language model's.

    Args:
        name: of the model.
        chosen: the arguments of `model_arguments`.
        task: which it is for.
    """
    from landscape.models import num_labels_for
    from landscape.tasks import Completion, Example, TaggedExample

    own = None if task.kind in (Example, Completion) else task.num_labels
    if own and not chosen.num_labels:
        _refuse_headless(name, task)
    num_labels = chosen.num_labels or own or num_labels_for(name, task.num_labels)
    told = {} if num_labels is None else {"num_labels": num_labels}
    told |= {"head": "tokens"} if task.kind is TaggedExample else {}
    return told | ({"new_head": True} if chosen.new_head else {})


def _refuse_headless(name: str, task: Task) -> None:
    """Refuse a packaged language model for a task that only a model with a head can answer."""
    from landscape.models import PACKAGED

    if name not in PACKAGED or PACKAGED[name].head != "language model":
        return
    encoders = [other for other, one in PACKAGED.items() if one.head == "classifier"]
    raise UserError(
        f"expected a model with a head for {task.name}, which shows no prompt as it is asked, got "
        f"{name}; give --model, such as {' or '.join(encoders)}"
    )


def load_model(
    name: str, chosen: argparse.Namespace, head: Mapping[str, Any]
) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """Load a model in the type and on the device that a command was given.

    Args:
        name: of the model.
        chosen: the arguments of `model_arguments`.
        head: of `head_for`.
    """
    import landscape as ls

    return ls.load_model(name, dtype=chosen.dtype or DTYPE, device=chosen.device, **head)


def attach_mask(model: nn.Module, chosen: argparse.Namespace, *, dense: Sequence[str] = ()) -> None:
    """Attach a random mask of the budget that a command was given and print its summary."""
    import landscape as ls

    budget = {key: getattr(chosen, key) for key in ("ratio", "density", "count")}
    given = {key: value for key, value in budget.items() if value is not None} or {"ratio": 1e-3}
    mask = ls.random_mask(model, targets=chosen.targets, seed=chosen.mask_seed, **given)
    print(ls.attach(model, mask, dense=dense))


def describe_search(found: EigenResult) -> str:
    """Say what is known of eigenvalues beyond those that were found."""
    inside = "each interval holds some eigenvalue"
    if found.ceiling is None:
        return f"{inside}; too few matvecs to bound what lies beyond the outermost"
    where = {"LA": "above", "SA": "below", "LM": "larger in magnitude than"}[found.which]
    return f"{inside}; no other one lies {where} {found.ceiling:.6g} with probability 0.99"


def standard_error(metric: str, value: float, n: int) -> float | None:
    """Return the standard error of a metric that is the share of examples that are right.

    It is half of Wilson's interval at one standard error, which is not 0 at shares of 0 and 1.

    Args:
        metric: its name; None is returned for one that is no such share, or is not known.
        value: the share.
        n: examples.

    >>> round(standard_error("final_answer", 0.5, 100), 4), standard_error("f1", 0.5, 100)
    (0.0498, None)
    """
    from landscape.tasks.metrics import METRICS

    known = METRICS.get(metric)
    if known is None or known.each != "right" or not 0 <= value <= 1:
        return None
    return math.sqrt(value * (1 - value) / n + 1 / (4 * n * n)) / (1 + 1 / n)
