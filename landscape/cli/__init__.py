"""The command line: ``landscape finetune | sharpness | surface | ..``, one file a command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from landscape.cli import (
    bench,
    delta,
    density,
    evaluate,
    finetune,
    predict,
    runs,
    sharpness,
    suggest_lr,
    surface,
    sweep,
    tasks,
)
from landscape.cli.guard import EXIT_CODES, guarded
from landscape.cli.parser import Parser
from landscape.cli.shared import run

#: each has ``add(commands)``, which declares its arguments and the function that runs it
COMMANDS = (
    finetune, evaluate, predict, tasks, sharpness, density, surface, suggest_lr, sweep, runs,
    delta, bench,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, one of `landscape.cli.guard`."""
    return guarded(_run, arguments)


def _run(arguments: list[str]) -> int:
    chosen = _parser().parse_args(arguments)
    return run(chosen.command, chosen)


class _Version(argparse.Action):
    """Look the version up when it is asked for: a checkout that is not installed has none."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import landscape

        print(f"landscape {landscape.__version__}")
        parser.exit()


def _parser() -> Parser:
    parser = Parser(
        prog="landscape",
        description="Masked fine-tuning, and the loss landscape inside the mask.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        command.add(commands)
    return parser
