"""What figures share: a style that leaves nothing behind, guides with the slope of their law."""

from __future__ import annotations

import re

import matplotlib
import numpy as np
import pytest
from matplotlib.lines import Line2D

from experiments.kit.draw import colors, decades, guide, panels, swatch
from landscape.figures import look


def test_the_style_holds_inside_and_is_gone_outside() -> None:
    before = dict(matplotlib.rcParams)
    with look():
        assert [
            matplotlib.colors.to_rgb(c)
            for c in matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
        ] == colors()
        assert not matplotlib.rcParams["axes.spines.top"]
        inside = dict(matplotlib.rcParams)
    assert inside != before
    assert dict(matplotlib.rcParams) == before


def test_the_colours_are_seaborns_for_the_colour_blind() -> None:
    import seaborn

    assert np.allclose(colors(13), seaborn.color_palette("colorblind", 13), atol=1e-9)


def test_an_entry_of_a_legend_is_as_wide_as_its_words() -> None:
    def width(label: str) -> float:
        with look():
            text = swatch(label, Line2D([], []))
        return float(re.search(r'width="([\d.]+)pt"', text)[1])

    one, two = width("a word"), width("a word, and then some more of them")
    assert 50 < one < 100
    assert 150 < two < 250


@pytest.mark.parametrize("power", [1.0, -0.5])
def test_a_guide_has_its_power_and_passes_through_the_middle_point(power) -> None:
    _, axis = panels((2, 2))
    x, y = [1e-4, 1e-3, 1e-2], [5.0, 7.0, 4.0]
    guide(axis, x, y, power)
    drawn = axis.lines[0].get_ydata()
    assert drawn[1] == 7.0
    slopes = np.diff(np.log(drawn)) / np.diff(np.log(x))
    np.testing.assert_allclose(slopes, power, rtol=1e-12)
    assert not axis.texts


@pytest.mark.parametrize(("power", "end", "side"), [(1.0, 1e-2, "right"), (-0.5, 1e-4, "left")])
def test_a_guides_label_stands_at_its_higher_end_and_in_no_legend(power, end, side) -> None:
    _, axis = panels((2, 2))
    guide(axis, [1e-4, 1e-3, 1e-2], [5.0, 7.0, 4.0], power, "law")
    (text,) = axis.texts
    assert (text.get_text(), text.xy[0], text.get_ha()) == ("law", end, side)
    assert axis.get_legend_handles_labels() == ([], [])


@pytest.mark.parametrize(
    ("columns", "rows", "shape"), [(1, 1, ()), (3, 1, (3,)), (2, 3, (3, 2)), (1, 2, (2, 1))]
)
def test_panels_have_one_axis_a_row_of_them_or_a_grid(columns, rows, shape) -> None:
    figure, axes = panels((2, 2), columns, rows)
    assert np.shape(axes) == shape
    assert len(figure.axes) == columns * rows


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((4e5, 9e6), {"1M", "3M"}),
        ((8e3, 8e4), {"10k", "20k", "50k"}),
        ((0.2, 0.6), {"0.2", "0.5"}),
        ((0.06, 0.16), {"0.07", "0.1", "0.15"}),
        ((1e3, 8e3), {"1000", "2000", "5000"}),
    ],
)
def test_an_axis_of_few_decades_is_marked_by_short_plain_numbers(ends, expected) -> None:
    figure, axis = panels((4, 2))
    axis.plot(ends, [0, 1])
    decades(axis.xaxis)
    figure.canvas.draw()
    assert expected <= {label.get_text() for label in axis.get_xticklabels()}
