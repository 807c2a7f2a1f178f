"""Pages: they stand alone, escape their text, wrap what is long, colour what is judged."""

from __future__ import annotations

import re

import pytest

from experiments.kit.page import Figure, page_text, undrawn

NOTHING = Figure("", (), {})


def page_of(rows: list[dict[str, str]], **extra: object) -> str:
    given = {"title": "t", "lead": "l", "figure": NOTHING, "tables": {"T": rows}, "details": {}}
    return page_text(**(given | extra))


def test_a_page_embeds_its_panels_and_escapes_its_text() -> None:
    page = page_of(
        [{"ratio": "<b>"}], title="a < b & c", lead="<script>alert(1)</script>",
        figure=Figure("what is seen", [("<one>", "<svg/>"), ("two", "<svg/>")], {"dash": "<svg/>"}),
        details={"Provenance": "commit: <none>"},
    )  # fmt: skip
    assert "a &lt; b &amp; c" in page
    assert "<script>" not in page
    assert page.count("data:image/svg+xml;base64,PHN2Zy8+") == 3
    assert "<h3>&lt;one&gt;</h3>" in page
    assert 'alt="dash"' in page
    assert "http" not in page
    assert "&lt;b&gt;" in page


def test_a_note_stands_under_the_heading_of_its_table_alone() -> None:
    rows = [{"n": "1"}]
    page = page_of([], tables={"T": rows, "U": rows}, notes={"U": "of <two>"}, cards={"U"})
    assert page.count("of &lt;two&gt;") == 1
    assert '<h2>U</h2>\n<p class="quiet">of &lt;two&gt;</p>' in page


def test_what_is_drawn_is_left_out_and_every_other_text_stays() -> None:
    def page(
        svg: str, label: str, caption: str = "seen", name: str = "one", cell: str = "1"
    ) -> str:
        figure = Figure(caption, [(name, svg)], {label: svg})
        return undrawn(page_of([{"ratio": cell}], figure=figure))

    usual = page("<svg/>", "dash")
    assert page("<svg><path/></svg>", "dot") == usual
    for other in ({"caption": "seen 2"}, {"name": "two"}, {"cell": "2"}):
        assert page("<svg/>", "dash", **other) != usual
    assert undrawn(page_of([{"a": "1"}], figure=Figure("seen", [("one", "")], {}))) == (
        undrawn(page_of([{"a": "1"}], figure=Figure("seen", [("one", "<svg/>")], {"l": "<svg/>"})))
    )


def test_an_empty_line_of_the_lead_begins_a_paragraph() -> None:
    page = page_of([{"ratio": "1"}], lead="What is seen.\n\nAnd why.")
    assert "<p>What is seen.</p>\n<p>And why.</p>" in page


def test_long_texts_wrap_and_numbers_do_not() -> None:
    rows = [{"n": "1", "statement": "a sentence of more than a few words, which needs room"}]
    page = page_of(rows)
    assert '<td data-name="n">1</td><td class=words data-name="statement">a sentence' in page


def rems(page: str) -> float:
    """Return the width, in pixels, below which the only table of a page is cards."""
    (width,) = re.findall(r"@container \(max-width: ([\d.]+)rem\)", page)
    return 16 * float(width)


def test_a_table_is_cards_where_its_letters_do_not_fit() -> None:
    """Three cells of ten letters, 9.4 pixels each, and their sides: 18 pixels."""
    page = page_of([dict.fromkeys("abc", "0123456789")])
    assert rems(page) == pytest.approx(337, abs=0.1)
    wide = page_of([{f"c{i}": "0.123 ± 0.456" for i in range(10)}])
    # over 1200 pixels in one line, its cells break at their blanks: ten cells of five letters
    assert "class=tight" in wide
    assert rems(wide) == pytest.approx(651, abs=0.1)


def test_a_verdict_has_a_sign_and_a_colour_and_other_cells_have_none() -> None:
    rows = [{"statement": "s", "verdict": v} for v in ("✓ holds", "✗ fails", "? undecided", "?")]
    page, cards = page_of(rows), page_of(rows, cards={"T"})
    for name, text in (("good", "✓ holds"), ("bad", "✗ fails"), ("open", "? undecided")):
        assert f'<td class={name} data-name="verdict">{text}</td>' in page
        assert (
            f'<article class="card {name}"><p class=verdict>{text}</p><p>s</p></article>' in cards
        )
        assert re.search(rf"\.{name} {{ color: var", page)
    assert '<td data-name="verdict">?</td>' in page
    assert "✓ holds: 1, ✗ fails: 1, ? undecided: 1" in cards
