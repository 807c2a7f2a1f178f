"""``landscape evaluate``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from landscape import checks
from landscape.cli.about import About
from landscape.cli.judging import (
    OF_TASK,
    Subject,
    judging_arguments,
    load_subject,
    own_task,
    reading,
    refuse_given,
    subject,
)
from landscape.cli.parser import Commands
from landscape.cli.shared import SPREAD, Outcome, has_head, head_for, standard_error
from landscape.cli.task import asked_task, open_task, task_arguments
from landscape.errors import UserError

if TYPE_CHECKING:
    from landscape.tasks.example import AnyExample


def add(commands: Commands) -> None:
    """Declare the command."""
    judge = commands.add_parser(
        "evaluate", help="judge a model, or a delta, on a task or your data", epilog=SPREAD
    )
    judging_arguments(judge)
    task_arguments(judge)
    judge.add_argument(
        "--split", choices=("train", "dev", "test"), help="which split of the task (test)"
    )
    judge.set_defaults(command=_evaluate)


def _evaluate(chosen: argparse.Namespace) -> Outcome:
    judged = subject(chosen)
    if judged.about and chosen.data:
        refuse_given(chosen, "--data alone", (*OF_TASK, "split"), "all rows of it are judged")
        return _of_rows(chosen, judged, judged.about)
    if judged.about and not chosen.task:
        task = own_task(chosen, judged, judged.about)
    else:
        if judged.delta and not (chosen.task or chosen.data):
            raise UserError(
                f"expected --task or --data for {judged.delta}, which does not say its task, got "
                "neither; name one"
            )
        headed = has_head(judged.model, chosen) or bool(judged.about and judged.about.head)
        task = open_task(asked_task(chosen, head=headed))
    import landscape as ls

    model, tokenizer = load_subject(chosen, judged, head_for(judged.model, chosen, task))
    split = chosen.split or "test"
    found = ls.evaluate(model, tokenizer, task, split=split, **reading(chosen, judged))
    return _told(found, task.metric, f"{split} of {task.name}", judged)


def _of_rows(chosen: argparse.Namespace, judged: Subject, about: About) -> Outcome:
    """Judge a delta on all labelled rows of a file, read as those it was trained on."""
    from landscape.tasks.encoding import length_limit
    from landscape.tasks.evaluation import measure
    from landscape.tasks.forms.form import Encoding, Judging
    from landscape.tasks.metrics import METRICS
    from landscape.tasks.own.rows import read_own

    assert judged.delta is not None
    recipe = about.read_recipe(judged.delta)
    rows = read_own(chosen.data)
    held = about.sha256 if isinstance(about.sha256, dict) else {}
    if rows.sha256 in held.values():
        raise UserError(
            f"expected rows that {judged.delta} was not trained on, got {rows.name}, which it was "
            "made from; leave --data out, which judges its test split"
        )
    examples: Sequence[AnyExample] = recipe.examples(rows)
    checks.choice("the metric of the delta", about.metric, METRICS)
    model, tokenizer = load_subject(chosen, judged, about.head)
    how = reading(chosen, judged)
    encoding = Encoding(length_limit(model, how["max_length"]), how["bos"])
    judging = Judging(METRICS[about.metric], about.loss, tokenizer, encoding, about.generation)  # type: ignore[arg-type]
    found = measure(model, examples, judging, batch_size=chosen.batch_size, said="evaluate")
    return _told(found, about.metric, rows.name, judged)


def _told(found: dict[str, float], metric: str, where: str, judged: Subject) -> Outcome:
    value, n = found[metric], int(found["n"])
    error = standard_error(metric, value, n)
    spread = "" if error is None else f" ± {error:.3f}"
    print(f"{metric} {value:.3f}{spread}, loss {found['loss']:.4f}, {n:,} examples: {where}")
    result: dict[str, Any] = {"model": judged.model, "delta": judged.delta, "of": where, **found}
    return Outcome(result | ({} if error is None else {"standard_error": error}))
