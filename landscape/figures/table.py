"""Tables as text that is Markdown too."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

Table: TypeAlias = Sequence[Mapping[str, str]]


def format_table(rows: Table, *, plain: bool = False, left: Collection[str] = ()) -> str:
    """Format rows as a Markdown table that is also aligned as plain text.

    Args:
        rows: at least one; all have the columns of the first, whose own first column is aligned
            left, the others right.
        plain: two spaces between columns instead, for a terminal: narrower, and no Markdown.
        left: further columns that are aligned left, such as those of words.

    Returns:
        The lines, without a newline at the end.

    >>> print(format_table([{"ratio": "0.1", "k": "10"}], plain=True))
    ratio   k
    0.1    10
    >>> print(format_table([{"ratio": "0.1", "k": "10"}]))
    | ratio |  k |
    |:------|---:|
    | 0.1   | 10 |
    """
    columns = list(rows[0])
    width = {c: max(len(c), *(len(row[c]) for row in rows)) for c in columns}
    lefts = {columns[0], *left}

    def line(cells: Sequence[str]) -> str:
        padded = [
            text.ljust(width[c]) if c in lefts else text.rjust(width[c])
            for c, text in zip(columns, cells, strict=True)
        ]
        return "  ".join(padded).rstrip() if plain else "| " + " | ".join(padded) + " |"

    dashes = {c: "-" * (width[c] + 1) for c in columns}
    rule = [f":{dashes[c]}" if c in lefts else f"{dashes[c]}:" for c in columns]
    body = [line([row[c] for c in columns]) for row in rows]
    return "\n".join([line(columns), *([] if plain else ["|" + "|".join(rule) + "|"]), *body])
