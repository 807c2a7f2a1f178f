"""``landscape delta info | add | subtract | scale | overlap | merge``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from landscape.cli.arguments import Commands, Parser, file, number, output_file, output_folder
from landscape.cli.shared import Outcome, json_argument


def add(commands: Commands) -> None:
    """Declare the commands."""
    delta = commands.add_parser("delta", help="add, scale, compare and merge delta files")
    kinds = delta.add_subparsers(required=True, metavar="what")
    _declare(kinds, "info", _info, 1, "the mask, and how far it moved")
    _declare(kinds, "overlap", _overlap, 2, "the weights that two deltas both change")
    _declare(kinds, "add", _add, 2, "their sum", "delta file to write")
    _declare(kinds, "subtract", _subtract, 2, "the first minus the second", "delta file to write")
    scale = _declare(kinds, "scale", _scale, 1, "a multiple of a delta", "delta file to write")
    scale.add_argument("--factor", type=number(), required=True, help="the multiple")
    _declare(kinds, "merge", _merge, 1, "a plain model with the delta in its weights", "folder")


def _declare(
    kinds: Commands, name: str, command: Callable[[argparse.Namespace], Outcome], files: int,
    purpose: str, output: str | None = None,
) -> Parser:  # fmt: skip
    parser = kinds.add_parser(name, help=purpose)
    parser.add_argument("files", nargs=files, type=file, metavar="delta", help="delta file")
    parser.add_argument("--model", default="smollm2-135m", help="the base model of the deltas")
    if output:
        kind = output_folder if output == "folder" else output_file
        parser.add_argument("--output", type=kind, required=True, help=output)
    parser.add_argument(
        "--force", action="store_true", help="take --model for the base, whatever the files say"
    )
    json_argument(parser)
    parser.set_defaults(command=command)
    return parser


def _info(chosen: argparse.Namespace) -> Outcome:
    import landscape as ls

    model, _ = ls.load_model(chosen.model)
    attachment = ls.load_delta(model, chosen.files[0], force=chosen.force)
    moved = dataclasses.asdict(ls.distance(model))
    print(attachment)
    print(f"l2 {moved['l2']:.6g}, relative {moved['relative']:.4g}, linf {moved['linf']:.4g}")
    mask = attachment.mask
    rule = dict(mask.rule)
    return Outcome({"rule": rule, "count": mask.count, "ratio": mask.ratio, "distance": moved})


def _overlap(chosen: argparse.Namespace) -> Outcome:
    import landscape as ls

    _, (first, second) = _read(chosen)
    found = ls.overlap(first, second)
    print(
        f"{found.count:,} weights in both: {found.first:.4g} of the first, {found.second:.4g} of "
        f"the second; {found.same_sign:.4g} of them with one sign"
    )
    return Outcome(dataclasses.asdict(found))


def _add(chosen: argparse.Namespace) -> Outcome:
    model, (first, second) = _read(chosen)
    return _write(chosen, model, first + second)


def _subtract(chosen: argparse.Namespace) -> Outcome:
    model, (first, second) = _read(chosen)
    return _write(chosen, model, first - second)


def _scale(chosen: argparse.Namespace) -> Outcome:
    model, (only,) = _read(chosen)
    return _write(chosen, model, chosen.factor * only)


def _merge(chosen: argparse.Namespace) -> Outcome:
    from transformers.utils import logging

    import landscape as ls

    target = Path(chosen.output)
    if target.exists() and any(target.iterdir()):
        raise ls.UserError(
            f"expected a new or empty folder, got {target}, which is not; name another"
        )
    model, tokenizer = ls.load_model(chosen.model)
    print(ls.load_delta(model, chosen.files[0], force=chosen.force))
    merged: Any = ls.merge(model)
    if not sys.stderr.isatty():  # transformers shows its bar in any case
        logging.disable_progress_bar()
    merged.save_pretrained(target)
    tokenizer.save_pretrained(target)
    print(f"model: {target}")
    return Outcome({"output": str(target)})


def _read(chosen: argparse.Namespace) -> tuple[Any, list[Any]]:
    import landscape as ls

    model, _ = ls.load_model(chosen.model)
    return model, [ls.read_delta(model, file, force=chosen.force) for file in chosen.files]


def _write(chosen: argparse.Namespace, model: Any, change: Any) -> Outcome:
    import landscape as ls

    print(ls.apply_delta(model, change))
    path = ls.save_delta(model, chosen.output)
    print(f"delta: {path} ({path.stat().st_size:,} bytes)")
    moved = ls.distance(model)
    return Outcome({"output": str(path), "count": change.mask.count, "l2": moved.l2})
