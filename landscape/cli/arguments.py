"""Arguments of the command line, checked while they are read: before anything is loaded."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar

from landscape import checks
from landscape.errors import UserError

_Read = TypeVar("_Read")
DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu", "npu", "mlu", "ipu", "xla", "meta")
#: to what a command adds its parser
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


class Parser(argparse.ArgumentParser):
    """Say a mistake in one sentence, as a `UserError`, instead of printing the usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Offer the nearest option for one that this command has not, before values are read."""
        known = [o[2:] for o in self._option_string_actions if o.startswith("--")]
        for word in () if self._subparsers else args or ():
            name = word.removeprefix("--").partition("=")[0]
            strange = word.startswith("--") and not any(o.startswith(name) for o in known)
            if strange and (near := get_close_matches(name, known, n=1, cutoff=0.7)):
                asked = f"expected an option of {self.prog}, got --{name}"
                self.error(f"{asked}; did you mean --{near[0]}?")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise the sentence, with the command that explains the arguments."""
        raise UserError(message if "; " in message else f"{message}; see {self.prog} --help")


def whole(*, least: int = 0) -> Callable[[str], int]:
    """Return a reader of whole numbers."""
    return _reader(lambda text: checks.whole("", _parsed(int, text), least=least))


def number(**limits: Any) -> Callable[[str], float]:
    """Return a reader of numbers; limits as for `checks.number`."""
    return _reader(lambda text: checks.number("", _parsed(float, text), **limits))


def file(text: str) -> str:
    """Read the path of a file that is there."""
    path = Path(text).expanduser()
    if not path.is_file():
        found = "a folder" if path.is_dir() else "none"
        raise argparse.ArgumentTypeError(f"expected a file at {text}, got {found}; check the path")
    return str(path)


def folder(text: str) -> Path:
    """Read the path of a folder that is there."""
    path = Path(text).expanduser()
    if not path.is_dir() or not text:
        found = "a file" if path.is_file() else "none"
        raise argparse.ArgumentTypeError(
            f"expected a folder at {text}, got {found}; check the path"
        )
    return path


def device(text: str) -> str:
    """Read the name of a device, as torch writes it; whether it is there, torch says later."""
    kind, colon, number = text.partition(":")
    if kind not in DEVICES or (colon and not number.isdecimal()):
        near = get_close_matches(kind, DEVICES, n=1, cutoff=0.75)
        raise argparse.ArgumentTypeError(
            f"expected a device such as cpu, cuda or cuda:1, got {text!r}; "
            + (f"did you mean {near[0]}?" if near else "write it as torch does: a GPU is cuda")
        )
    return text


def output_file(text: str) -> str:
    """Read the path of a file that can be written."""
    return _output(text, Path.is_dir, "a file", "the folder")


def output_folder(text: str) -> str:
    """Read the path of a folder that can be written, or made."""
    return _output(text, Path.is_file, "a folder", "the file")


def bos(text: str) -> int | str | None:
    """Read what rows start with."""
    if text in ("tokenizer", "none"):
        return None if text == "none" else text
    try:
        return whole()(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected tokenizer, none or a token id, got {text!r}; name what rows start with"
        ) from None


def _output(text: str, wrong: Callable[[Path], bool], wanted: str, found: str) -> str:
    """Try the path with a nameless file in the nearest folder that is there, gone at once."""
    path = Path(text).expanduser()
    if wrong(path) or not text:
        raise argparse.ArgumentTypeError(
            f"expected {wanted} to write, got {found} {text}; name another"
        )
    place = path if path.is_dir() else path.parent
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            return str(path)
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"expected {wanted} that can be written, got {text} ({place}: {error.strerror}); "
            "name another"
        ) from None


def _reader(read: Callable[[str], _Read]) -> Callable[[str], _Read]:
    def reader(text: str) -> _Read:
        try:
            return read(text)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return reader


def _parsed(kind: type, text: str) -> Any:
    """Return the number that a text is, or the text, which no check takes for one."""
    try:
        return kind(text)
    except ValueError:
        return text


seed = _reader(lambda text: checks.seed(_parsed(int, text), ""))
"""Read a seed."""
