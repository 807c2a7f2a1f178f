"""Panels whose pictures are read number by number."""

from __future__ import annotations

import numpy as np

from experiments.kit.panels import draw, heat


def test_a_heat_map_has_the_mean_over_runs_at_every_place_and_nothing_where_none_is() -> None:
    places = [(1, "value", 0.2), (0, "value", 0.1), (0, "query", 0.3)]
    records = [
        {"arm": "ID3", "where": places},
        {"arm": "ID3", "where": [(x, y, 3 * number) for x, y, number in places]},
        {"arm": "other", "where": [(0, "value", 9.0)]},
    ]
    panel = heat("where", "Where", "layer", "density", where={"arm": "ID3"})
    axis = draw([panel], records).axes[0]
    (image,) = axis.images
    shown = np.ma.filled(image.get_array(), np.nan)
    np.testing.assert_allclose(shown, [[0.2, 0.4], [0.6, np.nan]])
    assert [t.get_text() for t in axis.get_yticklabels()] == ["value", "query"]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["0", "1"]
    assert image.get_clim()[0] == 0.0  # no colour means nothing
