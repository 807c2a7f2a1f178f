"""One readable HTML page that stands alone; it knows nothing of what its numbers mean."""

from __future__ import annotations

import base64
import html
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from landscape.figures.table import Table

#: characters from which a column of a page is text that wraps, not a number
WORDY = 32
#: a cell that begins with one of these signs and a space is coloured
SIGNS = {"✓": "good", "✗": "bad", "?": "open"}
#: pixels of a letter, of a cell's sides, of a wordy column, and of the widest table
LETTER, SIDES, WORDS, WIDEST = 9.4, 18, 230, 1200
#: pixels of a rem on a screen; on paper it is smaller
ROOT = 16
#: a number that a line must not end within, at the sign of its exponent
POWER = re.compile(r"[\d.]+e-\d+")
#: a cell that is a name, or says nothing
NAME = re.compile(r"[^\W\d]|-?$")
#: characters from which parts of a card's text, told apart by semicolons, are lines of their own
LONG = 140
#: a figure's legend, whose labels are drawn, and the style
UNREAD = re.compile(r'<ul class="key.*?</ul>|<style>.*?</style>', re.DOTALL)
#: entries of a legend that may stay in sight on a phone
FEW = 6


@dataclass(frozen=True)
class Figure:
    """Describe a figure in parts, each SVG: title -> panel, label -> entry of the legend."""

    caption: str
    panels: Sequence[tuple[str, str]]
    legend: Mapping[str, str]


