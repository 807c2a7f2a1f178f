"""Rows as a sweep writes them, made up: for artefacts, whose views are functions of rows alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from landscape.sweep import Grid, Row, RunConfig
from landscape.sweep.measurements import key
from landscape.sweep.plan import wanted

MADE_BY = {
    "command": "made up", "commit": None, "versions": {"torch": "0"}, "device": "none",
    "threads": 1, "platform": "none", "date": "2024-01-01T00:00:00+00:00",
}  # fmt: skip


def made(grids: Sequence[Grid], outcome: Callable[[RunConfig], Mapping[str, Any]]) -> list[Row]:
    """Return a row for every run that grids need, as a whole sweep would.

    Args:
        grids: of an artefact's preset.
        outcome: config -> its outcome; ``dev`` and ``test`` as plain accuracies, and what a
            measurement found under the measurement's name.
    """
    rows: dict[str, Row] = {}
    while True:
        jobs = wanted(list(grids), rows)
        if all(job.config.address in rows for job in jobs):
            return list(rows.values())
        for job in jobs:
            found = dict(outcome(job.config))
            rows[job.config.address] = row(
                job.config,
                {k: v for k, v in found.items() if k not in job.measure},
                {key(n, o): found[n] for n, o in job.measure.items() if n in found},
            )


def row(
    config: RunConfig, outcome: Mapping[str, Any], measured: Mapping[str, Any] | None = None
) -> Row:
    """Return the row of a run."""
    scores = {
        split: {"accuracy": outcome[split], "loss": 1.0 - outcome[split], "n": 100}
        for split in ("dev", "test") if outcome.get(split) is not None
    }  # fmt: skip
    usual = {
        "metric": "accuracy", "count": 0, "ratio": config.ratio, "dev": None, "diverged": False,
        "seconds": 36.0,
    }  # fmt: skip
    return {
        "address": config.address, "config": config.as_dict(), "provenance": dict(MADE_BY),
        "outcome": usual | dict(outcome) | scores, "measured": dict(measured or {}),
    }  # fmt: skip
