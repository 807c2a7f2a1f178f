"""Pages in a browser, as wide as a laptop's and as a phone's: nothing is cut off, nothing is amiss.

One headless Chromium opens all of them; without it these tests are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
import torch

import landscape as ls
from experiments.kit.page import Figure, page_text
from experiments.kit.published import RESULTS

pytestmark = pytest.mark.skipif(
    browser.PROGRAM is None, reason="no Chromium is installed (apt-get install chromium)"
)
#: pages of views; one that has rows of its own is an earlier kit's
PUBLISHED = sorted(
    p for p in RESULTS.glob("*/*/index.html") if not (p.parent / "rows.jsonl").exists()
)
#: elements that reach beyond the window, or whose content is cut off or scrolls sideways
CUT_OFF = """[...document.querySelectorAll('body *')].filter(e => {
  const box = e.getBoundingClientRect(), style = getComputedStyle(e);
  if (!box.width || e.closest('svg, canvas')) return false;
  return box.right > innerWidth + 1 || box.left < -1
    || (style.overflowX !== 'visible' && e.scrollWidth > e.clientWidth + 1);
}).map(e => e.tagName + ' ' + e.id + ' ' + e.className).slice(0, 5)"""
#: texts that hardly stand out from what is behind them (WCAG 2, AA: 4.5 to 1)
FAINT = r"""(() => {
  const light = color => color.match(/[\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if (!/, 0\)$/.test(color)) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.querySelectorAll('body, body *')].filter(e => {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    const sign = e.closest('svg, select, b');  // b: in a legend
    if (!own || !e.getClientRects().length || sign) return false;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05) < 4.5;
  }).map(e => e.tagName + ' ' + e.className + ' ' + e.textContent.slice(0, 30)).slice(0, 5);
})()"""
WIDE = "[document.documentElement.scrollWidth, innerWidth]"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    with browser.Browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def written(folder: Path, **parts: Any) -> Path:
    """Write a page into a folder; return its path."""
    page = folder / "p.html"
    page.write_text(page_text(**parts), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x, y = torch.linspace(-2, 2, 5).double(), torch.linspace(-3, 3, 7).double()
    losses = 0.5 + x[:, None] ** 2 + y[None] ** 2 / 3
    losses[0, 0] = torch.nan
    surface = ls.Surface((x, y), losses, centre=0.5, prediction=losses.nan_to_num(0.0) + 0.1)
    way = torch.tensor([[-1.8, 2.0], [0.0, 0.0]]).double()
    names = ("principal direction 1, 75%", "principal direction 2, 13%")
    page = ls.surface_page(surface, labels=names, title="A way", trajectory=way)
    return page.save(tmp_path_factory.mktemp("plane") / "plane.html")


def fits(chromium: browser.Browser, width: int) -> None:
    assert chromium.ask(WIDE) == [width, width]
    assert chromium.ask(CUT_OFF) == []
    assert chromium.said == []


@pytest.mark.parametrize("width", browser.WIDTHS)
def test_no_published_page_is_cut_off_or_speaks_to_console_or_network(chromium, width) -> None:
    assert PUBLISHED
    for page in PUBLISHED:
        chromium.open(page, width)
        fits(chromium, width)
        smallest = "Math.min(...[...document.querySelectorAll('td, p, li, h3')].map(e => "
        assert chromium.ask(smallest + "parseFloat(getComputedStyle(e).fontSize)))") >= 14, page


@pytest.mark.parametrize("width", browser.WIDTHS)
def test_a_table_is_a_table_where_it_fits_and_cards_where_not(chromium, tmp_path, width) -> None:
    narrow = [{"arm": "masks", "ratio": "0.01"}]
    wide = [{f"a column {i}": "0.00671 ± 0.00444" for i in range(9)}]
    widest = [{f"column{i}": "0.1234567890123456" for i in range(12)}]
    words = [{"difference": "a model of another size " * 4, "cause": "its curvature " * 12}]
    page = written(
        tmp_path, title="A page", lead="Its lead.", figure=Figure("", (), {}),
        tables={"Narrow": narrow, "Wide": wide, "Widest": widest, "Words": words}, details={},
    )  # fmt: skip
    chromium.open(page, width)
    fits(chromium, width)
    shown = chromium.ask(
        "[...document.querySelectorAll('table')].map(e => getComputedStyle(e).display)"
    )
    small = "block" if width < 600 else "table"
    assert shown == ["table", small, "block", small]
    label = "getComputedStyle(document.querySelectorAll('table')[2].querySelectorAll('td')[1], "
    assert chromium.ask(label + "'::before').content") == '"column1 "'


def judged(folder: Path) -> Path:
    """Write a page with a figure, a table of all verdicts and cards of them."""
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 324 280" width="324pt"></svg>'
    rows = [{"statement": "it is so", "verdict": v, "evidence": "n = 3"}
            for v in ("✓ holds", "✗ fails", "? undecided")]  # fmt: skip
    return written(
        folder, title="A page", lead="Its lead.", cards={"Cards"},
        figure=Figure("one", [("a", svg)], {"line": svg}), details={"Runs": "three"},
        tables={"Cards": rows, "Table": [{"model": "a", **row, "n": "3"} for row in rows]},
    )  # fmt: skip


@pytest.mark.parametrize("dark", [False, True], ids=["by day", "by night"])
def test_every_text_stands_out_by_day_and_by_night_and_figures_turn_with_the_page(
    chromium, plane, tmp_path, dark
) -> None:
    chromium.look(dark=dark)
    try:
        chromium.open(judged(tmp_path), 1280)
        ground = chromium.ask("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")
        assert chromium.ask(FAINT) == []
        turned = "getComputedStyle(document.querySelector('.panel img')).filter"
        assert chromium.ask(turned).startswith("invert(0.91)" if dark else "none")
        chromium.ask("document.documentElement.style.setProperty('--quiet', '#777')")
        assert chromium.ask(FAINT) != []  # what is looked for is found
        chromium.open(plane, 1280)
        chromium.ask("window.drawn.then(() => null)")
        assert chromium.ask(FAINT) == []
    finally:
        chromium.look()


def test_on_paper_a_page_is_black_on_white_and_its_tables_stay_tables(chromium, tmp_path) -> None:
    columns = [{f"a column {i}": "0.00671 ± 0.00444" for i in range(5)}]
    page = written(
        tmp_path, title="A page", lead="Its lead.", figure=Figure("", (), {}),
        tables={"Five": columns}, details={"Runs": "three"},
    )  # fmt: skip
    shown = "getComputedStyle(document.querySelector('table')).display"
    chromium.open(page, 703)  # A4 between its margins
    assert chromium.ask(shown) == "block"
    chromium.look(dark=True, paper=True)
    try:
        assert chromium.ask(shown) == "table"
        assert chromium.ask("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        assert chromium.ask("document.querySelector('details').getClientRects().length") == 0
        fits(chromium, 703)
    finally:
        chromium.look()


def test_a_surface_is_printed_as_pictures_for_a_printer_sees_no_webgl(chromium, plane) -> None:
    chromium.open(plane, 1280)
    chromium.ask("window.drawn.then(() => null)")
    chromium.ask("window.printable.then(() => null)")
    pictures = (
        "[...document.querySelectorAll('.paper')].map(e => [e.naturalWidth, e.offsetWidth > 0])"
    )
    assert chromium.ask(pictures) == [[1800, False], [1800, False]]
    chromium.look(paper=True)
    try:
        assert chromium.ask(pictures) == [[1800, True], [1800, True]]
        assert chromium.ask("getComputedStyle(document.querySelector('.plot')).display") == "none"
    finally:
        chromium.look()
    assert chromium.said == []


def test_panels_stand_side_by_side_on_a_laptop_and_below_each_other_on_a_phone(
    chromium, tmp_path
) -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 324 280" width="324pt"></svg>'
    figure = Figure("three", [(name, svg) for name in "abc"], {"line": svg})
    page = written(tmp_path, title="A page", lead="Its lead.", figure=figure, tables={}, details={})
    places = "[...document.querySelectorAll('.panel')].map(e => e.getBoundingClientRect().{})"
    chromium.open(page, 1280)
    assert len(set(chromium.ask(places.format("top")))) == 1
    chromium.open(page, 390)
    assert len(set(chromium.ask(places.format("left")))) == 1
    assert min(chromium.ask(places.format("width"))) > 330


def drawn(chromium: browser.Browser, page: Path, width: int) -> None:
    chromium.open(page, width)
    chromium.ask("window.drawn.then(() => null)")
    fits(chromium, width)
    assert chromium.ask("document.getElementById('wait')") is None
    text = chromium.ask("document.getElementById('main').textContent")
    for words in ("principal direction 1, 75% (l2)", "principal direction 2, 13% (l2)", "loss",
                  "not finite", "training", "model", "lowest cell", "0.5"):  # fmt: skip
        assert words in text, words
    # down to its lower edge the window is filled
    bottom = "document.getElementById('map').getBoundingClientRect().bottom"
    assert chromium.ask(f"{bottom} + scrollY") > 0.9 * browser.HEIGHT


def test_on_a_laptop_a_surface_fits_has_a_scale_turns_and_may_be_logarithmic(
    chromium, plane
) -> None:
    drawn(chromium, plane, 1280)
    chromium.ask(
        "(async () => { const e = document.getElementById('height'); e.value = 'log'; "
        "e.dispatchEvent(new Event('change')); await null })()"
    )
    axis = "document.getElementById('relief').layout.scene.zaxis"
    assert chromium.ask(f"[{axis}.type, {axis}.title.text]") == ["log", "log loss"]
    scene = "document.getElementById('relief')._fullLayout.scene._scene"
    eye = f"JSON.stringify({scene}.getCamera().eye)"
    before = chromium.ask(eye)
    chromium.drag((300, 400), (400, 420))
    assert chromium.ask(eye) != before


def test_on_a_phone_a_swipe_over_a_surface_scrolls_until_a_finger_takes_it(chromium, plane) -> None:
    drawn(chromium, plane, 390)
    for figure in ("relief", "map"):
        chromium.ask("scrollTo(0, 0)")
        spot = f"document.getElementById('{figure}').getBoundingClientRect()"
        x, y = chromium.ask(f"[{spot}.left + {spot}.width / 2, {spot}.top + {spot}.height / 2]")
        chromium.swipe(x, min(y, browser.HEIGHT - 60), 120)
        assert chromium.ask("scrollY") > 50, figure
    chromium.ask("scrollTo(0, 0); document.getElementById('hold').click()")
    assert chromium.ask("document.getElementById('hold').textContent") == "let the page scroll"
    events = "getComputedStyle(document.getElementById('relief')).pointerEvents"
    assert chromium.ask(events) == "auto"
