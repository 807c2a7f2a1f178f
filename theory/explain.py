"""``python -m theory explain ID``: one claim in full, and its verdict on every instance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from landscape.figures.table import format_table
from theory.claim import Claim, Result
from theory.meaning import MEANING

OTHER = "Further claims"  # chapter of a claim that names none


def print_claims(claims: Sequence[Claim], console: Console | None = None) -> None:
    """Print the id and the sentence of claims, by chapter."""
    console = Console() if console is None else console
    for chapter in chapters_of(claims):
        console.print(Text(chapter, style="bold"))
        for one in claims:
            if (one.chapter or OTHER) == chapter:
                console.print(Text(f"  {one.id}", style="cyan"))
                console.print(Padding(Text(one.brief), (0, 0, 0, 4)))
        console.print()


def chapters_of(claims: Sequence[Claim]) -> list[str]:
    """Return the chapters of claims, each once, in the order of the claims."""
    return list(dict.fromkeys(one.chapter or OTHER for one in claims))


def print_explanation(
    claim: Claim, results: Sequence[Result], console: Console | None = None
) -> None:
    """Print what is claimed, where, why, how it is measured, and what came out on each instance.

    Args:
        claim: the claim.
        results: its results, one an instance.
        console: where to print; None for the terminal.
    """
    console = Console() if console is None else console
    false = claim.expected == "violated"
    console.print(Text(claim.id, style="bold"), Text("(known to be false)" if false else ""))
    console.print()
    for heading, text in _paragraphs(claim):
        console.print(Text(heading, style="bold"))
        console.print(Padding(Text(text), (0, 0, 0, 2)))
    console.print()
    quantities = list(dict.fromkeys(result.finding.quantity for result in results))
    console.print(Text("Verdicts", style="bold"))
    console.print(Padding(Text(f"predicted and measured: {'; '.join(quantities)}"), (0, 0, 0, 2)))
    lines = format_table([_cells(result) for result in results], plain=True, left=["instance"])
    for row in lines.splitlines()[:1]:
        console.print(Padding(Text(row, style="dim"), (0, 0, 0, 2)))
    for row, result in zip(lines.splitlines()[1:], results, strict=True):
        console.print(Padding(Text(row), (0, 0, 0, 2)))
        if result.finding.note:
            console.print(Padding(Text(result.finding.note, style="dim"), (0, 0, 0, 6)))
    if any(result.finding.method == "certificate" for result in results):
        console.print()
        console.print(Text("A certificate has instances of its own: the given one is no matter."))


def _paragraphs(claim: Claim) -> Iterator[tuple[str, str]]:
    false = claim.expected == "violated"
    yield "Statement", claim.statement
    if claim.id in MEANING:
        yield "What it means in practice", MEANING[claim.id]
    if claim.assumptions:
        yield "Assumptions", "; ".join(claim.assumptions)
    yield "Where it is from", claim.source
    if claim.proof:
        yield "Why it is false" if false else "Idea of the proof", claim.proof
    if claim.measured:
        yield "What is measured, and how", claim.measured
    if claim.rejects:
        heading = "Repairs that are no longer refuted" if false else "Errors that are rejected"
        yield heading, "; ".join(claim.rejects)
    yield "Written out", f"theory/NOTES.md, {claim.chapter or OTHER}, section {claim.id}"


def _cells(result: Result) -> dict[str, str]:
    finding = result.finding
    return {
        "verdict": result.verdict,
        "predicted": f"{finding.prediction:.4g}",
        "measured": f"{finding.measurement:.4g}",
        "tightness": "-" if finding.tightness is None else f"{finding.tightness:.3g}",
        "instance": result.instance,
    }
