"""Panels whose pictures are read number by number."""

from __future__ import annotations

import numpy as np

from experiments.kit.panels import curve, dots, draw, draw_parts, heat
from experiments.kit.records import Record
from experiments.kit.statistics import student


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


def records_of(arm: str, ratio: float | None, *scores: float, **more: object) -> list[Record]:
    return [{"arm": arm, "ratio": ratio, "test": score, **more} for score in scores]


def test_a_level_line_has_its_interval_in_room_made_on_the_right() -> None:
    over = [*records_of("masks", 1e-3, 0.5, 0.7), *records_of("masks", 1e-2, 0.6, 0.8)]
    level = records_of("LoRA", None, 0.62, 0.64, 0.66)
    panel = curve("test", "Accuracy", "accuracy")
    alone, both = (draw([panel], own).axes[0] for own in (over, over + level))
    assert alone.get_xlim()[0] == both.get_xlim()[0]
    assert alone.get_xlim()[1] < both.get_xlim()[1]
    (bar,) = [line for line in both.lines if line.get_transform() == both.get_yaxis_transform()
              and line.get_label().startswith("_") and len(set(line.get_xdata())) == 1]  # fmt: skip
    found = student([0.62, 0.64, 0.66])
    np.testing.assert_allclose(bar.get_ydata(), [found.low, found.high])
    (right,) = both.transAxes.inverted().transform(both.transData.transform([(1e-2, 0.6)]))[:, 0:1]
    assert right[0] < bar.get_xdata()[0] < 1  # beyond what is drawn, within the panel


def test_panels_without_a_label_in_common_have_a_legend_each_and_others_share_one() -> None:
    records = [{"arm": arm, "kind": kind, "ratio": 1e-3, "test": 0.5} for arm in ("a", "b")
               for kind in (1, 2)]  # fmt: skip
    arms, kinds = curve("test", "", "y"), curve("test", "", "y", by="kind")
    shared = draw([arms, arms], records)
    assert [t.get_text() for t in shared.legends[0].get_texts()] == ["a", "b"]
    assert [axis.get_legend() for axis in shared.axes] == [None, None]
    own = draw([arms, kinds], records)
    assert own.legends == []
    said = [[t.get_text() for t in axis.get_legend().get_texts()] for axis in own.axes]
    assert said == [["a", "b"], ["1", "2"]]
    assert not draw_parts([arms, kinds], records).legend
    assert list(draw_parts([arms, arms], records).legend) == ["a", "b"]


def test_a_label_names_the_metric_or_says_score_where_there_are_several() -> None:
    panel = dots("test", "", "test {metric}")

    def label(*metrics: str) -> str:
        records = [r for m in metrics for r in records_of("a", 1e-3, 0.5, metric=m)]
        return draw([panel], records).axes[0].get_xlabel()

    assert label("entity_f1") == "test entity f1"
    assert label("entity_f1", "accuracy") == "test score"
