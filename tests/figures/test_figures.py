"""Figures: files of their format, and a page that holds the numbers and asks for nothing."""

from __future__ import annotations

import html
import json
import math
import re

import pytest
import torch
from matplotlib.figure import Figure
from oracles.curvature import with_spectrum

import landscape as ls
from landscape.errors import UserError

AXIS = torch.tensor([-1.0, 0.0, 1.0]).double()
PLANE = ls.Surface(
    (AXIS, 2 * AXIS),
    torch.tensor([[1.5, 2.25, math.nan], [0.125, 0.75, 4.0], [3.0, math.inf, 5.0]]).double(),
    centre=0.75,
    prediction=torch.full((3, 3), 0.5).double(),
)
CURVE = ls.Surface((AXIS,), torch.tensor([1.5, 0.75, math.nan]).double(), centre=0.75)
WAY = torch.tensor([[-0.9, -1.5], [0.5, 0.25], [0.0, 0.0]]).double()
MAGIC = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


@pytest.mark.parametrize("suffix", MAGIC)
def test_curves_contours_and_reliefs_are_files_of_their_format(tmp_path, suffix) -> None:
    files = [tmp_path / f"{name}.{suffix}" for name in ("curve", "plane", "relief")]
    ls.plot_surface(CURVE, files[0])
    ls.plot_surface(PLANE, files[1], trajectory=WAY)
    ls.plot_surface(PLANE, files[2], view="3d", trajectory=WAY)
    contents = [path.read_bytes() for path in files]
    assert all(c.startswith(MAGIC[suffix]) for c in contents)
    assert len(set(contents)) == 3


def test_the_training_cells_that_are_not_finite_and_the_prediction_are_drawn(tmp_path) -> None:
    """As words in the legend of an svg, whose text is text."""
    import matplotlib as mpl

    path = tmp_path / "a.svg"
    with mpl.rc_context({"svg.fonttype": "none"}):
        ls.plot_surface(PLANE, path, trajectory=WAY, labels=("first", "second"), title="a plane")
    text = path.read_text()
    for words in ("first (l2)", "second (l2)", "training", "start", "not finite", "model", "loss",
                  "lowest cell", "quadratic prediction", "a plane"):  # fmt: skip
        assert f">{words}<" in text, words


def test_figures_are_drawn_on_the_axes_given_and_these_come_back() -> None:
    figure = Figure()
    flat, deep = figure.add_subplot(121), figure.add_subplot(122, projection="3d")
    assert ls.plot_surface(PLANE, ax=flat, labels=("u", "v")) is flat
    assert (flat.get_xlabel(), flat.get_ylabel()) == ("u (l2)", "v (l2)")
    assert ls.plot_surface(PLANE, ax=deep, view="3d") is deep
    assert deep.get_zlabel() == "loss"
    with pytest.raises(UserError, match="expected 3d axes for this view, got flat"):
        ls.plot_surface(PLANE, ax=flat, view="3d")


def test_without_a_file_the_figure_is_pyplots_and_with_one_it_is_not(tmp_path) -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    ls.plot_surface(CURVE, tmp_path / "a.png")
    assert pyplot.get_fignums() == before
    axes = ls.plot_surface(CURVE)
    assert axes.figure.number not in before
    pyplot.close(axes.figure)


def test_the_marks_of_model_and_lowest_cell_are_whole_on_the_frame() -> None:
    axes = ls.plot_surface(PLANE, ax=Figure().add_subplot())
    marks = {line.get_label(): line for line in axes.lines}
    assert [tuple(marks["lowest cell"].get_data()[k]) for k in (0, 1)] == [(0.0,), (-2.0,)]
    assert not any(marks[name].get_clip_on() for name in ("model", "lowest cell"))


def test_the_house_style_ends_with_the_figure() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    axes = ls.plot_surface(CURVE, ax=Figure().add_subplot(), title="t")
    assert dict(mpl.rcParams) == before
    assert axes.lines[0].get_color() == "#0173b2"
    assert axes.get_title(loc="left") == "t"


def test_a_backend_that_starts_with_the_first_figure_goes_on_showing_figures() -> None:
    import matplotlib as mpl

    assert not mpl.is_interactive()
    try:
        with ls.figures.look():
            mpl.interactive(True)
        assert mpl.is_interactive()
    finally:
        mpl.interactive(False)


def data_of(page: str) -> dict:
    script = r'<script type="application/json" id="data">(.*?)</script>'
    return json.loads(re.search(script, page, re.DOTALL)[1])


