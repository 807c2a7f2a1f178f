"""One readable HTML page that stands alone; it knows nothing of what its numbers mean."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from landscape.figures.table import Table
from landscape.folders import write_whole

#: characters from which a column of a page is text that wraps, not a number
WORDY = 32

#: a cell that begins with one of these signs and a space is coloured
SIGNS = {"✓": "good", "✗": "bad", "?": "open"}

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #777; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 58rem; margin: 2.5rem auto;
  padding: 0 1.2rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
img { width: 100%; background: #fff; border-radius: 4px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .8rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { font-weight: 600; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
pre { font-size: .82rem; overflow-x: auto; padding: .8rem; border: 1px solid var(--line);
  border-radius: 4px; }
td.words, th.words { text-align: left; white-space: normal; min-width: 14rem; }
.good { color: #0a7d33; } .bad { color: #c4201d; } .open { color: #8a6100; }
td.good, td.bad, td.open { text-align: left; font-weight: 600; }
@media (prefers-color-scheme: dark) {
  .good { color: #56d07f; } .bad { color: #ff8a80; } .open { color: #e8b64c; }
}
p.quiet { color: var(--quiet); font-size: .9rem; }
"""


def write_page(
    path: str | Path,
    *,
    title: str,
    lead: str,
    figures: Mapping[str, Path],
    tables: Mapping[str, Table],
    details: Mapping[str, str],
) -> Path:
    """Write one self-contained HTML page.

    Args:
        path: the file.
        title: the page's title.
        lead: its first paragraph, plain text.
        figures: caption -> PNG file, embedded.
        tables: heading -> rows.
        details: heading -> preformatted text, folded.

    Returns:
        The path.
    """
    parts = [f"<h1>{html.escape(title)}</h1>", f"<p>{html.escape(lead)}</p>"]
    for caption, file in figures.items():
        data = base64.b64encode(file.read_bytes()).decode()
        text = html.escape(caption)
        parts.append(f'<img alt="{text}" src="data:image/png;base64,{data}">')
        parts.append(f'<p class="quiet">{text}</p>')
    for heading, rows in tables.items():
        parts.append(f"<h2>{html.escape(heading)}</h2><div class='scroll'>{_html(rows)}</div>")
    for heading, text in details.items():
        body = f"<pre>{html.escape(text)}</pre>"
        parts.append(f"<details><summary>{html.escape(heading)}</summary>{body}</details>")
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
    )
    page = head + "\n".join(parts) + "</html>\n"
    write_whole(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return Path(path)


def _html(rows: Table) -> str:
    columns = list(rows[0])
    wordy = {c for c in columns if max(len(row[c]) for row in rows) > WORDY}

    def cells(tag: str, texts: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{_class(text, c in wordy)}>{html.escape(text)}</{tag}>"
            for c, text in zip(columns, texts, strict=True)
        )

    body = "".join(f"<tr>{cells('td', [row[c] for c in columns])}</tr>" for row in rows)
    head = f"<thead><tr>{cells('th', columns)}</tr></thead>"
    return f"<table>{head}<tbody>{body}</tbody></table>"


def _class(text: str, wordy: bool) -> str:
    sign, space, _ = text.partition(" ")
    name = SIGNS.get(sign, "") if space else ""
    return f" class={name or 'words'}" if name or wordy else ""
