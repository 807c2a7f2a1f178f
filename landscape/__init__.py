"""Masked fine-tuning of pretrained models, and the loss landscape inside the mask."""

import os as _os

import lazy_loader as _lazy

# GNU OpenMP's threads wait for each other by spinning, 300,000 turns at every barrier: beside any
# other busy process a step takes ten to twenty times as long. It reads this when torch is loaded,
# so it is too late where torch was imported first; a value that the user has set stays.
_os.environ.setdefault("GOMP_SPINCOUNT", "2000")

# every public name is imported when it is first used, so that what needs little starts at once; the
# names, and where each lives, are listed in __init__.pyi
_public, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("landscape-toolkit")
        except PackageNotFoundError:
            return "unknown (not installed)"
    return _public(name)