def page_text(
    *,
    title: str,
    lead: str,
    figure: Figure,
    tables: Mapping[str, Table],
    details: Mapping[str, str],
    cards: Collection[str] = (),
    notes: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return one self-contained HTML page, which reads on a phone: tables turn into cards there.

    Args:
        title: the page's title.
        lead: its first paragraphs, plain text, told apart by an empty line.
        figure: its panels stack where they don't fit side by side.
        tables: heading -> rows.
        details: heading -> preformatted text, folded.
        cards: headings of tables that are cards at any width, each with its judged cell on top.
        notes: heading of a table -> what stands under it, plain text.
    """
    said = [f"<p>{html.escape(paragraph)}</p>" for paragraph in lead.split("\n\n")]
    parts = [f"<h1>{html.escape(title)}</h1>", *said, _figure(figure)]
    rules = []
    for number, (heading, rows) in enumerate(tables.items()):
        parts.append(f"<h2>{html.escape(heading)}</h2>")
        if note := notes.get(heading):
            parts.append(f'<p class="quiet">{html.escape(note)}</p>')
        if heading in cards:
            parts.append(_cards(rows))
        else:
            parts.append(_table(rows, f"t{number}"))
            width = _width(rows)
            rules.append(_stacked(f"#t{number}", width if width <= WIDEST else _width(rows, True)))
    for heading, text in details.items():
        body = f"<pre>{html.escape(text)}</pre>"
        parts.append(f"<details><summary>{html.escape(heading)}</summary>{body}</details>")
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>\n{style}{''.join(rules)}</style>\n"
    )
    return head + "\n".join(parts) + "</html>\n"


def undrawn(page: str) -> str:
    """Return a page's text without what is drawn: the data of images, and its legend.

    Drawings may differ in rounding between versions of the library that draws them, and a style is
    none of the results.

    >>> undrawn('<h3>a</h3><img alt="a" src="data:image/svg+xml;base64,PHN2Zy8+">')
    '<h3>a</h3><img alt="a" src="">'
    """
    return re.sub(r'(?<=src=")data:image/[^"]*', "", UNREAD.sub("", page))


def _figure(figure: Figure) -> str:
    if not figure.panels:
        return ""
    few = " few" if len(figure.legend) <= FEW else ""
    key = "".join(f"<li>{_image(label, svg)}</li>" for label, svg in figure.legend.items())
    panels = "".join(
        f"<div class=panel><h3>{html.escape(name)}</h3>{_image(name or figure.caption, svg)}</div>"
        for name, svg in figure.panels
    )
    caption = f'<figcaption class="quiet">{html.escape(figure.caption)}</figcaption>'
    key = f'<ul class="key{few}">{key}</ul>' if key else ""
    return f"<figure>{key}<div class=panels>{panels}</div>{caption}</figure>"


def _image(text: str, svg: str) -> str:
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{html.escape(text)}" src="data:image/svg+xml;base64,{data}">'


def _wordy(rows: Table) -> set[str]:
    return {c for c in rows[0] if max(len(row[c]) for row in rows) > WORDY}


def _named(rows: Table) -> set[str]:
    """Return the columns that hold no number: names, which stand on the left."""
    cells = {c: [row[c] for row in rows] for c in rows[0]}
    return {c for c, own in cells.items() if any(own) and all(map(NAME.match, own))}


def _width(rows: Table, tight: bool = False) -> int:
    """Return pixels that suffice for a table; a tight one breaks its cells at blanks."""
    words, width = _wordy(rows), 0.0
    for column in rows[0]:
        cells = [row[column] for row in rows]
        texts = [*column.split(), *(part for c in cells for part in (c.split() if tight else [c]))]
        width += SIDES + (WORDS if column in words else LETTER * max(map(len, texts), default=0))
    return int(width) + 1


def _stacked(name: str, width: int) -> str:
    """Return the rules by which a table's rows are cards where it does not fit."""
    return (
        f"@container (max-width: {width / ROOT:g}rem) {{\n"
        f"{name}, {name} tbody {{ display: block; }} {name} thead {{ display: none; }}\n"
        f"{name} tr {{ display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; padding: .5rem 0;"
        " border-bottom: 1px solid var(--line); }\n"
        f"{name} td {{ border: 0; padding: 0; min-width: 0; text-align: left; white-space: normal;"
        " }\n"
        f"{name} td:first-child, {name} td.words {{ flex: 1 0 100%; font-weight: 600; }}"
        f" {name} td.words + td.words {{ font-weight: 400; }}\n"
        f"{name} td:not(:first-child)::before {{ content: attr(data-name) ' '; color:"
        " var(--quiet); font-weight: 400; }\n}\n"
    )


def _table(rows: Table, name: str) -> str:
    columns, wordy, named = list(rows[0]), _wordy(rows), _named(rows)

    def cell(tag: str, column: str, text: str) -> str:
        label = f' data-name="{html.escape(column)}"' if tag == "td" else ""
        kind = "words" if column in wordy else "text" if column in named else ""
        whole = POWER.sub(r"<span>\g<0></span>", html.escape(text))
        return f"<{tag}{_class(text, kind)}{label}>{whole}</{tag}>"

    lines = ["".join(cell("td", c, row[c]) for c in columns) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    head = "".join(cell("th", c, c) for c in columns)
    tight = " class=tight" if _width(rows) > WIDEST else ""
    table = f"<table id={name}{tight}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class=box>{table}</div>"


def _cards(rows: Table) -> str:
    """Return a card a row: the judged cell first, in its colour, then the others."""
    counts = Counter(text for row in rows for text in row.values() if _judged(text))
    total = ", ".join(f"{text}: {count}" for text, count in counts.items())
    cards = []
    for row in rows:
        judged = [text for text in row.values() if _judged(text)]
        first, *others = [text for text in row.values() if not _judged(text)]
        top = "".join(f"<p class=verdict>{html.escape(text)}</p>" for text in judged)
        more = "".join(map(_paragraph, others))
        name = _judged(judged[0]) if judged else ""
        cards.append(
            f'<article class="card {name}">{top}<p>{html.escape(first)}</p>{more}</article>'
        )
    return f'<p class="quiet">{html.escape(total)}</p><div class=cards>{"".join(cards)}</div>'


def _paragraph(text: str) -> str:
    parts = text.split("; ") if len(text) > LONG else [text]
    if len(parts) == 1:
        return f'<p class="quiet">{html.escape(text)}</p>'
    return f'<ul class="quiet">{"".join(f"<li>{html.escape(part)}</li>" for part in parts)}</ul>'


def _judged(text: str) -> str:
    sign, blank, _ = text.partition(" ")
    return SIGNS.get(sign, "") if blank else ""


def _class(text: str, kind: str) -> str:
    name = _judged(text) or kind
    return f" class={name}" if name else ""