def test_the_page_holds_every_number_rows_upwards(tmp_path) -> None:
    ls.plot_surface(PLANE, tmp_path / "a.html", trajectory=WAY, labels=("u", "v"), title="T")
    text = (tmp_path / "a.html").read_text()
    assert text == ls.surface_page(PLANE, trajectory=WAY, labels=("u", "v"), title="T").html
    data = data_of(text)
    assert data["title"] == "T"
    relief, plan = data["figures"]
    surface, way = relief["data"][:2]
    assert (surface["x"], surface["y"]) == ([-1, 0, 1], [-2, 0, 2])
    assert surface["z"] == [[1.5, 0.125, 3.0], [2.25, 0.75, None], [None, 4.0, 5.0]]
    assert surface["customdata"][1] == [[2.25, 0.5], [0.75, 0.5], [None, 0.5]]
    assert [way["x"], way["y"]] == WAY.T.tolist()
    # between (0, -2), (0, 0), (1, -2) and (1, 0) one corner is infinite; the last point is a cell
    assert way["z"] == [pytest.approx(1.5 * .9 * .75 + .125 * .1 * .75 + 2.25 * .9 * .25
                                      + .75 * .1 * .25), None, None]  # fmt: skip
    colours = plan["data"][0]["z"]
    assert colours[0] == pytest.approx([2 / 6, 0.0, 4 / 6])  # ranks among seven finite cells
    assert plan["data"][1]["text"] == ["nan", "inf"]
    assert plan["data"][0]["colorbar"]["ticktext"][0] == "0.125"


def test_the_ticks_of_a_narrow_range_of_losses_have_the_digits_that_tell_them_apart() -> None:
    axis = torch.tensor([-1.0, -0.5, 0.5, 1.0]).double()
    losses = 0.69481 + 1e-4 * torch.arange(16.0).double().reshape(4, 4) / 5
    surface = ls.Surface((axis, axis), losses, centre=0.695)
    _, plan = data_of(ls.surface_page(surface).html)["figures"]
    words = plan["data"][0]["colorbar"]["ticktext"]
    assert len(set(words)) == len(words)
    bar = ls.plot_surface(surface, ax=Figure().add_subplot()).figure.axes[1]
    words = [text.get_text() for text in bar.get_yticklabels()]
    assert len(set(words)) == len(words) > 2
    assert float(words[0]) == pytest.approx(0.69481, abs=1e-5)


def test_the_page_asks_the_network_for_nothing() -> None:
    html = ls.surface_page(CURVE).html
    own = re.sub(r'<script type="text/plain" id="plotly">.*?</script>', "", html, flags=re.DOTALL)
    assert "default-src 'none'" in own
    for reference in ("http:", "https:", "src=", "href=", "url(", "@import", "fetch(", "import("):
        assert reference not in own, reference
    assert 1e6 < len(html) < 2.5e6


def test_what_a_user_writes_cannot_leave_the_data() -> None:
    evil = "</script><script>alert('&')</script><!--\u2028"
    page = ls.surface_page(CURVE, title=evil, labels=(evil, ""))
    assert page.html.count("<script") == ls.surface_page(CURVE).html.count("<script")
    assert data_of(page.html)["title"] == evil
    label = data_of(page.html)["figures"][0]["layout"]["xaxis"]["title"]["text"]
    assert label.startswith("&lt;/script")


def test_a_notebook_shows_the_page_in_a_frame_and_its_name_is_short(tmp_path) -> None:
    page = ls.surface_page(CURVE, title='a "page"')
    frame = page._repr_html_()
    (inside,) = re.findall(r'srcdoc="([^"]*)"', frame)
    assert html.unescape(inside) == page.html
    assert re.fullmatch(r"page 'a \"page\"', \d\.\d MB", repr(page))
    assert page.save(tmp_path / "p.html").read_text() == page.html


def test_a_density_is_drawn_with_or_without_an_earlier_one(tmp_path) -> None:
    spectra = [
        ls.spectral_density(
            ls.MatrixOperator(with_spectrum(torch.arange(12.0) + s)), num_vectors=n, steps=6
        )
        for s, n in ((0, 3), (5, 1))
    ]
    ls.plot_density(spectra[0], tmp_path / "one.png")
    axes = Figure().add_subplot()
    assert ls.plot_density(spectra[0], ax=axes, before=spectra[1], width=0.3) is axes
    assert (tmp_path / "one.png").read_bytes().startswith(MAGIC["png"])
    assert axes.get_legend_handles_labels()[1] == ["before", "after"]
    with pytest.raises(UserError, match="positive width"):
        ls.plot_density(spectra[0], tmp_path / "a.png", width=0.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": "a.xyz"}, r"figure\.png"),
        ({"view": "3D"}, "contour or 3d, got '3D'"),
        ({"path": "a.html", "trajectory": torch.zeros(3, 1)}, r"shape \(points, 2\)"),
        ({"surface": ls.Surface((AXIS,), torch.full((3,), math.nan), math.nan)}, "smaller span"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, change, words) -> None:
    given = {"surface": PLANE, "path": "a.png"} | change
    surface, path = given.pop("surface"), tmp_path / given.pop("path")
    with pytest.raises(UserError, match=words):
        ls.plot_surface(surface, path, **given)
    assert not any(tmp_path.iterdir())
