"""Where an export goes: to a place where nothing is, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from landscape import checks
from landscape.errors import UserError
from landscape.folders import draft_of, write_whole

PATCHES = ("vllm", "trl")
"""Formats that are a file, with a second one that restores the original; others are a folder."""


def check_outputs(
    output: str | Path, *, format: str, restore: str | Path | None = None
) -> tuple[Path, Path | None]:
    """Return where an export and the patch that undoes it go, if nothing is there.

    Args:
        output, format, restore: as for `export_delta`.

    Returns:
        The output, and the restoring patch; None for a format that is no patch.

    Raises:
        UserError: a place is taken, both are one, or a format that is no patch has a restore.
    """
    target = Path(checks.path("output", output))
    if format not in PATCHES:
        if restore is not None:
            raise UserError(
                f"expected restore= (--restore) with a patch ({', '.join(PATCHES)}), got it with "
                f"{format}, which leaves the base as it is; leave it out"
            )
        if os.path.lexists(target) and (not target.is_dir() or any(target.iterdir())):
            raise UserError(
                f"expected a new or empty folder, got {target}, which is not; name another"
            )
        return target, None
    beside = target.with_name(f"{target.stem}.restore{target.suffix}")
    back = beside if restore is None else Path(checks.path("restore", restore))
    for place in (target, back):
        if os.path.lexists(place):
            raise UserError(
                f"expected a new file to write, got {place}, which is there already; name another "
                "or remove it"
            )
    if os.path.abspath(target) == os.path.abspath(back):
        raise UserError(
            f"expected two files, the patch and the one that restores the original, got {target} "
            "for both; name another"
        )
    return target, back


def write_files(files: Mapping[Path, Callable[[Path], object]]) -> None:
    """Write new files, all of them or none.

    Args:
        files: place -> called with the path to write to.
    """
    written: list[Path] = []
    try:
        for place, write in files.items():
            write_whole(place, write)
            written.append(place)
    except BaseException:
        for place in written:
            place.unlink(missing_ok=True)
        raise


def write_folder(target: Path, write: Callable[[Path], object]) -> None:
    """Write a folder beside its place and move it there in one step.

    Args:
        target: new, or an empty folder.
        write: called with the folder to fill.
    """
    place = target.resolve()
    with draft_of(place) as draft:
        write(draft)
        draft.chmod(0o755)
        for file in draft.rglob("*"):  # safetensors writes files for their owner's eyes alone
            file.chmod(0o755 if file.is_dir() else 0o644)
        draft.rename(place)  # onto an empty folder as well, and no other
