"""The command line: ``landscape finetune | sharpness | surface | ..``, one file a command."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence

from landscape.cli import bench, delta, density, finetune, sharpness, surface
from landscape.errors import NotConvergedWarning, UserError

#: each has ``add(commands)``, which declares its arguments and the function that runs it
COMMANDS = (finetune, sharpness, density, surface, delta, bench)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 where a run diverged, or 2 after a user's mistake."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    return guarded(lambda: int(chosen.command(chosen)))


def guarded(command: Callable[[], int]) -> int:
    """Run a command and print a user's mistake as one sentence, without a traceback."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", NotConvergedWarning)
            return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; call again with the same folder to go on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="landscape",
        description="Masked fine-tuning, and the loss landscape inside the mask.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        command.add(commands)
    return parser
