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

from experiments.settings import paper
from experiments.verdict import Finding
from landscape.errors import UserError
from landscape.runs import json_object, open_folder, peak_memory, provenance, read_json
from landscape.sources.carriers import require

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Setting:
    """Hold what artefacts share; a field is an option, with a sentence and a default."""

    #: model: a packaged name, a hub name or a path
    model: str = paper("facebook/opt-125m")
    #: task, by name
    task: str = paper("sst2")
    #: folder with the task's files in the official layout, instead of the hub
    source: str = ""
    #: patterns of the masked modules
    targets: str = paper("*.[qv]_proj")
    #: trainable over all parameters
    ratios: tuple[float, ...] = paper((1e-1, 1e-2, 1e-3, 1e-4, 1e-5))
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
        needs: modules of optional packages without which it cannot run.
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
    needs: tuple[str, ...] = ()

    def configure(self, preset: str, overrides: Mapping[str, Any]) -> Any:
        """Resolve a preset and the command line's overrides.

        Raises:
            UserError: the preset is unknown.
        """
        if preset not in self.presets:
            raise UserError(
                f"expected a preset of {self.name} among {', '.join(self.presets)}, "
                f"got {preset!r}; check the spelling"
            )
        return self.config(**{**self.presets[preset], **overrides})

    def run(self, config: Any, folder: Path) -> list[Row]:
        """Compute the rows that the folder lacks and return all of them.

        Raises:
            UserError: the folder holds another configuration, or a package is missing.
        """
        require(f"the artefact {self.name}", *self.needs)
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
        _end_at_a_whole_row(self._path)
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
    """Read the whole rows of a folder, and leave the file as it is.

    A last line without an end is left out: it was cut off by a kill, or a run is writing it now.

    Raises:
        UserError: a line before the last is damaged.
    """
    path = folder / "rows.jsonl"
    if not path.exists():
        return []
    rows = []
    text = path.read_text(encoding="utf-8", errors="replace")  # in a text it spoils one row
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            row = json_object(line, f"line {number}")
        except UserError as error:
            raise UserError(f"{path}, line {number} is damaged: {error}; remove it") from error
        if "\ufffd" in line or not isinstance(row.get("key"), str):
            raise UserError(f"{path}, line {number} is damaged: no row with a key; remove it")
        rows.append(row)
    return rows


def _end_at_a_whole_row(path: Path) -> None:
    """Drop a row that a kill cut off, so that what is appended starts a fresh line."""
    if path.exists() and not (data := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)


def stored_config(artefact: Artefact, folder: Path) -> Any:
    """Return the configuration that a folder was run with.

    A setting that the run did not store, because it was made before there was such a setting, is
    None: what it was is unknown, whatever its default is today.

    Raises:
        UserError: the folder holds no run of this artefact, or one with settings it does not have.
    """
    path = folder / "config.json"
    stored = read_json(path) if path.exists() else {}
    if stored.pop("artefact", None) != artefact.name:
        others = sorted(p.parent.name for p in folder.parent.glob("*/config.json"))
        hint = f", or give --preset one that was: {', '.join(others)}" if others else ""
        raise UserError(
            f"expected a run of {artefact.name} in {folder}, got none; run it first{hint}"
        )
    known = [field.name for field in dataclasses.fields(artefact.config)]
    if surplus := sorted(set(stored) - set(known)):
        raise UserError(
            f"expected the settings of {artefact.name} in {path}, got also {', '.join(surplus)}; "
            "read it with the version that wrote it"
        )
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in stored.items()}
    return artefact.config(**{name: values.get(name) for name in known})


def unknown_settings(config: Any) -> list[str]:
    """List the settings that a stored configuration does not know."""
    return [f.name for f in dataclasses.fields(config) if getattr(config, f.name) is None]
