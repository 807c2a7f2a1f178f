"""``landscape runs tidy | import | export``: what a store keeps, takes in and gives away."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from landscape.cli.guard import leaving
from landscape.cli.runs.reading import open_store, read
from landscape.cli.shared import Outcome
from landscape.shown import counted


def tidy_runs(chosen: argparse.Namespace) -> Outcome:
    """Say what could be removed, or remove it; rows stay."""
    from landscape.sweep.tidying import removable, remove

    store = open_store(chosen.source)
    if chosen.yes:
        with leaving(f"no row of {store.folder} is lost: the same command removes what is left"):
            found = remove(store)
    else:
        found = removable(store)
    kinds = list(dict.fromkeys(one.kind for one in found))
    for kind in kinds:
        sizes = [one.size for one in found if one.kind == kind]
        print(f"{kind}s: {len(sizes)}, {sum(sizes):,} bytes")
    do = "removed" if chosen.yes else "could be removed; --yes removes it"
    print(f"{sum(one.size for one in found):,} bytes {do}" if found else "nothing to remove")
    listed: list[dict[str, Any]] = [
        dataclasses.asdict(one) | {"path": str(one.path)} for one in found
    ]
    return Outcome({"removed": chosen.yes, "found": listed})


def import_runs(chosen: argparse.Namespace) -> Outcome:
    """Take in the rows of a file or of another store; what the store has stays."""
    from landscape.sweep import RunStore, join, open_rows

    rows, store = open_rows(chosen.source), RunStore(chosen.folder)
    words = f"{store.folder} keeps the runs taken in so far: the same command takes in the others"
    with leaving(words), store.locked():
        joined = join(store, rows.rows())
    print(
        f"{counted(joined.added, 'run')} added, {joined.kept} were there already, "
        f"{joined.measured} measurements added to these: {store.folder}"
    )
    if joined.different:
        few = ", ".join(joined.different[:3])
        print(
            f"{len(joined.different)} were there with another outcome, which stays ({few}): as "
            "another machine, or another version, computes them"
        )
    return Outcome(dataclasses.asdict(joined) | {"folder": str(store.folder)})


def export_runs(chosen: argparse.Namespace) -> Outcome:
    """Write the rows that meet the conditions into one file."""
    from landscape.sweep import write_rows
    from landscape.sweep.choosing import chosen as meeting
    from landscape.sweep.choosing import conditions

    wanted = conditions(chosen.where)
    found = read(chosen.source)
    addresses = list(meeting(found.frame, wanted)["address"])
    found.tell()
    path = write_rows(chosen.output, map(found.rows.at, addresses))
    print(f"{counted(len(addresses), 'run')}: {path} ({path.stat().st_size:,} bytes)")
    return Outcome({"output": str(path), "runs": len(addresses), **found.as_dict()})
