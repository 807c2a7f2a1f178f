"""Reports: fitted exponents against closed forms, pages that stand alone."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from landscape.report import format_table, mean_std, slope, write_page


@pytest.mark.parametrize("power", [1.0, -0.5, 0.0])
def test_the_slope_of_a_power_law_is_its_exponent_without_error(power) -> None:
    x = [1e-5, 1e-4, 1e-2]
    found, error = slope(x, [3 * value**power for value in x])
    assert found == pytest.approx(power, abs=1e-12)
    assert error == pytest.approx(0, abs=1e-7)


def test_the_slope_and_its_error_equal_the_normal_equations() -> None:
    rng = np.random.default_rng(0)
    x, y = np.exp(rng.standard_normal(20)), np.exp(rng.standard_normal(20))
    design = np.stack([np.ones(20), np.log(x)], axis=1)
    fit, (squares,), *_ = np.linalg.lstsq(design, np.log(y))
    covariance = np.linalg.inv(design.T @ design) * squares / 18
    found, error = slope(x.tolist(), y.tolist())
    assert found == pytest.approx(fit[1], rel=1e-9)
    assert error == pytest.approx(math.sqrt(covariance[1, 1]), rel=1e-9)


def test_two_points_fit_a_slope_without_an_error() -> None:
    found, error = slope([1.0, 10.0], [1.0, 100.0])
    assert found == pytest.approx(2)
    assert math.isnan(error)


def test_mean_and_deviation_are_those_of_numpy_and_one_run_has_no_deviation() -> None:
    values = [0.5, 0.75, 0.6]
    assert mean_std(values, ".4f") == f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"
    assert mean_std([0.5]) == "0.5"


def test_every_line_of_a_table_has_the_same_width() -> None:
    rows = [{"ratio": "0.001", "k": "1"}, {"ratio": "1e-05", "k": "134,261"}]
    lines = format_table(rows).split("\n")
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 4


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
