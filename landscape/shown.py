"""How values show themselves: in one line, and in a notebook with a few of their parts below."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

_PARTS = 5
_LONG = 60


def few(items: Iterable[object], most: int = _PARTS) -> str:
    """Write the first of some items, and how many more there are.

    >>> few("abc", most=2), few([1.5])
    ('a, b and 1 more', '1.5')
    """
    texts = [str(item) for item in items]
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def counted(number: int, noun: str) -> str:
    """Write how many of something there are.

    >>> counted(1, "run"), counted(1200, "run")
    ('1 run', '1,200 runs')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(count: float) -> str:
    """Write a number of bytes.

    >>> size(900), size(596_602_880), size(5.01e9)
    ('900 bytes', '597 MB', '5.01 GB')
    """
    if count < 1e6:
        return f"{count:,.0f} bytes"
    return f"{count / 1e6:.3g} MB" if count < 1e9 else f"{count / 1e9:.3g} GB"


def card(line: str, parts: Mapping[str, object]) -> str:
    """Return a value's line, with its first parts as a table, in HTML.

    Names and values are texts of others, such as the rows of a task: they are escaped, and cut
    where they are long.

    >>> card("a <mask>", {"layer": 1})
    '<div>a &lt;mask&gt;<table><tr><th>layer</th><td>1</td></tr></table></div>'
    """
    rows = [
        f"<tr><th>{escape(_cut(name))}</th><td>{escape(_cut(value))}</td></tr>"
        for name, value in [*parts.items()][:_PARTS]
    ]
    if len(parts) > _PARTS:
        rows.append(f"<tr><td>and {len(parts) - _PARTS:,} more</td></tr>")
    table = f"<table>{''.join(rows)}</table>" if rows else ""
    return f"<div>{escape(line)}{table}</div>"


def _cut(value: object) -> str:
    text = str(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"
