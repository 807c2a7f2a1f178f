"""Rows of finished runs: what they hold, and how a run's folder is read, with suspicion."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from landscape.errors import UserError
from landscape.sweep.config import RunConfig
from landscape.sweep.sealed import Damaged, read_sealed

Row = dict[str, Any]
"""A finished run: ``address``, ``config`` (all values), ``outcome`` (what it found), ``measured``
(measurement's key -> values), ``provenance``, and ``sha256`` of the text it was read from."""

MODEL_FILES, TASK_FILES = "model files", "task files"
"""Parts of a run's identity: of a model in a folder, and of a task that says its files' hashes."""

_PARTS = {"address": str, "config": dict, "outcome": dict, "measured": dict}
_USUAL = RunConfig().as_dict()


class Rows(Protocol):
    """Rows by address, wherever they lie: a `landscape.RunStore`, or a published file."""

    def __contains__(self, config: object) -> bool:
        """Tell whether the run of a configuration is finished, and its row whole."""

    def row(self, config: RunConfig) -> Row:
        """Return the row of a configuration's run."""

    def rows(self) -> Iterator[Row]:
        """Return all rows, by address."""

    def addresses(self) -> list[str]:
        """Return the addresses of all finished runs, sorted."""

    def at(self, address: str) -> Row:
        """Return the row of an address."""


def checked(row: Row, where: object) -> Row:
    """Return a row with what it lacks of a configuration: settings that are newer than it is.

    Raises:
        UserError: it is no run's row, or has a setting that this version does not know.
    """
    wrong = [part for part, kind in _PARTS.items() if not isinstance(row.get(part), kind)]
    if wrong:
        raise UserError(
            f"expected the row of a run in {where}, got one without its {wrong[0]}; write it anew"
        )
    strange = sorted(row["config"].keys() - _USUAL.keys())
    if strange:
        raise UserError(
            f"expected settings that this version knows in {where}, got {', '.join(strange)}, as a "
            "newer version writes them; read it with that version"
        )
    row["config"] = _USUAL | row["config"]
    return row


def same_run(row: Row, config: RunConfig, where: object) -> Row:
    """Return a row, if it is that of a configuration.

    Raises:
        UserError: the address holds another run.
    """
    refuse_other(row["config"], config, where)
    return row


def refuse_other(there: Mapping[str, Any], config: RunConfig, where: object) -> None:
    """Refuse a configuration that is not the one that its address stands for.

    Raises:
        UserError: a value is another; the sentence names it.
    """
    other = [
        f"{name} {there.get(name, _USUAL[name])!r} instead of {value!r}"
        for name, value in config.as_dict().items()
        if there.get(name, _USUAL[name]) != value
    ] + [f"an unknown setting {name}" for name in sorted(there.keys() - _USUAL.keys())]
    if other:
        raise UserError(
            f"expected the run {config.address} in {where}, got another configuration there "
            f"({', '.join(other[:3])}); move that folder away, or use another store"
        )


def refuse_moved(row: Row, where: object) -> RunConfig:
    """Return the configuration of a row, if its address is that of the row.

    Raises:
        UserError: the address is another's.
    """
    config = RunConfig.of(row["config"])
    if config.address != row["address"]:
        raise UserError(
            f"expected the address {config.address} of its configuration in {where}, got "
            f"{row['address']!r}, as another version makes it; read it with that version"
        )
    return config


def read_row(folder: Path) -> Row:
    """Read the row of a run's folder, with its measurements.

    Raises:
        Damaged: a file of it is not as it was written.
        UserError: the run is not finished, or of a newer version.
    """
    row = read_sealed(folder / "result.json")
    row["measured"] = _measured(folder)
    checked(row, folder)
    if row["address"] != folder.name:
        raise Damaged(
            f"expected the run {folder.name} in {folder}, got that of {row['address']}; move the "
            "folder to its own name"
        )
    return row


def _measured(folder: Path) -> dict[str, Any]:
    """Read what was measured on a run, by key; hidden files are parts that await the others."""
    try:
        names = sorted(os.listdir(folder / "measured"))
    except FileNotFoundError:
        return {}
    except NotADirectoryError:
        raise Damaged(
            f"expected a folder of what was measured at {folder / 'measured'}, got a file there or "
            "in place of the run's folder; move it away"
        ) from None
    return {
        name.removesuffix(".json"): read_sealed(folder / "measured" / name)["values"]
        for name in names
        if name.endswith(".json") and not name.startswith(".")
    }


def examine(folder: Path) -> None:
    """Read what is sealed in the folder of a run, finished or not.

    Raises:
        Damaged: one of it is damaged.
    """
    if not (folder / "result.json").exists():
        _measured(folder)
        return
    try:
        read_row(folder)
    except Damaged:
        raise
    except UserError:
        return  # whole, of another version: nothing to run again
