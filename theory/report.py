"""Results as one table for people and one list for machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from theory.claim import Result, Verdict
from theory.explain import OTHER, chapters_of
from theory.suite import Summary

COLUMNS = ("claim", "verdict", "predicted", "measured", "tightness", "how")
LEGEND = (
    ("predicted, measured", "what the formula says, and what was found, of the quantity below"),
    ("tightness", "predicted over measured: the nearer 1, the tighter a bound"),
    ("how", "exact: closed form or float64 to rounding; sampled: random masks or noise, "
     "with an interval or standard error; certificate: exact, on an instance of its own"),
    ("holds", "true on the instance, or settled by enough masks"),
    ("violated", "refuted; as it should be where a claim is known to be false"),
    ("vacuous", "says nothing about the instance, so it is neither right nor wrong there"),
    ("unsettled", "says something, but the sample or float64 is too small to decide"),
)  # fmt: skip
WORDS: dict[Verdict, str] = {
    "violated": "is refuted on",
    "holds": "holds on",
    "unsettled": "is unsettled on",
    "vacuous": "says nothing about",
}


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
            "chapter": summary.claim.chapter,
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
    """Print each claim with its numbers, sentence and verdicts by chapter, a legend, the outcome.

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
    names = _names(summaries)
    title = f"{len(summaries)} claims" if len(summaries) > 1 else summaries[0].claim.id
    console.print(Text(f"Masked linear regression: {title}, verified", style="bold"))
    if len(names) == 1:
        console.print(Text(f"The instance: {names[0]}", style="dim"))
    elif not instances:
        console.print(Text(f"{len(names)} instances, numbers of the first that decides:"))
        for group in _grouped(names):
            console.print(Padding(Text(group, style="dim"), (0, 0, 0, 2)))
    widths = _widths([result for _, result in rows])
    for chapter in chapters_of([summary.claim for summary in summaries]):
        console.print()
        console.print(Text(chapter, style="bold underline"))
        console.print(Text(_line(dict(zip(COLUMNS, COLUMNS)), widths), style="dim"))
        for summary, result in rows:
            if (summary.claim.chapter or OTHER) == chapter:
                _print_row(console, summary, result, widths, many=len(names), each=instances)
    console.print()
    _print_legend(console)
    for sentence, style in _outcome(summaries):
        console.print(Text(sentence, style=style))


def _print_row(
    console: Console, summary: Summary, result: Result, widths: dict[str, int], *, many: int,
    each: bool,
) -> None:  # fmt: skip
    text = Text(_line(_cells(result), widths))
    text.highlight_regex(rf"(?<= ){result.verdict}(?= )", _colour(summary, result))
    console.print(text)
    console.print(Padding(Text(summary.claim.brief), (0, 0, 0, 2)))
    console.print(
        Padding(Text(_explain(summary, result, many=many, each=each), "dim"), (0, 0, 0, 4))
    )


def _print_legend(console: Console) -> None:
    console.print(Text("How to read it", style="bold"))
    for word, meaning in LEGEND:
        console.print(Padding(Text(f"{word}: {meaning}.", style="dim"), (0, 0, 0, 2)))
    more = "python -m theory explain ID: statement, proof, how it is measured, every instance."
    console.print(Padding(Text(more, style="dim"), (0, 0, 1, 2)))


def _names(summaries: Sequence[Summary]) -> list[str]:
    return list(dict.fromkeys(r.instance for summary in summaries for r in summary.results))


def _grouped(names: Sequence[str]) -> list[str]:
    """Return the names by their sizes, "n=8 d=4000 p=0.05: uniform, gaussian"."""
    sizes: dict[str, list[str]] = {}
    for name in names:
        features, _, size = name.partition(" n=")
        sizes.setdefault(f"n={size}", []).append(features)
    return [f"{size}: {', '.join(features)}" for size, features in sizes.items()]


def _widths(results: Sequence[Result]) -> dict[str, int]:
    cells = [_cells(result) for result in results]
    return {c: max(len(c), *(len(cell[c]) for cell in cells)) for c in COLUMNS}


def _line(cells: dict[str, str], widths: dict[str, int]) -> str:
    left = ("claim", "verdict", "how")
    padded = (
        cells[c].ljust(widths[c]) if c in left else cells[c].rjust(widths[c]) for c in COLUMNS
    )
    return "  ".join(padded).rstrip()


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


def _explain(summary: Summary, result: Result, *, many: int, each: bool) -> str:
    """Say what the numbers are of, on what, and on how many instances the verdict is which.

    The notes, which are long, are printed where there is one claim or one instance.
    """
    finding, parts = result.finding, [result.finding.quantity]
    certificate = finding.method == "certificate"
    if each:
        parts.append(f"on {result.instance}")
    elif many > 1 and not certificate:
        parts.append(_counted(summary))
        if result.instance != summary.results[0].instance:
            parts.append(f"numbers of {result.instance}")
    if summary.claim.expected == "violated":
        parts.append("known to be false")
    if finding.interval is not None:
        low, high = finding.interval
        parts.append(
            f"the bound fails for {finding.violations} of {finding.samples} masks, so with "
            f"probability {low:.2g} to {high:.2g}"
        )
    if finding.note and (many == 1 or each):
        parts.append(finding.note)
    return "; ".join(parts)


def _counted(summary: Summary) -> str:
    """Say on how many instances which verdict came out, in words, and where the claim is silent.

    "says nothing about 9 of 11" and not "holds 2/11", which reads like nine failures.
    """
    total, counts = len(summary.results), summary.counts
    if len(counts) == 1:
        return f"{WORDS[next(iter(counts))]} all {total} instances"
    return ", ".join(
        f"{WORDS[verdict]} {count}" + (f" of {total} instances" if i == 0 else "")
        for i, (verdict, count) in enumerate(counts.items())
    )


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
