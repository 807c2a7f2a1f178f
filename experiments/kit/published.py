"""Where rows lie: a store while runs are computed, a file of a preset once they are published.

experiments/store/<preset>/                    a store of runs, ignored by git
experiments/results/runs/<preset>.jsonl.gz     published rows, each sealed with its hash
experiments/results/<artefact>/<preset>/       a view of them: table.md, figure.png, index.html
"""

from __future__ import annotations

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
    """Add the rows of an artefact's preset to the published ones; return them.

    A run that is published already keeps its row, unless the store measured more on it.
    """
    from landscape.sweep.published import read_rows, write_rows

    used, path = rows_at(store, artefact, preset), file_of(preset, results)
    there = {row["address"]: row for row in read_rows(path).rows()} if path.exists() else {}
    for row in used:
        old = there.get(row["address"])
        if old is None or not row["measured"].keys() <= old["measured"].keys():
            there[row["address"]] = row if old is None else _joined(old, row)
    write_rows(path, there.values())
    return used


def _joined(old: Row, new: Row) -> Row:
    """Return a published row with what has been measured since.

    Raises:
        UserError: the two are not the same run's.
    """
    if old["outcome"]["test"] != new["outcome"]["test"]:
        raise UserError(
            f"expected the run {old['address']} as it was published, got another result on test; "
            "say so in the log and remove the published row first"
        )
    return {**old, "measured": {**old["measured"], **new["measured"]}}
