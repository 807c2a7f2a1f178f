"""Pages: they stand alone, escape their text, wrap what is long, colour what is judged."""

from __future__ import annotations

import re

from experiments.kit.page import write_page


def test_a_page_embeds_its_figure_and_escapes_its_text(tmp_path) -> None:
    figure = tmp_path / "figure.png"
    figure.write_bytes(b"\x89PNG")
    page = write_page(
        tmp_path / "index.html",
        title="a < b & c",
        lead="<script>alert(1)</script>",
        figures={"what is seen": figure},
        tables={"Results": [{"ratio": "<b>"}]},
        details={"Provenance": "commit: <none>"},
    ).read_text()
    assert "a &lt; b &amp; c" in page
    assert "<script>" not in page
    assert "data:image/png;base64,iVBORw==" in page
    assert "http" not in page
    assert "&lt;b&gt;" in page


def test_long_texts_wrap_and_numbers_do_not(tmp_path) -> None:
    rows = [{"n": "1", "statement": "a sentence of more than a few words, which needs room"}]
    page = write_page(
        tmp_path / "p.html", title="t", lead="l", figures={}, tables={"T": rows}, details={}
    ).read_text()
    assert "<td>1</td><td class=words>a sentence" in page


def test_a_verdict_has_a_sign_and_a_colour_and_other_cells_have_none(tmp_path) -> None:
    rows = [{"statement": "s", "verdict": v} for v in ("✓ holds", "✗ fails", "? undecided", "?")]
    page = write_page(
        tmp_path / "p.html", title="t", lead="l", figures={}, tables={"T": rows}, details={}
    ).read_text()
    for name, text in (("good", "✓ holds"), ("bad", "✗ fails"), ("open", "? undecided")):
        assert f"<td class={name}>{text}</td>" in page
        assert re.search(rf"\.{name} {{ color: #", page)
    assert "<td>?</td>" in page
