"""Every artefact: found in the folders of its source, in the order of their names."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from experiments.kit.view import Artefact
from landscape.errors import UserError
from landscape.sweep.naming import known

SOURCES = ("random_masking", "id3", "ours")
"""Folders of artefacts."""
DECLARED = "from experiments.kit.view import Artefact"
"""What the file of an artefact says; it ends in ``ARTEFACT``."""


@cache
def artefacts() -> dict[str, Artefact]:
    """Return every artefact by its name.

    Raises:
        UserError: two of one name.
    """
    found: dict[str, Artefact] = {}
    for source in SOURCES:
        for path in sorted((Path(__file__).parent / source).glob("*.py")):
            if DECLARED not in path.read_text(encoding="utf-8"):
                continue  # and is not imported: what measures needs torch, which takes seconds
            one: Artefact = importlib.import_module(f"experiments.{source}.{path.stem}").ARTEFACT
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
    found = artefacts()
    return found[known("an artefact", name, found)]
