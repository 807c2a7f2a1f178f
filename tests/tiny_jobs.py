"""Jobs of a tiny model on two-sentence films, a fraction of a second each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samples import glue_folder, model_folder

from landscape.sweep.config import RunConfig
from landscape.sweep.executors import Job, Places
from landscape.sweep.rows import Row

SIZES: dict[str, Any] = {
    "task": "sst2", "num_train": 16, "num_dev": 6, "num_test": 8, "epochs": 1, "batch_size": 4,
    "lr": 1e-2,
}  # fmt: skip


@dataclass(frozen=True)
class Tiny:
    """Make jobs whose model and task lie in a folder."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> Tiny:
        """Write the models and the task."""
        model_folder(folder / "opt")
        model_folder(folder / "bert", "bert")
        glue_folder(folder / "SST-2")
        return cls(folder)

    @property
    def places(self) -> Places:
        """Return where the task lies."""
        return Places({"sst2": str(self.folder / "SST-2")})

    def config(self, model: str = "opt", **values: Any) -> RunConfig:
        """Return a configuration; values that are not given are tiny."""
        if values.get("method", "random") == "random" and "count" not in values:
            values.setdefault("ratio", 1e-2)
        return RunConfig(**{**SIZES, **values, "model": str(self.folder / model)})

    def job(self, measure: dict[str, Any] | None = None, **values: Any) -> Job:
        """Return a job; values as of `config`."""
        return Job(self.config(**values), measure or {})


def lasting(row: Row) -> Row:
    """Return what of a row does not depend on when and where it was computed."""
    kept = {k: v for k, v in row.items() if k not in ("provenance", "sha256")}
    passing = ("seconds", "peak_memory")
    return kept | {"outcome": {k: v for k, v in row["outcome"].items() if k not in passing}}
