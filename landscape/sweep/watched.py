"""Watched trainings: which probes have seen a training from its first step."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from landscape.folders import read_json, write_json


class Watched:
    """Hold the folder of a training, and beside it the keys of the probes that watch it.

    Args:
        folder: of the training, which need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder.with_name(f"{folder.name}.watched")

    @property
    def begun(self) -> bool:
        """Tell whether the training has begun."""
        return (self.folder / "config.json").exists()

    @property
    def finished(self) -> bool:
        """Tell whether the training has ended."""
        return (self.folder / "result.json").exists()

    @property
    def keys(self) -> set[str]:
        """Return whose records of a training that has begun are whole so far."""
        return set(read_json(self._file)["keys"]) if self._file.exists() else set()

    def begin(self, keys: Collection[str]) -> set[str]:
        """Begin or go on with some probes; return those whose records will be whole.

        One that leaves before the end has seen a part, which counts for nothing.
        """
        found = self.keys.intersection(keys) if self.begun else set(keys)
        if not self.finished and found != self.keys:
            write_json(self._file, {"keys": sorted(found)})
        return found

    def remove(self) -> None:
        """Remove the training, what says that it has begun last."""
        files = self.folder.iterdir() if self.folder.exists() else []
        for path in sorted(files, key=lambda path: path.name == "config.json"):
            path.unlink()
        self._file.unlink(missing_ok=True)
        if self.folder.exists():
            self.folder.rmdir()
