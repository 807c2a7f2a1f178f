"""Where models and data come from: the hub, packages that carry them, the user's cache folder."""

from landscape.sources.cache import cache_folder
from landscape.sources.pinned import Pinned

__all__ = ["Pinned", "cache_folder"]
