"""What an artefact leaves behind: a figure, ``table.md``, a page, and the text on the screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from experiments.kit.judge import Finding
from experiments.kit.store import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from landscape.figures.table import Table


@dataclass(frozen=True)
class Page:
    """Say what surrounds an artefact's figure and tables.

    Args:
        title: of the page.
        lead: its first paragraph, plain text.
        caption: of the figure.
        statements: the heading of the statements and their verdicts.
        first: whether they stand before the tables on the page.
        form: their form in ``table.md``: a list at its end, or a table in its place.
        headings: whether ``table.md`` repeats the headings of the tables.
        differences: (how the setting differs from the paper's, what that may cause); names in
            braces are filled from the configuration.
        note: the last line of ``table.md``.
        dpi: dots per inch of the figure.
    """

    title: str
    lead: str
    caption: str
    statements: str = "Statements"
    first: bool = True
    form: Literal["list", "table"] = "list"
    headings: bool = True
    differences: tuple[tuple[str, str], ...] = ()
    note: str = ""
    dpi: int = 160


def publish(
    folder: Path,
    rows: Sequence[Row],
    page: Page,
    tables: Mapping[str, Table],
    findings: Sequence[Finding],
    draw: Callable[[Sequence[Row]], Figure],
) -> list[Path]:
    """Draw the figure, write ``table.md`` and the page, print the tables.

    Args:
        folder: the artefact's folder.
        rows: its rows; the first one's provenance goes onto the page.
        page: what surrounds them.
        tables: heading -> rows; tables without a row are left out.
        findings: the statements.
        draw: ``draw(rows)`` gives the figure.

    Returns:
        The paths of figure, table and page.
    """
    from experiments.kit.draw import look
    from experiments.kit.page import write_page
    from landscape.figures.canvas import save
    from landscape.folders import write_whole

    judged = {page.statements: verdicts(findings)}
    filled = {heading: table for heading, table in tables.items() if table}
    shown = judged | filled if page.first else filled | judged
    if page.differences:
        shown["Differences from the paper"] = differences(folder, page.differences)
    text = _text(page, shown)
    with look():
        figure = save(draw(rows), folder / "figure.png", dpi=page.dpi)
    written = folder / "table.md"
    write_whole(written, lambda path: path.write_text(text + "\n", encoding="utf-8"))
    html = write_page(
        folder / "index.html", title=page.title, lead=page.lead, figures={page.caption: figure},
        tables=shown,
        details={"Provenance": "\n".join(f"{k}: {v}" for k, v in rows[0]["provenance"].items())},
    )  # fmt: skip
    print(text)
    return [figure, written, html]


def _text(page: Page, shown: Mapping[str, Table]) -> str:
    """Return the text of ``table.md``."""
    from landscape.figures.table import format_table

    tables = {h: t for h, t in shown.items() if page.form == "table" or h != page.statements}
    heading = "{}\n\n{}" if page.headings else "{1}"
    parts = [heading.format(name, format_table(table)) for name, table in tables.items()]
    if page.form == "list":
        judged = shown[page.statements]
        parts.append(
            "\n".join(f"- {v['verdict']}: {v['statement']} ({v['evidence']})" for v in judged)
        )
    return "\n\n".join([*parts, page.note] if page.note else parts)


def differences(folder: Path, paper: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """List where the setting of a folder's run differs from the paper's, and what may follow.

    Args:
        folder: an artefact's folder; its configuration fills the names in braces.
        paper: (difference, what it may cause).
    """
    from landscape.folders import read_json

    config = read_json(folder / "config.json")
    return [{"difference": t.format(**config), "what it may cause": why} for t, why in paper]


def verdicts(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Return the lines of a table of statements."""
    return [
        {"statement": f.statement, "verdict": f.marked, "evidence": f.evidence} for f in findings
    ]
