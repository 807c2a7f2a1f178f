"""Rendering is a function of rows: the same bytes for the same rows, whatever else there is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_rows import made
from matplotlib.colors import to_hex

import landscape as ls
from experiments.kit import columns, panels, statements
from experiments.kit.columns import Table
from experiments.kit.draw import colors
from experiments.kit.page import undrawn
from experiments.kit.published import file_of, folder_of, is_published, merge, publish, rows_at
from experiments.kit.records import Row
from experiments.kit.rendering import page_of, render, table_text
from experiments.kit.statistics import geometric_mean, student
from experiments.kit.view import Artefact
from landscape.sweep import Grid, RunConfig, RunStore
from landscape.sweep.measurements import key

TOY = Artefact(
    name="toy", title="Toys", source="ours", lead="Toys.", caption="Toys over the ratio",
    grids=lambda preset: [
        Grid({"lr": 0.1}, {"ratio": [1e-2, 1e-3], "method": ["random", "magnitude"],
                           "seed": [0, 1]}),
        Grid({"method": "none"}, {"seed": [0, 1]}),
    ],
    tables={"Results": Table(by=("ratio", "arm"), columns={"accuracy": columns.mean_std("test")},
                             where={"arm": ("random", "magnitude")})},
    statements={"order": statements.better("magnitude is better", "test", "magnitude", "random")},
    panels=(
        panels.curve("test", "Accuracy", "test accuracy", law=0.1),
        panels.curve("distance", "Distance", "distance", log=True),
        panels.dots("distance", "By arm", "distance", log=True, where={"ratio": 1e-2}),
        panels.course("train_loss", "Loss", "loss", smooth=2),
        panels.against("distance", "test", "Both", "distance", "test accuracy", log="x"),
        panels.curve("sharpness", "Nothing", "nothing", where={"arm": "nobody"}),
    ),
    differences=(("model {model}", "levels"),),
)  # fmt: skip


def world(config: RunConfig) -> dict:
    level = {"none": 0.5, "random": 0.6, "magnitude": 0.7}[config.method] + config.seed / 100
    if config.method == "none":
        return {"test": level}
    return {"test": level, "distance": 1 / (config.ratio or 1), "count": 10,
            "train_loss": [1.0, 0.5, 0.25]}  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return made(TOY.of("local"), world)


def test_the_same_rows_give_the_same_bytes_in_any_order(rows, tmp_path) -> None:
    one = render(TOY, rows, "local", tmp_path / "one")
    other = render(TOY, rows[::-1], "local", tmp_path / "other")
    assert [p.name for p in one] == ["figure.png", "table.md", "index.html"]
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in other]


def test_the_page_without_its_drawings_is_what_is_rendered_without_them(rows, tmp_path) -> None:
    *_, page = render(TOY, rows, "local", tmp_path)
    drawn = page.read_text(encoding="utf-8")
    assert undrawn(drawn) == undrawn(page_of(TOY, rows, "local")) != drawn


def test_what_is_adjusted_is_said_under_the_statements_of_table_and_page(rows, tmp_path) -> None:
    judged = {
        "a": TOY.statements["order"],
        "b": statements.better("b", "test", "magnitude", "random", by=-0.5),
    }
    several = Artefact(**{**vars(TOY), "statements": judged})
    said = "Not adjusted for being several: 1 of a difference, 1 against a threshold."
    assert f"Statements\n\n{said}\n\n| statement" in table_text(several, rows, "local")
    assert f'<h2>Statements</h2>\n<p class="quiet">{said}</p>' in page_of(several, rows, "local")
    assert "adjusted" not in table_text(TOY, rows, "local")


def test_another_number_gives_another_picture_and_another_table(rows, tmp_path) -> None:
    changed = json.loads(json.dumps(rows))
    changed[0]["outcome"]["test"]["accuracy"] += 0.1
    one, other = (render(TOY, r, "local", tmp_path / n) for r, n in ((rows, "a"), (changed, "b")))
    assert one[0].read_bytes() != other[0].read_bytes()
    assert one[1].read_text() != other[1].read_text()


@pytest.mark.parametrize("arms", [1, 2, 5, 9])
def test_the_first_and_the_last_line_of_dots_have_half_a_line_of_room(arms) -> None:
    records = [{"arm": f"arm {i}", "test": i + 0.1 * j} for i in range(arms) for j in range(3)]
    axis = panels.draw([panels.dots("test", "Scores", "score")], records).axes[0]
    assert axis.get_ylim() == (arms - 0.5, -0.5)  # downwards
    assert [text.get_text() for text in axis.get_yticklabels()] == [r["arm"] for r in records[::3]]
    means = [line.get_ydata()[0] for line in axis.get_lines() if line.get_marker() == "o"]
    assert means == list(range(arms))


def test_arms_that_no_panel_draws_take_no_colour() -> None:
    records = [
        {"arm": arm, "task": task, "test": 0.5 + 0.01 * seed, "seed": seed}
        for arm, task in (("hidden", "other"), ("shown", "sst2"), ("also shown", "sst2"))
        for seed in (0, 1)
    ]
    chosen = [panels.dots("test", "Scores", "score", where={"task": "sst2"})]
    drawn = {
        to_hex(color) for line in panels.draw(chosen, records).axes[0].get_lines()
        for color in [line.get_color()]
    }  # fmt: skip
    assert {to_hex(color) for color in colors(2)} <= drawn
    assert to_hex(colors(3)[2]) not in drawn


def test_an_arm_that_several_figures_have_has_its_own_colour_in_all_of_them() -> None:
    def drawn(*arms: str) -> list[str]:
        records = [{"arm": arm, "test": 0.5 + 0.1 * seed} for arm in arms for seed in (0, 1)]
        axis = panels.draw([panels.dots("test", "Scores", "score")], records).axes[0]
        return [to_hex(x.get_color()) for x in axis.get_lines() if x.get_marker() == "o"]

    hexes = [to_hex(color) for color in colors()]
    assert drawn("masks", "full fine-tuning", "LoRA") == hexes[:3]
    assert drawn("LoRA", "masks") == [hexes[2], hexes[0]]
    assert drawn("one", "LoRA", "other", "third") == [hexes[0], hexes[2], hexes[1], hexes[3]]
    assert len({*drawn("masks", "random", "full", "full fine-tuning")}) == 4  # two of a place
    assert len(drawn(*(f"arm {n}" for n in range(12)), "masks")) == 13


@pytest.mark.parametrize("log", [False, True])
def test_dots_have_room_for_intervals_but_for_those_far_wider_than_their_points(log) -> None:
    def limits(*values: float) -> tuple[float, float]:
        records = [{"arm": "a", "test": v} for v in values]
        return (
            panels.draw([panels.dots("test", "Scores", "score", log=log)], records)
            .axes[0]
            .get_xlim()
        )

    of = geometric_mean if log else student
    four, two = (1.0, 1.2, 1.3, 1.5), (1.0, 1.5)
    low, high = limits(*four)
    assert low < of(four).low < of(four).high < high
    low, high = limits(*two)  # twelve times as far as the points
    assert of(two).low < low < 1.0 < 1.5 < high < of(two).high


def test_the_table_says_what_it_holds_of_what(rows) -> None:
    text = table_text(TOY, rows, "local")
    assert "| 0.01  | random    | 0.605 ± 0.007 |" in text
    assert "model smollm2-135m" in text
    assert "\n\n10 runs, 2024-01-01; 0.1 hours on none; torch 0; commit unknown\n" in text
    assert "unfinished" not in text
    assert "unfinished: 9 of 10 runs at chosen rates; missing: " in table_text(
        TOY, rows[1:], "local"
    )


def test_a_difference_of_devices_is_told_where_there_are_several(rows) -> None:
    one = replace(TOY, differences=(("computed on {device}", "rounding"), ("smaller", "less")))
    made = rows[0]["provenance"] | {"device": "GPU"}
    assert "computed on" not in (alone := table_text(one, rows, "local"))
    assert "| smaller" in alone
    both = table_text(one, [{**rows[0], "provenance": made}, *rows[1:]], "local")
    assert "| computed on GPU, none " in both or "| computed on none, GPU " in both


def test_what_is_measured_on_a_run_belongs_to_it_and_its_time_counts(rows) -> None:
    measured = replace(
        TOY, grids=lambda preset: [replace(g, measure={"trace": {}}) for g in TOY.of(preset)]
    )
    assert "unfinished: 0 of 10 runs" in table_text(measured, rows, "local")
    timed = {key("trace", {}): {"seconds": 90.0}}
    whole = table_text(measured, [{**row, "measured": timed} for row in rows], "local")
    assert "unfinished" not in whole
    assert "; 0.1 hours on none, 0.25 hours of measurements; torch 0;" in whole  # ten of 90 s


def test_the_time_of_a_gpu_is_not_added_to_that_of_a_processor(rows) -> None:
    made = rows[0]["provenance"] | {"device": "GPU", "versions": {"torch": "1"}, "commit": "a" * 40}
    text = table_text(TOY, [*rows[2:], *({**row, "provenance": made} for row in rows[:2])], "local")
    assert (
        "\n\n10 runs, 2024-01-01; 4.8 minutes on none (8 runs), 1.2 minutes on GPU (2 runs); "
        in text
    )
    assert "; torch 0, 1; commits aaaaaaa, unknown\n" in text


def test_nothing_is_drawn_of_no_row() -> None:
    with pytest.raises(ls.UserError, match="expected runs of toy among the rows, got none; run"):
        TOY.records([], TOY.of("local"))


def store_of(rows: list[Row], folder: Path) -> Path:
    store = RunStore(folder)
    store.create()
    for one in rows:
        store.write(RunConfig.of(one["config"]), one["outcome"])
    return folder


def test_published_rows_are_those_of_the_store_and_a_measurement_joins_them(rows, tmp_path) -> None:
    store, results = store_of(rows, tmp_path / "store"), tmp_path / "results"
    assert not is_published(TOY, "local", results)
    publish(TOY, "local", store, results)
    found = rows_at(file_of("local", results), TOY, "local")
    assert [r["outcome"]["test"] for r in found] == [
        r["outcome"]["test"] for r in sorted(rows, key=lambda r: r["address"])
    ]
    merge(file_of("local", results), [{**found[0], "measured": {"sharpness-1": {"x": 1.0}}}])
    again = rows_at(file_of("local", results), TOY, "local")
    assert again[0]["measured"] == {"sharpness-1": {"x": 1.0}}
    more = {"sharpness-1": {"x": 2.0}, "trace-1": {"x": 3.0}}
    merge(file_of("local", results), [{**found[0], "measured": more}])
    again = rows_at(file_of("local", results), TOY, "local")
    assert again[0]["measured"] == {"sharpness-1": {"x": 1.0}, "trace-1": {"x": 3.0}}
    render(TOY, again, "local", folder_of(TOY, "local", results))
    assert is_published(TOY, "local", results)


def test_another_result_does_not_take_a_published_ones_place(rows, tmp_path) -> None:
    store, results = store_of(rows, tmp_path / "store"), tmp_path / "results"
    publish(TOY, "local", store, results)
    found = json.loads(json.dumps(rows[0]))
    found["outcome"]["test"]["accuracy"] = 0.9
    with pytest.raises(ls.UserError, match="as it was published, got another result on test"):
        merge(file_of("local", results), [found])


def test_rows_of_another_artefact_are_none(rows, tmp_path) -> None:
    store = store_of(rows[:1], tmp_path / "store")
    other = Grid({"lr": 0.5, "ratio": 0.5}, {"seed": [0]})
    strange = Artefact(**{**vars(TOY), "grids": lambda preset: [other]})
    with pytest.raises(ls.UserError, match="got others only; compute them: python -m experiments"):
        rows_at(store, strange, "local")
    with pytest.raises(ls.UserError, match="got none; compute them"):
        rows_at(tmp_path / "nowhere", TOY, "local")


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(ls.UserError, match="did you mean local"):
        TOY.of("locl")


def test_differences_are_one_family_and_thresholds_are_none_of_it(rows) -> None:
    def better(one: str, other: str, by: float | None = None) -> statements.Statement:
        return statements.better("b", "test", one, other, by=by)

    judged = {
        "a": better("magnitude", "random"), "b": better("random", "none"),
        "c": better("magnitude", "random", by=-0.5),
    }  # fmt: skip
    several = Artefact(**{**vars(TOY), "statements": judged})
    found = several.findings(several.records(rows, several.of("local")))
    assert all("among 2" in found[name].evidence for name in "ab")
    assert "among" not in found["c"].evidence
    assert "among" not in TOY.findings(TOY.records(rows, TOY.of("local")))["order"].evidence


LOSSES = [[4.0, 2.0, 3.0, 1.0], [2.0, None], [0.0, 4.0, 1.0, 3.0]]


@pytest.mark.parametrize(
    ("log", "means"), [(False, [2.0, 3.0, 2.0, 2.0]), (True, [8**0.5, 8**0.5, 3**0.5, 3**0.5])]
)
def test_a_course_goes_on_beside_a_run_that_ended_early_without_a_finite_loss(log, means) -> None:
    """On a logarithmic axis its mean is geometric, of what is positive."""
    records = [{"arm": "random", "loss": values} for values in LOSSES]
    with ls.figures.look():
        figure = panels.draw([panels.course("loss", "Loss", "loss", log=log)], records)
        (line,) = figure.axes[0].lines
    assert list(line.get_xdata()) == [1, 2, 3, 4]
    assert list(line.get_ydata()) == pytest.approx(means)


def test_a_course_has_its_interval_as_a_band_and_axes_with_room_for_it() -> None:
    courses = [[2.0, 2.0, 4.0], [3.0, 2.5, 9.0], [4.0, 2.0], [3.0]]
    records = [{"arm": "random", "loss": values} for values in courses]
    axes = ls.figures.canvas.blank((2, 2)).subplots()
    panels.course("loss", "", "").draw(axes, records, {"random": (0.0, 0.0, 0.0)})
    (band,) = axes.collections
    (outline,) = band.get_paths()
    assert {x: sorted({y for at, y in outline.vertices if at == x}) for x in (1.0, 2.0, 3.0)} == {
        x: pytest.approx([interval.low, interval.high])
        for x, interval in (
            (1.0, student([2.0, 3.0, 4.0, 3.0])), (2.0, student([2.0, 2.5, 2.0])),
            (3.0, student([4.0, 9.0])),
        )
    }  # fmt: skip
    low, high = axes.get_ylim()
    assert low < student([2.0, 3.0, 4.0, 3.0]).low  # 1.7
    assert 6.5 < high < 2 * 6.5  # the third's ends at 38


def test_a_course_of_runs_that_ended_before_their_first_value_is_no_line() -> None:
    records = [{"arm": "random", "loss": []}, {"arm": "full", "loss": [1.0, 2.0]}]
    axes = ls.figures.canvas.blank((2, 2)).subplots()
    black = (0.0, 0.0, 0.0)
    panels.course("loss", "", "").draw(axes, records, {"random": black, "full": black})
    assert [len(line.get_ydata()) for line in axes.lines] == [0, 2]


def test_the_mean_of_a_curve_on_a_logarithmic_axis_is_geometric() -> None:
    records = [{"arm": "random", "ratio": 0.1, "x": value} for value in (1.0, -100.0)]
    axes = ls.figures.canvas.blank((2, 2)).subplots()
    panels.curve("x", "", "", log=True).draw(axes, records, {"random": (0.0, 0.0, 0.0)})
    (line,) = [one for one in axes.lines if one.get_label() == "random"]
    assert list(line.get_ydata()) == pytest.approx([10.0])


def test_the_parts_of_a_figure_are_its_panels_and_every_label_once() -> None:
    records = [{"arm": arm, "ratio": 0.1, "x": 1.0} for arm in ("one", "two")]
    chosen = [panels.curve("x", name, "x") for name in ("First", "Second")]
    with ls.figures.look():
        parts, again = (panels.draw_parts(chosen, records) for _ in range(2))
    assert [title for title, _ in parts.panels] == ["First", "Second"]
    assert list(parts.legend) == ["one", "two"]
    assert all(svg.startswith("<svg") for _, svg in parts.panels)
    assert parts == again
