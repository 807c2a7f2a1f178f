"""``landscape sweep``."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from landscape.cli.arguments import called, file, number, output_folder, seed, whole
from landscape.cli.computing import computing, computing_arguments, dry_run, dry_run_argument
from landscape.cli.guard import DONE, FAILED, resuming
from landscape.cli.parser import Commands
from landscape.cli.shared import Outcome, json_argument
from landscape.cli.task import known_task
from landscape.errors import UserError
from landscape.shown import counted

if TYPE_CHECKING:
    from landscape.sweep.driver import Swept
    from landscape.sweep.grid import Grid
    from landscape.sweep.store import RunStore


@called("JSON")
def _table(text: str) -> dict[str, Any]:
    """Read the options of a method, or settings, as a JSON object."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(
            f"expected a JSON object such as '{{\"rank\": 8}}', got {text!r}; quote it for the "
            "shell"
        )
    return found


@called("PATTERNS")
def _patterns(text: str) -> list[str]:
    """Read patterns of modules, joined by commas."""
    return text.split(",")


#: the fields of `landscape.RunConfig`: how a value is read, what it is
AXES: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "model": (str, "packaged name, hub name or path (smollm2-135m)"),
    "dtype": (str, "type of the weights (float32)"),
    "head": (str, "how a classifier's head begins: fitted, random or trained (fitted)"),
    "task": (known_task, "one that `landscape tasks` lists (rotten_tomatoes)"),
    "num_train": (whole(least=1), "training examples (1000)"),
    "num_dev": (whole(least=1), "dev examples (500)"),
    "num_test": (whole(least=1), "test examples (1000)"),
    "method": (
        str,
        "random, structured, a score such as snip, a baseline such as lora, or none (random)",
    ),
    "schedule": (str, "of a mask that moves: increment, repeat or drop_regrow (it stays)"),
    "options": (_table, "options of the method, as a JSON object (none)"),
    "ratio": (
        number(above=0, most=1),
        "trainable over all parameters: a mask needs this or --count, lora and adapter take the "
        "nearest size, other baselines have their own",
    ),
    "count": (whole(least=1), "number of trainable weights"),
    "targets": (_patterns, "patterns of the masked modules, joined by commas (auto)"),
    "lr": (number(above=0), "learning rate"),
    "epochs": (whole(least=1), "passes over the examples (5)"),
    "batch_size": (
        whole(least=1),
        "examples a forward; accumulate in --settings makes a step of several (8)",
    ),
    "settings": (_table, "further settings of the training, as a JSON object (none)"),
    "seed": (seed, "seed of the examples, their order, dropout (0)"),
    "mask_seed": (
        seed,
        "seed of the mask (--seed: every seed draws its own; `landscape finetune` draws such a run "
        "of a language model again with --seed 3 --mask-seed 3)",
    ),
}


def add(commands: Commands) -> None:
    """Declare the command."""
    sweep = commands.add_parser("sweep", help="compute the runs of a grid, each once, into a store")
    sweep.add_argument(
        "grid", nargs="?", type=file, metavar="GRID", help="file of grids, TOML or JSON"
    )
    sweep.add_argument(
        "--folder",
        type=output_folder,
        required=True,
        help="where the runs are kept; one that holds some goes on, and grows",
    )
    axes = sweep.add_argument_group("instead of GRID: one value for all runs, or several")
    for name, (read, about) in AXES.items():
        axes.add_argument(
            f"--{name.replace('_', '-')}", nargs="+", action="extend", type=read, help=about
        )
    axes.add_argument(
        "--choose-lr", nargs="+", action="extend", type=number(above=0), metavar="LR",
        help="choose the learning rate on dev with the first seed, from these and beyond",
    )  # fmt: skip
    axes.add_argument(
        "--over-ratio", action="store_true", help="divide the rates to choose from by the ratio"
    )
    axes.add_argument(
        "--widen", type=whole(), metavar="TIMES",
        help="how often to go beyond them while the best lies at their edge (2)",
    )  # fmt: skip
    axes.add_argument(
        "--measure",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="also measure: sharpness (the Hessian's eigenvalue of largest magnitude), trace, "
        "tracking, preconditioned (nothing)",
    )
    computing_arguments(sweep)
    dry_run_argument(sweep)
    json_argument(sweep)
    sweep.set_defaults(command=_sweep)


def _sweep(chosen: argparse.Namespace) -> Outcome:
    with resuming(chosen.folder, "store.json"):
        return _swept(chosen)


