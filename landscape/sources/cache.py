"""The one folder where this program keeps what is costly to make again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return the user's cache folder for this program; it may not exist yet.

    ``XDG_CACHE_HOME`` counts on every system; without it the place is the one that the system
    wants (``~/.cache/landscape`` on Linux), or ``~/.cache/landscape`` where that alone exists.
    """
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "landscape"
    place = platformdirs.user_cache_path("landscape", appauthor=False)
    earlier = Path.home() / ".cache" / "landscape"
    return earlier if earlier.is_dir() and not place.is_dir() else place
