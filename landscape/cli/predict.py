"""``landscape predict``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from landscape.cli.arguments import output_file
from landscape.cli.judging import (
    Subject,
    judging_arguments,
    load_subject,
    reading,
    subject,
)
from landscape.cli.parser import Commands
from landscape.cli.shared import Outcome
from landscape.cli.task import data, prompt_arguments
from landscape.errors import UserError

if TYPE_CHECKING:
    from landscape.tasks.own.recipe import Recipe
    from landscape.tasks.own.rows import Rows
    from landscape.tasks.predicting import Predicted

ANSWER = "prediction"
_TOLD = 10
"""Most classes of which the number of predictions is printed."""


def add(commands: Commands) -> None:
    """Declare the command."""
    tell = commands.add_parser("predict", help="what a model, or a delta, says of rows of yours")
    judging_arguments(tell)
    tell.add_argument(
        "--data", type=data, required=True, metavar="PATH",
        help="rows without labels: a csv, tsv, jsonl, json or parquet file, or a folder of images",
    )  # fmt: skip
    tell.add_argument(
        "--output", type=output_file,
        help="file to write, of one of these formats: the rows, each with its prediction and the "
        "probability of every class (as JSON lines on the standard output)",
    )  # fmt: skip
    prompt_arguments(
        tell.add_argument_group("how a row becomes an example, where no delta says it")
    )
    tell.set_defaults(command=_predict)


def _predict(chosen: argparse.Namespace) -> Outcome:
    from landscape.tasks.own.writing import (
        check_output,
        json_lines,
        plain,
        with_all_columns,
        write_rows,
    )

    if chosen.output is not None:
        check_output(chosen.output, chosen.data)
        rows, found, counted = _judged(chosen)
        path = write_rows(chosen.output, rows)
        _tell(f"{path} ({counted})", found["lost"])
        return Outcome({"output": str(path), **found})
    with contextlib.redirect_stdout(sys.stderr):
        rows, found, counted = _judged(chosen)
        _tell(counted, found["lost"])
    rows = with_all_columns(rows)
    if not chosen.json:
        utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        print(json_lines(rows, ascii=not utf8), end="")
    return Outcome({"output": None, **found, "predictions": plain(rows)})


def _tell(predictions: str, lost: int) -> None:
    print(f"predictions: {predictions}")
    if lost:
        print(f"{lost:,} rows without a prediction: the model's outputs are not finite there")


def _judged(chosen: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """Return the rows with their predictions, their numbers, and these in words."""
    from landscape.tasks.own.rows import read_own

    judged = subject(chosen)
    recipe = _recipe(chosen, judged)
    rows = read_own(chosen.data)
    columns = _columns(rows, recipe)
    examples = recipe.examples(rows, labelled=False)
    from landscape.tasks.predicting import predict

    model, tokenizer = load_subject(chosen, judged, {})
    generation = judged.about.generation if judged.about else None
    found = predict(model, tokenizer, examples, generation=generation, **reading(chosen, judged))
    told = [_told(row.values, one, recipe, columns)
            for row, one in zip(rows.rows, found, strict=True)]  # fmt: skip
    counts = Counter(str(row[ANSWER]) for row in told) if recipe.classes else {}
    lost = sum(one.answer is None for one in found)
    return told, {"rows": len(told), "lost": lost, "counts": counts}, _counts(told, recipe)


def _recipe(chosen: argparse.Namespace, judged: Subject) -> Recipe:
    """Return how a row is read: as the delta says, or as the command line does."""
    from landscape.tasks.own.recipe import Recipe
    from landscape.tasks.own.verbaliser import words_of

    given = [name for name in ("prompt", "verbaliser") if getattr(chosen, name)]
    known = judged.about is not None and judged.about.recipe is not None
    if known and given:
        raise UserError(
            f"expected --data alone with a delta that knows how it reads rows, got "
            f"--{given[0].replace('_', '-')}; leave it out, and name the columns of the file as "
            "those it was trained on"
        )
    if known or (judged.about is not None and not given):
        assert judged.about is not None
        assert judged.delta is not None
        return judged.about.read_recipe(judged.delta)
    if len(given) < 2:
        raise UserError(
            "expected --prompt and --verbaliser, which say how a model without a delta that knows "
            f"it reads a row, got {', '.join(f'--{name}' for name in given) or 'neither'}; give "
            "both"
        )
    words = dict(chosen.verbaliser)
    prompt, shown = words_of(tuple(words), words, chosen.prompt)
    return Recipe("candidates", prompt=prompt, classes=tuple(words), words=shown)


def _columns(rows: Rows, recipe: Recipe) -> list[str]:
    """Return the names of the columns of probabilities; refuse those that rows have already."""
    columns = [f"probability of {name}" for name in recipe.classes]
    if taken := [name for name in (ANSWER, *columns) if name in rows.columns]:
        raise UserError(
            f"expected rows without the column {taken[0]!r}, which predictions are written to, got "
            f"it in {rows.name}; rename it"
        )
    return columns


def _told(row: Any, found: Predicted, recipe: Recipe, columns: Sequence[str]) -> dict[str, Any]:
    """Return a row as it is written: its own columns, the prediction, the probabilities."""
    own = {name: value for name, value in row.items() if not isinstance(value, bytes)}
    answer = found.answer if found.label is None else recipe.classes[found.label]
    chances = found.probabilities or [None] * len(columns)
    return own | {ANSWER: answer} | dict(zip(columns, chances, strict=True))


def _counts(told: Sequence[dict[str, Any]], recipe: Recipe) -> str:
    rows = f"{len(told):,} rows"
    if not recipe.classes:
        return rows
    common = Counter(str(row[ANSWER]) for row in told).most_common(_TOLD)
    return f"{rows}: " + ", ".join(f"{count:,} {name}" for name, count in common)
