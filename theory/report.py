"""Results as one table for people and one list for machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from theory.claim import Result
from theory.suite import Summary

COLOURS = {"holds": "green", "violated": "red", "vacuous": "yellow"}


def to_json(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """Return one object per claim: id, verdict, expected, and every instance's finding."""
    return [
        {
            "id": summary.claim.id,
            "verdict": summary.verdict,
            "expected": summary.claim.expected,
            "surprising": summary.surprising,
            "statement": summary.claim.statement,
            "source": summary.claim.source,
            "instances": [_instance(result) for result in summary.results],
        }
        for summary in summaries
    ]


def _instance(result: Result) -> dict[str, Any]:
    return {"instance": result.instance, **_finite(asdict(result.finding))}


def _finite(value: Any) -> Any:
    """Replace what JSON has no number for (inf, nan) by null; turn numpy scalars into numbers."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, str | bool | int) or value is None:
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def print_table(summaries: Sequence[Summary], console: Console, *, instances: bool = False) -> None:
    """Print a row for each claim, or for each claim and instance."""
    table = Table(title="Masked linear regression: claims and verdicts", title_justify="left")
    for name in ("claim", "verdict", "on"):
        table.add_column(name, no_wrap=name != "on")
    for name in ("prediction", "measured", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("how", no_wrap=True)
    table.add_column("note")
    for summary in summaries:
        rows = summary.results if instances else (summary.lead,)
        for result in rows:
            table.add_row(*_row(summary, result, instances))
    console.print(table)
    surprises = [s.claim.id for s in summaries if s.surprising]
    if surprises:
        console.print(f"[red]Not as expected: {', '.join(surprises)}[/red]")
    else:
        false = [s.claim.id for s in summaries if s.claim.expected == "violated"]
        refuted = f"; refuted as they should be: {', '.join(false)}" if false else ""
        console.print(f"All {len(summaries)} claims are as expected{refuted}.")


def _row(summary: Summary, result: Result, alone: bool) -> tuple[str, ...]:
    finding = result.finding
    colour = "green" if not summary.surprising else "bold red"
    if result.verdict == "vacuous":
        colour = COLOURS["vacuous"]
    count = sum(r.verdict == result.verdict for r in summary.results)
    share = "" if alone or len(summary.results) == 1 else f" {count}/{len(summary.results)}"
    mark = "" if summary.claim.expected == "holds" else " (false)"
    note = finding.note
    if finding.interval is not None:
        low, high = finding.interval
        counted = f"{finding.violations}/{finding.samples} fail, [{low:.2g}, {high:.2g}]"
        note = f"{counted}; {note}" if note else counted
    return (
        f"{summary.claim.id}{mark}",
        f"[{colour}]{result.verdict}{share}[/{colour}]",
        result.instance,
        f"{finding.prediction:.4g}",
        f"{finding.measurement:.4g}",
        "-" if finding.tightness is None else f"{finding.tightness:.3g}",
        "MC" if finding.method == "Monte Carlo" else "exact",
        note,
    )
