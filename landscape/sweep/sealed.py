"""JSON that is sealed with its own hash, so that what was cut short or altered is found."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landscape.errors import UserError
from landscape.folders import finite, json_object, write_whole

_SEAL = re.compile(r'^(\{.+),"sha256":"([0-9a-f]{64})"\}\n?$', re.DOTALL)


class Damaged(UserError):
    """Say that a file or a line is not as it was written: cut short, or altered."""


def seal(values: Mapping[str, Any]) -> str:
    """Return values as one line of JSON whose last entry is the SHA-256 of all before it.

    >>> seal({"b": 1, "a": float("nan")})[:26]
    '{"a":null,"b":1,"sha256":"'
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


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a file of one sealed line.

    Raises:
        Damaged: it is not as it was written.
        UserError: there is none.
    """
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        text = ""
    except OSError as error:
        raise UserError(
            f"expected a finished run in {path.parent}, got: {error.strerror}; run it, or check "
            "the path"
        ) from None
    return unseal(text, path)


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write a file of one sealed line, whole or not at all.

    Raises:
        Unwritable: the disk is full, or the folder read-only.
    """
    text = f"{seal(values)}\n"
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
