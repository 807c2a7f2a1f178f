"""A folder as an official release ships it: which of its files are there, and their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from landscape.errors import UserError
from landscape.sources.carriers import sha256

Part: TypeAlias = str | tuple[str, ...]
"""A file or folder of a release, or several that belong together, by paths inside it."""


def part_of(folder: Path, parts: Sequence[Part]) -> tuple[Path, ...]:
    """Return the first part of a release that is in a folder, whole.

    Args:
        folder: of the release.
        parts: at least one; the same rows in one layout each.

    Raises:
        UserError: none is there, or of the first that is, a file is missing.
    """
    for part in map(_names, parts):
        if all((folder / name).exists() for name in part):
            return tuple(folder / name for name in part)
    for part in map(_names, parts):
        absent = [name for name in part if not (folder / name).exists()]
        if len(absent) < len(part):
            raise UserError(
                f"expected {', '.join(part)} together in the folder {folder}, found no "
                f"{absent[0]}; fetch the release again, whole"
            )
    said = " or ".join(dict.fromkeys(_names(part)[0] for part in parts))
    raise UserError(
        f"expected {said} in the folder {folder}, found no {_names(parts[0])[0]}; give the folder "
        "of the task as its official release ships it"
    )


def digests(folder: Path, paths: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 of files by their paths in a folder; of a folder, one of all its files.

    Args:
        folder: of the release.
        paths: files and folders in it.
    """
    return {path.relative_to(folder).as_posix(): _digest(path) for path in paths}


def _names(part: Part) -> tuple[str, ...]:
    return (part,) if isinstance(part, str) else part


def _digest(path: Path) -> str:
    if path.is_file():
        return sha256(path)
    lines = (
        f"{file.relative_to(path).as_posix()} {sha256(file)}\n"
        for file in sorted(path.rglob("*"))
        if file.is_file()
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()
