"""Results as one table for people and one list for machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from theory.claim import Result
from theory.suite import Summary

WIDE = 120  # columns of a terminal that holds the notes beside the numbers
NUMBERS = ("predicted", "measured", "tightness")
HEADINGS = ("claim", "verdict", *NUMBERS, "how")
Cells = tuple[Text, ...]


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
    """Print a row for each claim, or for each claim and instance, and one line with the outcome.

    What was measured stands beside the numbers from ``WIDE`` columns on, below them otherwise.
    """
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
    cells = [_cells(summary, result, instances) for summary, result in rows]
    texts = [_explain(summary, result, name=bool(shown)) for summary, result in rows]
    (_print_wide if console.width >= WIDE else _print_narrow)(cells, texts, console)
    surprises = [s.claim.id for s in summaries if s.surprising]
    if surprises:
        console.print(Text(f"Not as expected: {', '.join(surprises)}", style="red"))
        return
    false = [s.claim.id for s in summaries if s.claim.expected == "violated"]
    refuted = f"; known to be false and violated: {', '.join(false)}" if false else ""
    console.print(Text(f"{len(summaries)} of {len(summaries)} claims are as expected{refuted}."))


def _print_wide(cells: list[Cells], texts: list[Text], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in HEADINGS:
        table.add_column(name, justify=_justify(name), no_wrap=True)
    table.add_column("what was measured", overflow="fold")
    for row, text in zip(cells, texts):
        table.add_row(*row, text)
    console.print(table)
    console.print()


def _print_narrow(cells: list[Cells], texts: list[Text], console: Console) -> None:
    headings = tuple(Text(name, style="bold") for name in HEADINGS)
    widths = [max(len(row[i]) for row in (headings, *cells)) for i in range(len(HEADINGS))]
    for row, text in zip((headings, *cells), (None, *texts)):
        grid = Table.grid(padding=(0, 2, 0, 0))
        for name, width in zip(HEADINGS, widths):
            grid.add_column(justify=_justify(name), width=width, no_wrap=True)
        grid.add_row(*row)
        console.print(grid)
        if text is not None:
            console.print(Padding(text, (0, 0, 1, 2)))


def _justify(name: str) -> Literal["left", "right"]:
    return "right" if name in NUMBERS else "left"


def _cells(summary: Summary, result: Result, alone: bool) -> Cells:
    finding = result.finding
    count = sum(r.verdict == result.verdict for r in summary.results)
    share = "" if alone or len(summary.results) == 1 else f" {count}/{len(summary.results)}"
    colour = "bold red" if summary.surprising else "green"
    return (
        Text(summary.claim.id),
        Text(f"{result.verdict}{share}", style="yellow" if result.verdict == "vacuous" else colour),
        Text(f"{finding.prediction:.4g}"),
        Text(f"{finding.measurement:.4g}"),
        Text("-" if finding.tightness is None else f"{finding.tightness:.3g}"),
        Text("sampled" if finding.method == "Monte Carlo" else "exact"),
    )


def _explain(summary: Summary, result: Result, *, name: bool) -> Text:
    finding, parts = result.finding, []
    if name:
        parts.append(f"on {result.instance}")
    if summary.claim.expected == "violated":
        parts.append("known to be false")
    if finding.interval is not None:
        low, high = finding.interval
        parts.append(f"{finding.violations}/{finding.samples} masks fail, [{low:.2g}, {high:.2g}]")
    if finding.note:
        parts.append(finding.note)
    return Text(finding.quantity).append("".join(f"; {part}" for part in parts), style="dim")
