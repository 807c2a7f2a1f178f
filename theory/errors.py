"""Refuse bad input with landscape's error, without importing landscape before it is needed."""

from __future__ import annotations


def refuse(message: str) -> ValueError:
    """Return a ``landscape.errors.UserError``: what was expected, what came, what to do.

    Importing landscape imports torch, which takes seconds, and nothing else here needs it.
    """
    from landscape.errors import UserError

    return UserError(message)
