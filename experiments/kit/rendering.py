"""What an artefact shows: table.md, figure.png and index.html, each a function of rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from experiments.kit import panels
from experiments.kit.correction import correction
from experiments.kit.judge import Finding
from experiments.kit.page import Figure, page_text
from experiments.kit.records import Record, Row
from experiments.kit.view import Artefact
from landscape.figures.style import look
from landscape.shown import counted

STATEMENTS = "Statements"


_EDGE = "the best rate lies at the edge of those tried"


def table_text(artefact: Artefact, rows: Sequence[Row], preset: str) -> str:
    """Return the text of ``table.md``."""
    from landscape.figures.table import format_table

    shown, notes = _shown(artefact, rows, preset)
    parts = []
    for name, lines in shown.items():
        table = format_table(lines, left=list(lines[0]))
        parts.append("\n\n".join(filter(None, (name, notes.get(name), table))))
    return "\n\n".join([*parts, _runs_notes(artefact, rows, preset)]) + "\n"


def page_of(
    artefact: Artefact, rows: Sequence[Row], preset: str, drawing: panels.Drawing | None = None
) -> str:
    """Return the text of ``index.html``; without a drawing its images and legend are empty."""
    found = artefact.records(rows, artefact.of(preset))
    chosen = artefact.drawn(found)
    parts = drawing or panels.Drawing([(panel.title, "") for panel in chosen], {})
    shown, notes = _shown(artefact, rows, preset)
    return page_text(
        title=artefact.title, lead=artefact.lead,
        figure=Figure(_caption(artefact.caption, chosen), parts.panels, parts.legend),
        tables=shown, cards={STATEMENTS}, notes=notes,
        details={"Runs": f"{artefact.source}\n{_runs_notes(artefact, rows, preset)}"},
    )  # fmt: skip


def render(artefact: Artefact, rows: Sequence[Row], preset: str, folder: Path) -> list[Path]:
    """Write table, figure and page; return their paths. The same rows give the same bytes."""
    from landscape.figures.canvas import save
    from landscape.folders import write_whole

    found = artefact.records(rows, artefact.of(preset))
    with look():
        chosen = artefact.drawn(found)
        figure = save(panels.draw(chosen, found, artefact.columns), folder / "figure.png")
        parts = panels.draw_parts(chosen, found)
    table, page = folder / "table.md", folder / "index.html"
    for path, text in (
        (table, table_text(artefact, rows, preset)),
        (page, page_of(artefact, rows, preset, parts)),
    ):
        write_whole(path, partial(_write, text))
    return [figure, table, page]


def is_drawn(artefact: Artefact, rows: Sequence[Row], preset: str, path: Path) -> bool | None:
    """Tell whether a file is the figure of some rows; None where another matplotlib drew it."""
    from tempfile import TemporaryDirectory

    from PIL import Image

    from landscape.figures.canvas import save

    found = artefact.records(rows, artefact.of(preset))
    with TemporaryDirectory() as folder, look():
        new = save(
            panels.draw(artefact.drawn(found), found, artefact.columns), Path(folder) / path.name
        )
        if not path.exists() or new.read_bytes() == path.read_bytes():
            return path.exists()
        try:
            with Image.open(new) as one, Image.open(path) as other:
                same = one.info.get("Software") == other.info.get("Software")
        except (OSError, SyntaxError):  # Pillow's for a file that is no image, or a damaged one
            return False
        return False if same else None


def _write(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


def _caption(said: str, chosen: Sequence[panels.Panel]) -> str:
    """Return a figure's caption with the notes of its panels, each once."""
    notes = dict.fromkeys(panel.note for panel in chosen if panel.note)
    return ". ".join([said.rstrip("."), *(note.rstrip(".") for note in notes)]) + "."


def findings_lines(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Return the lines of a table of statements."""
    return [
        {"statement": f.statement, "verdict": f.marked, "evidence": f.evidence} for f in findings
    ]


def _shown(
    artefact: Artefact, rows: Sequence[Row], preset: str
) -> tuple[dict[str, list[dict[str, str]]], dict[str, str]]:
    """Return the lines of every table, and what stands under the headings of some."""
    found = artefact.records(rows, artefact.of(preset))
    tables, notes = artefact.lines(found), {}
    if judged := artefact.findings(found):
        tables[STATEMENTS] = findings_lines(list(judged.values()))
        notes[STATEMENTS] = correction(judged.values())
    if artefact.differences:
        values = _values(found)
        tables["Differences from the paper"] = [
            {"difference": text.format_map(values), "what it may cause": why}
            for text, why in artefact.differences
            if "{device}" not in text or len({r["device"] for r in found}) > 1
        ]
    return tables, notes


def _values(records: Sequence[Record]) -> dict[str, str]:
    """Return what the records say of every coordinate, several values listed."""
    from experiments.kit.columns import first

    return {name: first(name)(records) for name, value in records[0].items()
            if not isinstance(value, list | dict)}  # fmt: skip


def _runs_notes(artefact: Artefact, rows: Sequence[Row], preset: str) -> str:
    """Say how many runs there are, what they and their measurements cost, and what made them."""
    found = artefact.records(rows, artefact.of(preset))
    first, last = (f(row["provenance"]["date"][:10] for row in rows) for f in (min, max))
    when = first if first == last else f"{first} to {last}"
    said = ["; ".join([f"{counted(len(rows), 'run')}, {when}", _cost(found, rows), _code(rows)])]
    if any(r["edge"] for r in found):
        lone = all(grid.rates is None or len(grid.rates.tried) == 1 for grid in artefact.of(preset))
        said.append("* " + ("the only rate tried" if lone else _EDGE))
    if unfinished := artefact.unfinished(rows, preset):
        said.insert(0, unfinished)
    return "\n\n".join(said)


def _cost(found: Sequence[Record], rows: Sequence[Row]) -> str:
    """Say how long each device took for its runs, and all for the measurements that kept it.

    A measurement has its time as ``seconds``, but not where it was made.
    """
    taken: dict[str, list[float]] = {}
    for row in rows:
        seconds = row["outcome"].get("seconds") or 0.0
        taken.setdefault(row["provenance"]["device"], []).append(seconds)
    said = []
    for device, own in sorted(taken.items(), key=lambda item: (-len(item[1]), item[0])):
        runs = f" ({counted(len(own), 'run')})" if len(taken) > 1 else ""
        said.append(f"{_spent(sum(own))} on {device}{runs}")
    if measured := sum(v for r in found for name, v in r.items() if name.endswith("_seconds")):
        said.append(f"{_spent(measured)} of measurements")
    return ", ".join(said)


def _code(rows: Sequence[Row]) -> str:
    """Say which versions of torch and of the project made rows."""
    made = [row["provenance"] for row in rows]
    torch = sorted({one["versions"]["torch"] for one in made})
    commits = sorted({(one["commit"] or "unknown")[:7] for one in made})
    return f"torch {', '.join(torch)}; commit{'s' * (len(commits) > 1)} {', '.join(commits)}"


def _spent(seconds: float) -> str:
    """Write a time of computing: hours, or what is small beside one.

    >>> _spent(6480), _spent(360), _spent(150), _spent(15.5)
    ('1.8 hours', '0.1 hours', '2.5 minutes', '16 seconds')
    """
    if seconds >= 360:
        return f"{seconds / 3600:.2g} hours"
    return f"{seconds / 60:.2g} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"
