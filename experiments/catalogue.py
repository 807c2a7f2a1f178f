"""Every artefact: found in the folders of its source, in the order of their names."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from experiments.kit.view import Artefact
from landscape.errors import UserError
from landscape.sweep.config import nearest

SOURCES = ("random_masking", "id3", "ours")
"""Folders of artefacts; a file there with ``ARTEFACT`` is one."""


@cache
def artefacts() -> dict[str, Artefact]:
    """Return every artefact by its name.

    Raises:
        UserError: two of one name.
    """
    found: dict[str, Artefact] = {}
    for source in SOURCES:
        for path in sorted((Path(__file__).parent / source).glob("*.py")):
            module = importlib.import_module(f"experiments.{source}.{path.stem}")
            one = getattr(module, "ARTEFACT", None)
            if not isinstance(one, Artefact):
                continue
            if one.name in found:
                raise UserError(f"expected artefacts of different names, got {one.name} twice; "
                                f"rename that of {path}")  # fmt: skip
            found[one.name] = one
    return found


def artefact(name: str) -> Artefact:
    """Return an artefact by its name.

    Raises:
        UserError: there is none; the nearest name is offered.
    """
    known = artefacts()
    if name not in known:
        raise UserError(
            f"expected an artefact among {', '.join(known)}, got {name!r}"
            f"{nearest(name, list(known))}"
        )
    return known[name]
