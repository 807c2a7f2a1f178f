"""Arguments of the command line, checked while they are read: before anything is loaded."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, TypeVar

from landscape import checks
from landscape.errors import UserError

_Read = TypeVar("_Read")
DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu", "npu", "mlu", "ipu", "xla", "meta")


@dataclass(frozen=True)
class Reader(Generic[_Read]):
    """Read a value as ``argparse`` asks for it, and say what help calls such a value."""

    read: Callable[[str], _Read]
    metavar: str

    def __call__(self, text: str) -> _Read:
        """Return the value of a text; a text that has none is refused as a mistake."""
        try:
            return self.read(text)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None


def called(metavar: str) -> Callable[[Callable[[str], _Read]], Reader[_Read]]:
    """Return what makes a function a reader of values of a name."""
    return lambda read: Reader(read, metavar)


def whole(*, least: int = 0) -> Reader[int]:
    """Return a reader of whole numbers."""
    return Reader(lambda text: checks.whole("", _parsed(int, text), least=least), "N")


def number(**limits: Any) -> Reader[float]:
    """Return a reader of numbers; limits as for `checks.number`."""
    return Reader(lambda text: checks.number("", _parsed(float, text), **limits), "X")


@called("FILE")
def file(text: str) -> str:
    """Read the path of a file that is there."""
    path = Path(text).expanduser()
    if not path.is_file():
        found = "a folder" if path.is_dir() else "none"
        raise argparse.ArgumentTypeError(f"expected a file at {text}, got {found}; check the path")
    return str(path)


@called("FOLDER")
def folder(text: str) -> Path:
    """Read the path of a folder that is there."""
    path = Path(text).expanduser()
    if not path.is_dir() or not text:
        found = "a file" if path.is_file() else "none"
        raise argparse.ArgumentTypeError(
            f"expected a folder at {text}, got {found}; check the path"
        )
    return path


@called("DEVICE")
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


@called("FILE")
def output_file(text: str) -> str:
    """Read the path of a file that can be written."""
    return _output(text, Path.is_dir, "a file", "the folder")


@called("FOLDER")
def output_folder(text: str) -> str:
    """Read the path of a folder that can be written, or made."""
    return _output(text, Path.is_file, "a folder", "the file")


@called("START")
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


def _parsed(kind: type, text: str) -> Any:
    """Return the number that a text is, or the text, which no check takes for one."""
    try:
        return kind(text)
    except ValueError:
        return text


seed = Reader(lambda text: checks.seed(_parsed(int, text), ""), "N")
"""Read a seed."""
