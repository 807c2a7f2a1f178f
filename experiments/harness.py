"""What every artefact shares: presets, rows with provenance, a folder that resumes."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.verdict import Finding
from landscape.errors import UserError
from landscape.runs import open_folder, peak_memory, provenance, read_json

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Setting:
    """Hold what artefacts share; a field is a sentence, an option, and by default the paper's."""

    #: model: a packaged name, a hub name or a path
    model: str = "facebook/opt-125m"
    #: task, by name
    task: str = "sst2"
    #: folder with the task's files in the official layout, instead of the hub
    source: str = ""
    #: patterns of the masked modules
    targets: str = "*.[qv]_proj"
    #: trainable over all parameters
    ratios: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
    #: each seed draws its mask, its examples and their order
    seeds: tuple[int, ...] = (0, 1, 2)


#: the model and the data that come as packages, for presets that need no network
PACKAGED = {"model": "smollm2-135m", "task": "rotten_tomatoes"}


@dataclass(frozen=True)
class Artefact:
    """Describe a figure or table of a paper: how to run it, draw it and judge it.

    Args:
        name: its name on the command line.
        title: one sentence.
        source: paper and number.
        config: frozen dataclass whose defaults are the paper's values; must have `seeds`.
        presets: preset -> the deviations from the defaults.
        rows: ``rows(config, store)`` computes what the store lacks.
        render: ``render(rows, folder)`` draws; cheap and pure.
        check: ``check(rows)`` compares the rows with the paper's statements.
        expected: ``expected(config)`` gives the keys of all rows.
    """

    name: str
    title: str
    source: str
    config: type
    presets: Mapping[str, Mapping[str, Any]]
    rows: Callable[[Any, Store], None]
    render: Callable[[Sequence[Row], Path], list[Path]]
    check: Callable[[Sequence[Row]], list[Finding]]
    expected: Callable[[Any], list[str]]

    def configure(self, preset: str, overrides: Mapping[str, Any]) -> Any:
        """Resolve a preset and the command line's overrides.

        Raises:
            UserError: the preset is unknown.
        """
        if preset not in self.presets:
            known = ", ".join(self.presets)
            raise UserError(f"{self.name} has the presets {known}, got {preset!r}")
        return self.config(**{**self.presets[preset], **overrides})

    def run(self, config: Any, folder: Path) -> list[Row]:
        """Compute the rows that the folder lacks and return all of them.

        Raises:
            UserError: the folder holds another configuration.
        """
        settings = {"artefact": self.name, **dataclasses.asdict(config)}
        store = Store(open_folder(folder, settings))
        store.say(f"{folder}: {len(store)} of {len(self.expected(config))} rows already there")
        self.rows(config, store)
        return list(store)


class Store:
    """Hold an artefact's rows in ``rows.jsonl``, one line a row, appended as they are computed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "rows.jsonl"
        self._rows: dict[str, Row] = {row["key"]: row for row in read_rows(folder)}
        self._provenance = provenance()

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __getitem__(self, key: str) -> Row:
        return self._rows[key]

    def compute(self, key: str, function: Callable[[], Mapping[str, Any]]) -> Row:
        """Return the row of a key, computing and appending it where it is missing."""
        if key not in self._rows:
            start = time.perf_counter()
            values = dict(function())
            row: Row = {
                "key": key,
                **values,
                "seconds": time.perf_counter() - start,
                "peak_memory": peak_memory(),
                "provenance": self._provenance,
            }
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self._rows[key] = row
        return self._rows[key]

    @staticmethod
    def say(text: str) -> None:
        """Tell the user what happens next."""
        print(text, flush=True)


def read_rows(folder: Path) -> list[Row]:
    """Read the whole rows of a folder; a last line cut off by a kill is left out.

    Raises:
        UserError: a line before the last is damaged.
    """
    path = folder / "rows.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number} is damaged: {error}; remove it") from error
    if lines[-1]:  # a row cut off by a kill: drop it, so that appending starts a fresh line
        path.write_text("\n".join([*lines[:-1], ""]), encoding="utf-8")
    return rows


def stored_config(artefact: Artefact, folder: Path) -> Any:
    """Return the configuration that a folder was run with.

    Raises:
        UserError: the folder holds no run of this artefact.
    """
    path = folder / "config.json"
    stored = read_json(path) if path.exists() else {}
    if stored.pop("artefact", None) != artefact.name:
        raise UserError(f"{folder} holds no run of {artefact.name}; run it first")
    return artefact.config(**{k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()})
