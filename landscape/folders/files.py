"""JSON files, and files that are written whole or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from landscape.errors import UserError

_DEPTH = 32
"""Levels of lists and objects that a file's JSON may have."""
#: the name of a file that `write_whole`, or safetensors in it, has not moved into its place
_LEFTOVER = re.compile(
    r"\..+\.(json|safetensors|before|during|after)\.[a-z0-9_]{8}|\.tmp[A-Za-z0-9]{6}"
)


#: how safetensors words what the system told it
_TOLD = re.compile(r"(?:Os \{ code:|os error) (\d+)")
_REMEDIES = {
    errno.ENOSPC: "free some space, or name another folder",
    errno.EDQUOT: "free some space, or name another folder",
    errno.EROFS: "name a folder that can be written",
    errno.EACCES: "name one that you may use",
    errno.EPERM: "name one that you may use",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "a part of the path is a file: name another folder",
    errno.EEXIST: "it is there already: name another",
    errno.ENOENT: "check the path",
}
#: where the system says one of these of a file, it says it of all
_EVERYWHERE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


class Unwritable(UserError):
    """Say that the system does not let a file be written.

    Args:
        message: the sentence.
        everywhere: whether no other file can be written there either: the disk is full, or read
            only.
    """

    def __init__(self, message: str, *, everywhere: bool = False) -> None:
        super().__init__(message)
        self.everywhere = everywhere


def system_error(error: BaseException) -> int | None:
    """Return the number of an error of the system, also of one that safetensors has reworded."""
    if isinstance(error, OSError):
        return error.errno
    told = _TOLD.search(str(error)) if type(error).__name__ == "SafetensorError" else None
    return int(told[1]) if told else None


def remedy(number: int | None) -> str:
    """Return what a user does about an error of the system.

    >>> remedy(errno.ENOSPC), remedy(None)
    ('free some space, or name another folder', 'check the path and the system')
    """
    return _REMEDIES.get(number or 0, "check the path and the system")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in a sentence what keeps a file from being written.

    Raises:
        Unwritable: the disk is full, the folder read-only, or anything else of the system.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = system_error(error)
        if number is None:
            raise
        raise Unwritable(
            f"expected to write {path}, got: {os.strerror(number)}; {remedy(number)}",
            everywhere=number in _EVERYWHERE,
        ) from error


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: the file is missing or is not a JSON object.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"expected a JSON object in {path}, could not read one: {error}; check the path, or "
            "write the file anew"
        ) from error
    return json_object(text, path)


def json_object(text: str, path: str | Path) -> dict[str, Any]:
    """Parse the JSON object that a file holds, of at most 32 levels.

    Args:
        text: the file's text.
        path: what a sentence calls the file.

    Raises:
        UserError: the text is no JSON, nested deeper, or something else than an object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error).split(";")[0]
        raise UserError(
            f"expected a JSON object in {path}, could not read one: {reason}; write the file anew"
        ) from None
    if not isinstance(value, dict):
        raise UserError(
            f"expected a JSON object in {path}, got a {type(value).__name__}; write the file anew"
        )
    level: list[Any] = [value]
    for _ in range(_DEPTH):
        if not level:
            break
        inner = [item for v in level for item in (v.values() if isinstance(v, dict) else v)]
        level = [item for item in inner if isinstance(item, dict | list)]
    if level:
        raise UserError(
            f"expected at most {_DEPTH} levels of JSON in {path}, got more; write the file anew"
        )
    return value


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all.

    Args:
        path: the file.
        value: the object; NaN and infinity in it, which JSON lacks, become null.
    """
    text = json.dumps(finite(value), indent=1, sort_keys=False, allow_nan=False) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def finite(value: object) -> Any:
    """Return a JSON value with null for numbers that JSON lacks, and plain numbers for numpy's.

    >>> finite({"a": [1.0, float("inf")]})
    {'a': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, np.generic):
        return finite(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def draft_of(folder: Path) -> Iterator[Path]:
    """Give a new folder beside a folder's place, to fill and then move there; it is gone at last.

    Args:
        folder: the place; what it lies in is made where it is missing.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def leftovers(folder: Path) -> list[Path]:
    """List the files in a folder that `write_whole` began and a kill kept from their places."""
    return [path for path in folder.glob(".*") if _LEFTOVER.fullmatch(path.name)]


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and move it there in one step, so no reader sees a part.

    Args:
        path: the place; its folder is made where it is missing.
        write: called with the path to write to.

    Raises:
        Unwritable: the system does not let it be written.
    """
    target = Path(path).expanduser()
    with writing(target):
        _write_beside(target, write)


def _write_beside(target: Path, write: Callable[[Path], object]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
