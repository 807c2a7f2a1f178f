"""Write what every report leaves behind: figure, table, page, and the text on the screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from experiments.cell import verdicts
from experiments.harness import Row
from experiments.verdict import Finding
from landscape.report import Table, format_table, write_page
from landscape.runs import write_whole


def publish(
    folder: Path,
    rows: Sequence[Row],
    *,
    draw: Callable[[Path], object],
    caption: str,
    title: str,
    lead: str,
    tables: Mapping[str, Table],
    findings: Sequence[Finding],
) -> list[Path]:
    """Draw the figure, write ``table.md`` and the page, print both; return the three paths.

    Args:
        folder: the artefact's folder.
        rows: its rows; the first one's provenance goes onto the page.
        draw: ``draw(path)`` writes the figure as PNG.
        caption, title, lead: of the page.
        tables: heading -> rows; tables without a row are left out.
        findings: the statements, which follow the tables.
    """
    filled = {heading: table for heading, table in tables.items() if table}
    judged = verdicts(findings)
    figure = folder / "figure.png"
    write_whole(figure, draw)
    parts = [f"{heading}\n\n{format_table(table)}" for heading, table in filled.items()]
    parts.append("\n".join(f"- {v['verdict']}: {v['statement']} ({v['evidence']})" for v in judged))
    text = "\n\n".join(parts)
    write_whole(folder / "table.md", lambda path: path.write_text(text + "\n", encoding="utf-8"))
    page = write_page(
        folder / "index.html", title=title, lead=lead, figures={caption: figure},
        tables={"Statements": judged, **filled},
        details={"Provenance": "\n".join(f"{k}: {v}" for k, v in rows[0]["provenance"].items())},
    )  # fmt: skip
    print(text)
    return [figure, folder / "table.md", page]
