"""Rows of finished runs: sealed with their own hash, and read with suspicion."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from landscape.errors import UserError
from landscape.folders import finite, json_object
from landscape.sweep.config import RunConfig

Row = dict[str, Any]
"""A finished run: ``address``, ``config`` (all values), ``outcome`` (what it found), ``measured``
(measurement's key -> values), ``provenance``, and ``sha256`` of the text it was read from."""

_SEAL = re.compile(r'^(\{.+),"sha256":"([0-9a-f]{64})"\}\n?$', re.DOTALL)
_PARTS = {"address": str, "config": dict, "outcome": dict, "measured": dict}
_USUAL = RunConfig().as_dict()


class Damaged(UserError):
    """Say that a row is not as it was written: cut short, or altered."""


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


def seal(values: Mapping[str, Any]) -> str:
    """Return values as one line of JSON whose last entry is the SHA-256 of all before it.

    >>> seal({"b": 1, "a": float("nan")})[:35]
    '{"a":null,"b":1,"sha256":"9d75cd4e0'
    """
    rest = finite({key: value for key, value in values.items() if key != "sha256"})
    body = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)[:-1]
    return f'{body},"sha256":"{hashlib.sha256(body.encode()).hexdigest()}"}}'


def unseal(text: str, where: object) -> dict[str, Any]:
    """Return the values of a sealed line.

    Args:
        text: the line.
        where: what a sentence calls its place.

    Raises:
        Damaged: its hash is another, or it has none.
    """
    found = _SEAL.fullmatch(text)
    if found is None or hashlib.sha256(found[1].encode()).hexdigest() != found[2]:
        got = "no hash at its end, as where it was cut short" if found is None else "another hash"
        raise Damaged(
            f"expected {where} as it was written, got {got}: it is damaged or was altered; a sweep "
            "on its folder runs the run again, or fetch the file anew"
        )
    return json_object(text, str(where))


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


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in a sentence what keeps a file from being written.

    Raises:
        UserError: the disk is full, the folder read-only, or anything else of the system.
    """
    try:
        yield
    except OSError as error:
        do = {
            errno.ENOSPC: "free some space, and go on: what was finished stays",
            errno.EDQUOT: "free some space, and go on: what was finished stays",
            errno.EROFS: "name a folder that can be written",
            errno.EACCES: "name a folder that can be written",
            errno.EPERM: "name a folder that can be written",
        }.get(error.errno or 0, "check the path and the system")
        raise UserError(f"expected to write {path}, got: {error.strerror}; {do}") from error
