"""Names that somebody writes: one of those known, or a sentence with the nearest one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from landscape.errors import UserError


def known(of: str, name: str, names: Iterable[str]) -> str:
    """Return a name that is one of those known.

    Args:
        of: what it is the name of, as in "an axis".
        name: as it was written.
        names: all that there are.

    Raises:
        UserError: it is none of them; the nearest one is offered.

    >>> known("an axis", "lr", ["ratio", "lr"])
    'lr'
    """
    every = list(names)
    if name not in every:
        listed = ", ".join(every) or "none"
        raise UserError(f"expected {of} among {listed}, got {name!r}{nearest(name, every)}")
    return name


def nearest(name: object, names: Iterable[str]) -> str:
    """Return what to do about a name that nobody knows: the nearest one, where one is near.

    >>> nearest("ration", ["ratio", "lr"])
    '; did you mean ratio?'
    """
    found = difflib.get_close_matches(str(name), list(names), n=1)
    return f"; did you mean {found[0]}?" if found else "; check the spelling"
