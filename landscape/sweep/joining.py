"""Rows that were made on another machine join a store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from landscape.sweep.changed import Arrivals
from landscape.sweep.config import RunConfig
from landscape.sweep.rows import MODEL_FILES, TASK_FILES, Row, checked, refuse_moved
from landscape.sweep.store import RunStore


@dataclass(frozen=True)
class Joined:
    """Say what became of rows that joined a store.

    Args:
        added: runs that the store lacked.
        kept: runs that it had already, with the same outcome.
        measured: measurements that those lacked, and now have.
        different: addresses of runs that it had with another outcome; its own stayed.
    """

    added: int
    kept: int
    measured: int
    different: tuple[str, ...]


def join(store: RunStore, rows: Iterable[Row]) -> Joined:
    """Take rows that were made elsewhere into a store; what is there stays.

    Args:
        store: hold it (`RunStore.locked`) while a sweep might run on it.
        rows: of another store or a published file. Files of the runs, such as theta, stay there.

    Raises:
        UserError: an address is not that of its configuration, or a row has a model or a task of
            the same name and other contents than another: none joins. Or the folder cannot be
            written.
    """
    arrivals, joining = Arrivals(store), list[tuple[RunConfig, Row]]()
    for given in rows:
        row = checked(dict(given), "a row")
        config = refuse_moved(row, "a row")
        if config not in store:
            arrivals.refuse_other(row)
        joining.append((config, row))
    added, kept, measured, different = 0, 0, 0, []
    for config, row in joining:
        here = store.row(config) if config in store else None
        if here is not None and _found(here) != _found(row):
            different.append(config.address)
            continue
        missing = row["measured"].keys() - (here["measured"].keys() if here else set())
        for key in sorted(missing):
            store.write_measured(config, key, row["measured"][key], provenance={})
        if here is None:
            store.write(config, row["outcome"], provenance=row.get("provenance") or {})
            added += 1
        else:
            kept, measured = kept + 1, measured + len(missing)
    return Joined(added, kept, measured, tuple(different))


def _found(row: Row) -> dict[str, Any]:
    """Return what a row found that does not depend on the machine's speed, nor on files' names."""
    found = {k: v for k, v in row["outcome"].items() if k not in ("seconds", "peak_memory")}
    if "identity" in found:  # files are named there by newer rows only
        identity = found["identity"].items()
        found["identity"] = {k: v for k, v in identity if k not in (MODEL_FILES, TASK_FILES)}
    return found
