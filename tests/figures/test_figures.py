"""Figures: files of their format, and a page that holds the numbers and asks for nothing."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
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
    written = [
        ls.plot_surface(CURVE, tmp_path / f"curve.{suffix}"),
        ls.plot_surface(PLANE, tmp_path / f"plane.{suffix}", trajectory=WAY),
        ls.plot_surface(PLANE, tmp_path / f"relief.{suffix}", view="3d", trajectory=WAY),
    ]
    contents = [path.read_bytes() for path in written]
    assert all(c.startswith(MAGIC[suffix]) for c in contents)
    assert len(set(contents)) == 3


def test_the_training_cells_that_are_not_finite_and_the_prediction_are_drawn(tmp_path) -> None:
    """As words in the legend of an svg, whose text is text."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):
        path = ls.plot_surface(
            PLANE, tmp_path / "a.svg", trajectory=WAY, labels=("first", "second"), title="a plane"
        )
    text = path.read_text()
    for words in ("first (l2)", "second (l2)", "training", "start", "not finite", "model", "loss",
                  "lowest cell", "quadratic prediction", "a plane"):  # fmt: skip
        assert f">{words}<" in text, words


def data_of(path: Path) -> dict:
    script = r'<script type="application/json" id="data">(.*?)</script>'
    return json.loads(re.search(script, path.read_text(), re.DOTALL)[1])


def test_the_page_holds_every_number_and_asks_the_network_for_nothing(tmp_path) -> None:
    path = ls.plot_surface(PLANE, tmp_path / "a.html", trajectory=WAY, labels=("u", "v"), title="T")
    data = data_of(path)
    assert data["axes"] == [[-1, 0, 1], [-2, 0, 2]]
    assert data["losses"] == [[1.5, 2.25, "nan"], [0.125, 0.75, 4.0], [3.0, "inf", 5.0]]
    assert data["prediction"] == [[0.5] * 3] * 3
    assert data["trajectory"] == WAY.tolist()
    assert (data["centre"], data["labels"], data["title"]) == (0.75, ["u", "v"], "T")
    text = path.read_text()
    assert "default-src 'none'" in text
    for reference in ("http:", "https:", "src=", "href=", "url(", "@import", "fetch(", "import("):
        assert reference not in text, reference


def test_what_a_user_writes_cannot_leave_the_data(tmp_path) -> None:
    evil = "</script><script>alert('&')</script><!--\u2028"
    path = ls.plot_surface(CURVE, tmp_path / "a.html", title=evil, labels=(evil, ""))
    assert path.read_text().count("<script") == 2
    assert "alert('" not in path.read_text().replace("\\u003cscript\\u003ealert('", "")
    assert data_of(path)["title"] == evil
    assert data_of(path)["labels"][0] == evil


DRIVER = Path(__file__).parent / "page_driver.js"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_pointing_at_a_cell_reads_its_value_and_turning_moves_the_relief(tmp_path) -> None:
    def drive(surface: ls.Surface) -> dict:
        path = ls.plot_surface(
            surface, tmp_path / "a.html", labels=("u", "v"), title="<b>", trajectory=None
        )
        done = subprocess.run(["node", DRIVER, path], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    seen = drive(PLANE)
    # the corners of the map, from the left and from below
    assert seen["corners"] == {
        "left bottom": "u -1,  v -2,  loss 1.5,  quadratic prediction 0.5",
        "left top": "u -1,  v 2,  loss nan,  quadratic prediction 0.5",
        "right bottom": "u 1,  v -2,  loss 3,  quadratic prediction 0.5",
        "right top": "u 1,  v 2,  loss 5,  quadratic prediction 0.5",
    }
    assert seen["title"] == "<b>"
    assert "2 cells are not finite" in seen["about"]
    assert "from 0.125 (ring) to 5" in seen["about"]
    assert seen["faces"] == 1  # of four, those without a cell that is not finite
    assert seen["turned"]
    assert seen["numbers"]
    curve = drive(CURVE)
    assert curve["corners"]["left bottom"] == "u -1,  loss 1.5"
    assert curve["corners"]["right top"] == "u 1,  loss nan"
    assert curve["faces"] == 0


def test_a_density_is_drawn_with_or_without_an_earlier_one(tmp_path) -> None:
    spectra = [
        ls.spectral_density(
            ls.MatrixOperator(with_spectrum(torch.arange(12.0) + s)), num_vectors=n, steps=6
        )
        for s, n in ((0, 3), (5, 1))
    ]
    one = ls.plot_density(spectra[0], tmp_path / "one.png")
    two = ls.plot_density(spectra[0], tmp_path / "two.pdf", before=spectra[1], width=0.3)
    assert one.read_bytes().startswith(MAGIC["png"])
    assert two.read_bytes().startswith(MAGIC["pdf"])
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
