"""Tables: aligned as plain text, and Markdown."""

from __future__ import annotations

from landscape.figures import format_table


def test_every_line_of_a_table_has_the_same_width() -> None:
    rows = [{"ratio": "0.001", "k": "1"}, {"ratio": "1e-05", "k": "134,261"}]
    lines = format_table(rows).split("\n")
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 4
