"""How a command ends: its exit code, and one sentence in place of a user's traceback."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from landscape.errors import NotConvergedWarning, UserError
from landscape.sources.carriers import OPTIONAL, how_to_install

DONE = 0
#: the training diverged, or a statement does not hold
FAILED = 1
#: a wrong argument, a file that cannot be read, a full disk: one sentence says it
MISTAKE = 2
#: neither holds nor fails: the rows do not decide it
UNDECIDED = 3
#: an iterative result stopped before its tolerance
NOT_CONVERGED = 4
#: as shells count a process that Ctrl-C, or the end of a pipe, has stopped
STOPPED = 130
PIPE_CLOSED = 141

EXIT_CODES = (
    f"Exit codes: {DONE} done; {FAILED} diverged; {MISTAKE} a mistake or a fault of the system, "
    f"said in one sentence (--debug shows where); {NOT_CONVERGED} not converged; {STOPPED} stopped "
    "by Ctrl-C."
)

_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory", re.IGNORECASE)


def guarded(command: Callable[[list[str]], int], arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    What a user or the system did wrong is one sentence on the error stream, without a traceback
    unless ``--debug`` is among the arguments. Any other exception is a fault of this program and
    shows where it is.

    Args:
        command: takes the arguments, ``--debug`` left out, and returns an exit code.
        arguments: of the command line; this process's if absent.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", NotConvergedWarning)
            code = _code(command, [a for a in given if a != "--debug"])
        sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
        return code
    except (Exception, KeyboardInterrupt) as error:
        return tell(error, debug=debug)


def tell(error: BaseException, *, debug: bool = False) -> int:
    """Say in one sentence what a user or the system did wrong, and return the exit code.

    Any other exception is raised again. Call it where the exception was caught.
    """
    ending = _ending(error)
    if ending is None:
        raise error
    code, sentence = ending
    with contextlib.suppress(OSError):
        if debug:
            traceback.print_exception(error)
        if sentence:
            print(sentence, file=sys.stderr, flush=True)
    _abandon(sys.stdout)
    return code


@contextlib.contextmanager
def resuming(folder: str | Path | None, *files: str) -> Iterator[None]:
    """Say truly, after Ctrl-C, whether the same command would go on from where it was.

    Args:
        folder: where the command keeps its work; None where it keeps none.
        files: names in it; one that is there is work to go on from.
    """
    try:
        yield
    except KeyboardInterrupt:
        if folder is None:
            raise KeyboardInterrupt("stopped; nothing was kept, for there is no --output") from None
        if any((Path(folder) / name).exists() for name in files):
            raise KeyboardInterrupt(
                f"stopped; {folder} keeps what was done: the same command goes on from there"
            ) from None
        raise KeyboardInterrupt(
            f"stopped; {folder} holds nothing to go on from yet: the same command starts afresh"
        ) from None


@contextlib.contextmanager
def leaving(words: str) -> Iterator[None]:
    """Say, after Ctrl-C, what a command that writes one thing after another leaves behind."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or f"stopped; {words}") from None


def _code(command: Callable[[list[str]], int], arguments: list[str]) -> int:
    try:
        return command(arguments)
    except SystemExit as stop:  # argparse, after --help
        return stop.code if isinstance(stop.code, int) else DONE


def _ending(error: BaseException) -> tuple[int, str] | None:
    """Return the exit code and the sentence of an exception; None for a fault of this program."""
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED, ""
    if isinstance(error, KeyboardInterrupt):
        return STOPPED, str(error) or "stopped; nothing was kept"
    sentence = _sentence(error)
    return None if sentence is None else (MISTAKE, f"error: {' '.join(sentence.split())}")


def _sentence(error: BaseException) -> str | None:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ImportError):
        module = (error.name or "").partition(".")[0]
        if module not in OPTIONAL:
            return None
        return f"expected the optional package {OPTIONAL[module]}, got {error}; " + how_to_install(
            module
        )
    out = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if out or (isinstance(error, RuntimeError) and _MEMORY.search(str(error))):
        return (
            f"expected enough memory for this, got: {_first_line(error) or 'none left'}; ask for "
            "fewer examples, a smaller model or a smaller batch"
        )
    if isinstance(error, OSError):
        return _system(error.errno, error.filename, error.strerror or _first_line(error))
    from landscape.folders import system_error

    number = system_error(error)
    return None if number is None else _system(number, None, os.strerror(number))


def _system(number: int | None, path: Any, reason: str) -> str:
    from landscape.folders import remedy

    where = f"to read or write {os.fsdecode(path)}" if path else "to read and write"
    return f"expected {where}, got: {reason}; {remedy(number)}"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")


def _abandon(stream: TextIO) -> None:
    """Drop what a stream could not write, lest Python complain about it once more at its exit."""
    try:
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
