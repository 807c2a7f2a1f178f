"""Results as one table for people and one list for machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from landscape.figures.table import format_table
from theory.claim import Result
from theory.suite import Summary


def to_json(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """Return one object per claim: id, verdict, its counts, and every instance's finding."""
    return [
        {
            "id": summary.claim.id,
            "verdict": summary.verdict,
            "counts": summary.counts,
            "expected": summary.claim.expected,
            "surprising": summary.surprising,
            "brief": summary.claim.brief,
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


def print_table(
    summaries: Sequence[Summary], console: Console | None = None, *, instances: bool = False
) -> None:
    """Print each claim with its numbers, statement and verdicts, and the outcome in one sentence.

    Args:
        summaries: one a claim.
        console: where to print; None for the terminal.
        instances: one row for each claim and instance.
    """
    console = Console() if console is None else console
    rows = [
        (summary, result)
        for summary in summaries
        for result in (summary.results if instances else (summary.lead,))
    ]
    shown = {result.instance for _, result in rows}
    console.print(Text("Masked linear regression: claims and verdicts", style="bold"))
    if len(shown) == 1:
        console.print(Text(f"Numbers of the instance {shown.pop()}", style="dim"))
    console.print()
    table = format_table([_cells(result) for _, result in rows], plain=True)
    heading, *lines = table.splitlines()
    console.print(Text(heading, style="bold"))
    for line, (summary, result) in zip(lines, rows, strict=True):
        text = Text(line)
        text.highlight_regex(rf"(?<= ){result.verdict}(?= )", _colour(summary, result))
        console.print(text)
        console.print(Padding(Text(summary.claim.brief), (0, 0, 0, 2)))
        text = _explain(summary, result, name=bool(shown), counts=not instances)
        console.print(Padding(text, (0, 0, 1, 2)))
    for sentence, style in _outcome(summaries):
        console.print(Text(sentence, style=style))


def _colour(summary: Summary, result: Result) -> str:
    if summary.surprising:
        return "bold red"
    return "yellow" if result.verdict in ("vacuous", "unsettled") else "green"


def _cells(result: Result) -> dict[str, str]:
    finding = result.finding
    return {
        "claim": result.id,
        "verdict": result.verdict,
        "predicted": f"{finding.prediction:.4g}",
        "measured": f"{finding.measurement:.4g}",
        "tightness": "-" if finding.tightness is None else f"{finding.tightness:.3g}",
        "how": "sampled" if finding.method == "Monte Carlo" else finding.method,
    }


def _explain(summary: Summary, result: Result, *, name: bool, counts: bool) -> Text:
    finding, parts = result.finding, []
    certificate = finding.method == "certificate"
    if counts and len(summary.results) > 1 and not certificate:
        each = ", ".join(f"{verdict} {count}" for verdict, count in summary.counts.items())
        parts.append(f"{len(summary.results)} instances: {each}")
    if name and not certificate:
        parts.append(f"on {result.instance}")
    if summary.claim.expected == "violated":
        parts.append("known to be false")
    if finding.interval is not None:
        low, high = finding.interval
        parts.append(f"{finding.violations}/{finding.samples} masks fail, [{low:.2g}, {high:.2g}]")
    if finding.note:
        parts.append(finding.note)
    return Text(f"{finding.quantity}; {'; '.join(parts)}" if parts else finding.quantity, "dim")


def _outcome(summaries: Sequence[Summary]) -> list[tuple[str, str]]:
    """Return the sentences below the table, each with its style: every claim is in exactly one."""
    surprising = [s for s in summaries if s.surprising]
    rest = [s for s in summaries if not s.surprising]
    groups = {
        "Not as expected": (surprising, "red"),
        "Hold": ([s for s in rest if s.verdict == "holds"], ""),
        "Known to be false and violated": ([s for s in rest if s.verdict == "violated"], ""),
        "Unsettled, the sample or float64 is too small": (
            [s for s in rest if s.verdict == "unsettled"],
            "yellow",
        ),
        "Vacuous, they say nothing here": ([s for s in rest if s.verdict == "vacuous"], "yellow"),
    }
    sentences = [
        (f"{name}: {len(found)} of {len(summaries)} claims", found, style)
        for name, (found, style) in groups.items()
        if found
    ]
    return [
        (text + ("." if text.startswith("Hold") else f": {_ids(found)}."), style)
        for text, found, style in sentences
    ]


def _ids(summaries: Sequence[Summary]) -> str:
    return ", ".join(s.claim.id for s in summaries)
