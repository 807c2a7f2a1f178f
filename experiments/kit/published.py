"""Where rows lie: a store while runs are computed, a file of a preset once they are published.

experiments/store/<preset>/                    a store of runs, ignored by git
experiments/results/runs/<preset>.jsonl.gz     published rows, each sealed with its hash
experiments/results/<artefact>/<preset>/       a view of them: table.md, figure.png, index.html
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.kit.records import Row
from landscape.errors import UserError

if TYPE_CHECKING:
    from experiments.kit.view import Artefact

HERE = Path(__file__).parent.parent
RESULTS = HERE / "results"


def store_of(preset: str) -> Path:
    """Return the store that runs of a preset are computed into, where none is named."""
    return HERE / "store" / preset


def file_of(preset: str, results: Path = RESULTS) -> Path:
    """Return the file of a preset's published rows."""
    return results / "runs" / f"{preset}.jsonl.gz"


def folder_of(artefact: Artefact, preset: str, results: Path = RESULTS) -> Path:
    """Return the folder of an artefact's published view."""
    return results / artefact.name / preset


def is_published(artefact: Artefact, preset: str, results: Path = RESULTS) -> bool:
    """Tell whether there is a view of published rows; an earlier kit's has rows of its own."""
    folder = folder_of(artefact, preset, results)
    return (folder / "table.md").exists() and not (folder / "rows.jsonl").exists()


def rows_at(source: Path, artefact: Artefact, preset: str) -> list[Row]:
    """Read the rows of an artefact's preset, also those at rates not chosen.

    Args:
        source: a store's folder or a file of rows.
        artefact: whose runs are wanted.
        preset: of the artefact.

    Raises:
        UserError: there is no such source, a row was altered, or none is of this preset.
    """
    from landscape.sweep.published import open_rows

    how = f"python -m experiments run {artefact.name} --preset {preset}"
    if not source.exists():
        raise UserError(f"expected rows at {source}, got none; compute them: {how}")
    rows = artefact.used(open_rows(source).rows(), preset)
    if not rows:
        raise UserError(
            f"expected runs of {artefact.name} with preset {preset} in {source}, got others only; "
            f"compute them: {how}"
        )
    return rows


def publish(artefact: Artefact, preset: str, store: Path, results: Path = RESULTS) -> list[Row]:
    """Add the rows of an artefact's preset to the published ones; return them."""
    used = rows_at(store, artefact, preset)
    merge(file_of(preset, results), used)
    return used


def merge(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a published file; a run that is there keeps its row, what is measured joins it.

    Raises:
        UserError: a run has another result than the one published.
    """
    from landscape.sweep.published import read_rows, write_rows

    there: dict[str, Row] = {}
    if path.exists():
        there = {row["address"]: row for row in read_rows(path).rows()}
    for row in rows:
        old = there.get(row["address"])
        there[row["address"]] = row if old is None else _joined(old, row)
    write_rows(path, (dict(row) for row in there.values()))


def _joined(old: Row, new: Row) -> Row:
    if old["outcome"]["test"] != new["outcome"]["test"]:
        raise UserError(
            f"expected the run {old['address']} as it was published, got another result on test; "
            "say so in the log and remove the published row first"
        )
    return {**old, "measured": {**new["measured"], **old["measured"]}}
