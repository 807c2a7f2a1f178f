"""The store of runs: a folder for each, found by its address; a row is whole, or is not there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from landscape.errors import UserError
from landscape.folders import finite, provenance, read_json, write_json
from landscape.sweep.config import RunConfig

Row = dict[str, Any]
"""A finished run: ``address``, ``config`` (all values), ``outcome`` (what it found), ``measured``
(measurement's key -> values), ``provenance``, and ``sha256`` of all that in ``result.json``."""
FORMAT = 1


class RunStore:
    """Hold runs in a folder, each in its own, named by its configuration's address.

        store.json                      the format's version
        runs/<address>/config.json      the configuration
                       result.json      the row: written last, whole, with its own hash
                       training/        the training's folder: checkpoint, then result and theta
                       measured/<key>.json

    Args:
        folder: of the store; made where it is missing, unless it is only read.

    Raises:
        UserError: the folder holds something else, or was written by a newer version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        path = self.folder / "store.json"
        if path.exists() and (found := read_json(path).get("format")) != FORMAT:
            raise UserError(
                f"expected a store of format {FORMAT} in {self.folder}, got {found!r}, as a newer "
                "version writes it; read it with that version"
            )

    def create(self) -> None:
        """Make the folder where there is none."""
        if not (self.folder / "store.json").exists():
            write_json(self.folder / "store.json", {"format": FORMAT})

    def path(self, config: RunConfig) -> Path:
        """Return the folder of a run."""
        return self.folder / "runs" / config.address

    def __contains__(self, config: RunConfig) -> bool:
        """Tell whether a run is finished."""
        return (self.path(config) / "result.json").exists()

    def row(self, config: RunConfig) -> Row:
        """Return the row of a finished run."""
        return read_row(self.path(config))

    def rows(self) -> Iterator[Row]:
        """Return the rows of all finished runs, by address."""
        for path in sorted((self.folder / "runs").glob("*/result.json")):
            yield read_row(path.parent)

    def write(self, config: RunConfig, outcome: Mapping[str, Any]) -> Row:
        """Write the row of a run, which finishes it."""
        row = finite(
            {"address": config.address, "config": config.as_dict(), "outcome": dict(outcome),
             "provenance": provenance()}
        )  # fmt: skip
        write_json(self.path(config) / "result.json", row | {"sha256": digest(row)})
        return self.row(config)

    def write_measured(self, config: RunConfig, key: str, values: Mapping[str, Any]) -> None:
        """Write what a measurement found on a run."""
        found = finite({"key": key, "values": dict(values), "provenance": provenance()})
        write_json(
            self.path(config) / "measured" / f"{key}.json", found | {"sha256": digest(found)}
        )


def digest(row: Mapping[str, Any]) -> str:
    """Return the hash of a row, its own hash left out."""
    rest = {k: v for k, v in row.items() if k != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_row(folder: Path) -> Row:
    """Read the row of a run's folder, with its measurements.

    Raises:
        UserError: a file was damaged or altered: its hash is another.
    """
    row = _verified(folder / "result.json")
    found = sorted((folder / "measured").glob("*.json"))
    row["measured"] = {p.stem: _verified(p)["values"] for p in found}
    return row


def _verified(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if found.get("sha256") != digest(found):
        raise UserError(
            f"expected {path} as it was written, got another hash: it is damaged or was altered; "
            "remove the run's folder, and it is run again"
        )
    return found