def _swept(chosen: argparse.Namespace) -> Outcome:
    grids = _grids(chosen)
    from landscape.sweep.driver import sweep
    from landscape.sweep.progress import Progress
    from landscape.sweep.store import RunStore

    executor, places = computing(chosen)
    store = RunStore(chosen.folder)
    if chosen.dry_run:
        return dry_run(grids, store, places)
    found = sweep(grids, store, executor, places, Progress(), shared=chosen.shared)
    return _told(grids, store, found)


def _grids(chosen: argparse.Namespace) -> list[Grid]:
    """Return the grids of a file, or the one of the axes on the command line."""
    given = {name: values for name in AXES if (values := getattr(chosen, name)) is not None}
    rates = {"tried": chosen.choose_lr, "over_ratio": chosen.over_ratio or None,
             "widen": chosen.widen}  # fmt: skip
    rates = {name: value for name, value in rates.items() if value is not None}
    axes = [*given, *rates, *(["measure"] if chosen.measure else [])]
    if chosen.grid and axes:
        option = {"tried": "choose_lr"}.get(axes[0], axes[0]).replace("_", "-")
        raise UserError(f"expected GRID or axes, got {chosen.grid} and --{option}; leave one out")
    if not (chosen.grid or axes):
        raise UserError("expected a grid, got none; name a file, or an axis such as --ratio")
    if rates and not chosen.choose_lr:
        option = next(iter(rates)).replace("_", "-")
        raise UserError(f"expected --choose-lr with --{option}, got none; name rates to try")
    if chosen.choose_lr and chosen.lr:
        raise UserError("expected --lr or --choose-lr, got both; leave one of the two out")
    from landscape.sweep.gridfile import grids_of
    from landscape.sweep.plan import wanted

    plain: dict[str, Any] = {
        "shared": {name: values[0] for name, values in given.items() if len(values) == 1},
        "axes": {name: values for name, values in given.items() if len(values) > 1},
        "measure": chosen.measure or {},
    }
    grids = grids_of(chosen.grid or (plain | ({"rates": rates} if rates else {})))
    wanted(grids, {})
    return grids


def _told(grids: Sequence[Grid], store: RunStore, found: Swept) -> Outcome:
    """Print what the cells came to and what failed."""
    from landscape.figures.table import format_table
    from landscape.sweep.plan import chosen
    from landscape.sweep.progress import differing

    choices = chosen(grids, found.rows)
    runs = [run for choice in choices for run in choice.runs]
    names = [name for name in differing(runs) if name not in ("lr", "seed", "mask_seed")]
    table, told = [], []
    for choice in choices:
        rows = [found.rows[r.address] for r in choice.runs if r.address in found.rows]
        if not rows:
            continue
        values = choice.runs[0].as_dict()
        scores = {part: _mean(rows, part) for part in ("dev", "test")}
        lost = sum(row["outcome"]["diverged"] for row in rows)
        told.append({**{name: values[name] for name in names}, "lr": choice.lr,
                     "edge": choice.edge, "n": len(rows), "diverged": lost, **scores,
                     "runs": [row["address"] for row in rows]})  # fmt: skip
        lr = "" if choice.lr is None else f"{choice.lr:g}"
        table.append({
            **{name: _shown(values[name]) for name in names or ["model"]},
            "lr": f"{lr} ({choice.edge})" if choice.edge else lr, "n": str(len(rows)),
            **{part: _shown(score) for part, score in scores.items()},
        })  # fmt: skip
    if any(cell["diverged"] for cell in told):
        for line, cell in zip(table, told, strict=True):
            line["diverged"] = str(cell["diverged"])
    if table:
        print(format_table(table, plain=True))
    if any(choice.edge for choice in choices):
        print("(lowest), (highest), (only): of the rates tried; a better one may lie beyond")
    diverged = found.diverged
    print(f"{counted(len(found.rows), 'run')} finished in {store.folder}, {len(diverged)} diverged")
    if found.failed:
        print(f"{len(found.failed)} failed:", *found.sentences(), sep="\n")
    result = {"folder": str(store.folder), "runs": len(found.rows), "cells": told,
              "diverged": diverged, "failed": found.failed}  # fmt: skip
    return Outcome(result, FAILED if found.failed else DONE)


def _mean(rows: Sequence[Mapping[str, Any]], part: str) -> float | None:
    """Return the mean of the task's metric over runs, None where one has none."""
    outcomes = [row["outcome"] for row in rows]
    values = [(found[part] or {}).get(found["metric"]) for found in outcomes]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return (
        "" if value is None else json.dumps(value) if isinstance(value, list | dict) else str(value)
    )
