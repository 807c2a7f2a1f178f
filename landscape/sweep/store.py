"""The store of runs: a folder for each, found by its address; a row is whole, or is not there."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from landscape import checks
from landscape.errors import UserError
from landscape.folders import provenance as origin
from landscape.folders import read_json, write_json, writing
from landscape.sweep.config import RunConfig
from landscape.sweep.lock import held
from landscape.sweep.rows import Row, examine, read_row, refuse_other, same_run
from landscape.sweep.sealed import Damaged, write_sealed

__all__ = ["FORMAT", "LOCK", "PACKS", "Row", "RunStore"]

FORMAT = 1
LOCK = "store.lock"
PACKS = "packs"
_ADDRESS = re.compile(r"[0-9a-f]+")
_KEY = re.compile(r"\w[\w.-]*")


class RunStore:
    """Hold runs in a folder, each in its own, named by its configuration's address.

        store.json                      the format's version
        store.lock                      held by the sweep that runs here
        runs/<address>/config.json      the configuration
                       result.json      the row, sealed with its own hash: written last, and whole
                       training/        the training's folder: checkpoint, then result and theta
                       measured/<key>.json
        packs/<hash>/                   runs under way together, and their checkpoint
        damaged/<address>-<n>/          runs that were set aside

    Whoever reads may read at any moment, beside a sweep and without a permission to write.

    Args:
        folder: of the store; made by `create`, where it is missing.

    Raises:
        UserError: the folder is a file, or was written by a newer version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(checks.path("folder", folder))
        path = self.folder / "store.json"
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"expected a folder of runs, got the file {folder}; name another")
        if path.exists() and (found := read_json(path).get("format")) != FORMAT:
            raise UserError(
                f"expected a store of format {FORMAT} in {self.folder}, got {found!r}, as a newer "
                "version writes it; read it with that version"
            )

    def __repr__(self) -> str:
        return f"store of {len(self.addresses())} finished runs in {self.folder}"

    def create(self) -> None:
        """Make the folder where there is none.

        Raises:
            UserError: it holds something else, or cannot be written.
        """
        if (self.folder / "store.json").exists():
            return
        with writing(self.folder):
            held_there = sorted(self.folder.iterdir()) if self.folder.exists() else []
            strangers = [p for p in held_there if p.name != LOCK and not p.name.startswith(".")]
            if strangers and not (self.folder / "store.json").exists():  # made meanwhile
                raise UserError(
                    f"expected a store of runs, or an empty or new folder, got {self.folder}, "
                    "which is not empty and is no store; choose another"
                )
            write_json(self.folder / "store.json", {"format": FORMAT})

    def locked(self, *, shared: bool = False) -> AbstractContextManager[None]:
        """Hold the store, made where it is missing, for the only sweep on it.

        Args:
            shared: hold it beside other processes that share it too.

        Raises:
            UserError: another process holds it for itself; the sentence says which, and since when.
        """
        self.create()
        return held(self.folder / LOCK, shared=shared)

    def path(self, config: RunConfig) -> Path:
        """Return the folder of a run."""
        return self.folder / "runs" / config.address

    def begin(self, config: RunConfig) -> Path:
        """Return the folder of a run, made and with its configuration where that is missing.

        Raises:
            UserError: the folder holds another configuration, or cannot be written.
        """
        self.create()
        path = self.path(config) / "config.json"
        if path.exists():
            refuse_other(read_json(path), config, path.parent)
        else:
            write_json(path, config.as_dict())
        return path.parent

    def __contains__(self, config: object) -> bool:
        """Tell whether a run is finished and whole.

        Raises:
            UserError: its folder holds another configuration.
        """
        if not isinstance(config, RunConfig) or not (self.path(config) / "result.json").exists():
            return False
        try:
            return bool(self.row(config))
        except Damaged:
            return False

    def row(self, config: RunConfig) -> Row:
        """Return the row of a finished run.

        Raises:
            UserError: it is not finished, is damaged, or is the run of another configuration.
        """
        return same_run(self.at(config.address), config, self.path(config))

    def at(self, address: str) -> Row:
        """Return the row of an address.

        Raises:
            UserError: no run is finished there, or it is damaged.
        """
        if not _ADDRESS.fullmatch(address):
            raise UserError(
                f"expected an address of hexadecimal digits, got {address!r}; list those that "
                "there are with addresses()"
            )
        return read_row(self.folder / "runs" / address)

    def addresses(self) -> list[str]:
        """Return the addresses of all finished runs, damaged ones included, sorted."""
        runs = self.folder / "runs"
        return [name for name in self._begun() if (runs / name / "result.json").exists()]

    def unfinished(self) -> list[str]:
        """Return the addresses of runs that were begun and are not finished, sorted."""
        return sorted(set(self._begun()) - set(self.addresses()))

    def examined(self) -> Iterator[Row | UserError]:
        """Return, by address, the row of every finished run, or the sentence why it has none."""
        for address in self.addresses():
            try:
                yield self.at(address)
            except UserError as error:
                yield error

    def rows(self) -> Iterator[Row]:
        """Return the rows of all finished runs, by address; warn of each that is left out.

        Cost: 0.3 ms a run, with losses of 625 steps.
        """
        for found in self.examined():
            if isinstance(found, UserError):
                warnings.warn(f"a run is left out: {found}", stacklevel=2)
            else:
                yield found

    def write(
        self,
        config: RunConfig,
        outcome: Mapping[str, Any],
        *,
        provenance: Mapping[str, Any] | None = None,
    ) -> Row:
        """Write the row of a run, which finishes it; a row that is whole already stays.

        Args:
            config: of the run.
            outcome: what it found, JSON.
            provenance: of the row; None says that this process's processor made it.

        Raises:
            UserError: the folder holds another configuration, or cannot be written.
        """
        if config not in self:
            row = {"address": config.address, "config": config.as_dict(), "outcome": outcome,
                   "provenance": origin() if provenance is None else provenance}  # fmt: skip
            write_sealed(self.begin(config) / "result.json", row)
        return self.row(config)

    def write_measured(
        self,
        config: RunConfig,
        key: str,
        values: Mapping[str, Any],
        *,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Write what a measurement found on a run.

        Args:
            config: of the run.
            key: of the measurement with its options.
            values: what it found, JSON.
            provenance: of the values; None says that this process's processor found them.

        Raises:
            UserError: the key is no file's name, or the folder cannot be written.
        """
        if not _KEY.fullmatch(key):
            raise UserError(
                f"expected a measurement's key of letters, digits, -, . and _, got {key!r}; name "
                "it so"
            )
        found = {"key": key, "values": values,
                 "provenance": origin() if provenance is None else provenance}  # fmt: skip
        write_sealed(self.begin(config) / "measured" / f"{key}.json", found)

    def set_aside(self) -> list[str]:
        """Move damaged runs to ``damaged/``, so that they are run again; a sweep does it first.

        Returns:
            A sentence for each.

        Raises:
            UserError: the folder cannot be written.
        """
        said = []
        for address in self._begun():
            try:
                examine(self.folder / "runs" / address)
            except Damaged as error:
                place = self._aside(address)
                said.append(f"{error.args[0].rpartition(';')[0]}; its run was moved to {place}")
        return said

    def _begun(self) -> list[str]:
        runs = self.folder / "runs"
        names = os.listdir(runs) if runs.is_dir() else []
        return sorted(name for name in names if _ADDRESS.fullmatch(name))

    def _aside(self, address: str) -> Path:
        """Move a run's folder away, and return where it is."""
        number = 0
        while os.path.lexists(place := self.folder / "damaged" / f"{address}-{number}"):
            number += 1
        with writing(place):
            place.parent.mkdir(exist_ok=True)
            os.rename(self.folder / "runs" / address, place)
        return place
