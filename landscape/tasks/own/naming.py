"""Names in sentences: which there are, and which somebody may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def nearest(wrong: str, known: Sequence[str]) -> str:
    """Say which of the known names somebody may have meant, or which there are.

    >>> nearest("lable", ("text", "label"))
    "write 'label', which is there, or another of text, label"
    """
    folded = {name.casefold().strip(): name for name in known}
    close = difflib.get_close_matches(wrong.casefold().strip(), folded, n=1)
    if close:
        return f"write {folded[close[0]]!r}, which is there, or another of {listed(known)}"
    return f"choose among {listed(known) or 'none'}"


def listed(names: Sequence[str]) -> str:
    """Return names in a line, the first twenty of more."""
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
