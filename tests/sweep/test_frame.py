"""Runs as a frame: a column for every single value, of its kind whatever the rows hold."""

from __future__ import annotations

import math

import pytest
from finished_runs import config, filled, outcome
from sentences import the_sentence

import landscape as ls
from landscape.sweep import frame_of, write_rows
from landscape.sweep.choosing import address_of, chosen, conditions, known


@pytest.fixture
def store(tmp_path) -> ls.RunStore:
    return filled(tmp_path / "store")


def test_a_frame_has_a_row_a_run_with_settings_outcome_and_measurements(store) -> None:
    frame = ls.runs(store.folder)
    assert list(frame["address"]) == store.addresses()
    asked = config(method="structured", seed=1, options={"granularity": "row"})
    one = frame.set_index("address").loc[asked.address]
    wanted = {
        "model": "smollm2-135m", "num_train": 1000, "method": "structured", "ratio": 0.001,
        "targets": "auto", "lr": 0.1, "seed": 1, "mask_seed": 1, "options.granularity": "row",
        "metric": "accuracy", "trainable": 1342, "trainable_ratio": 0.000998, "dev_accuracy": 0.5,
        "test_accuracy": 0.6, "test_loss": 0.7, "test_n": 10, "distance": 1.25, "diverged": False,
        "best_step": 4, "steps": 8, "seconds": 2.5, "sharpness_value_before": 3.0,
        "sharpness_value_after": 1.5,
    }  # fmt: skip
    assert {name: one[name] for name in wanted} == wanted
    lists = {"correct", "train_loss", "evaluations", "identity", "options", "settings", "dev"}
    assert not lists & set(frame.columns)


def test_a_published_file_gives_the_frame_of_its_store(store, tmp_path) -> None:
    path = write_rows(tmp_path / "rows.jsonl.gz", store.rows())
    assert ls.runs(path).equals(ls.runs(store.folder))


def test_the_kinds_of_columns_do_not_depend_on_there_being_rows(store, tmp_path) -> None:
    empty = ls.RunStore(tmp_path / "empty")
    empty.create()
    nothing, frame = ls.runs(empty.folder), ls.runs(store.folder)
    assert len(nothing) == 0
    assert set(nothing.columns) < set(frame.columns)
    missing = {"ratio", "lr", "count"}
    for name in set(nothing.columns) - missing:
        assert nothing[name].dtype == frame[name].dtype, name
    assert {name: str(frame[name].dtype) for name in ("seed", "lr", "diverged", "count")} == {
        "seed": "int64", "lr": "float64", "diverged": "bool", "count": "Int64"
    }  # fmt: skip


def test_what_a_run_lacks_is_missing_and_its_column_keeps_its_kind(tmp_path) -> None:
    store = ls.RunStore(tmp_path)
    store.write(config(method="none", lr=None, ratio=None), {
        "metric": "accuracy", "test": {"accuracy": 0.5, "n": 10}, "dev": None, "diverged": False,
    })  # fmt: skip
    store.write(config(ratio=None, count=7), outcome(updated=3))
    frame = ls.runs(tmp_path).set_index("method")
    assert math.isnan(frame.loc["none", "lr"])
    assert frame.loc["random", "count"] == 7
    assert {n: str(frame[n].dtype) for n in ("lr", "ratio", "count", "best_step", "updated")} == {
        "lr": "float64", "ratio": "float64", "count": "Int64", "best_step": "Int64",
        "updated": "Int64",
    }  # fmt: skip
    assert "dev" not in frame


def test_lists_of_options_and_settings_have_columns_and_those_of_measurements_none(
    tmp_path,
) -> None:
    store = ls.RunStore(tmp_path)
    asked = config(
        method="id3", schedule="increment", options={"increments": [3, 4], "of": {"a": []}},
        settings={"betas": [0.5, 0.99]},
    )  # fmt: skip
    store.write(asked, outcome())
    store.write(config(), outcome())
    store.write_measured(asked, "tracking-0a1b2c3d", {"steps": [{"step": 1}], "last": 2.0})
    frame = ls.runs(tmp_path).set_index("address")
    one, other = frame.loc[asked.address], frame.loc[config().address]
    assert one["options.increments"] == "[3,4]"
    assert one["options.of_a"] == "[]"
    assert one["settings.betas"] == "[0.5,0.99]"
    assert other[["options.increments", "settings.betas"]].isna().all()
    assert [name for name in frame.columns if "tracking" in name] == ["tracking_last"]


def test_a_masks_own_seed_is_shown_and_else_the_runs(tmp_path) -> None:
    store = ls.RunStore(tmp_path)
    for mask_seed in (None, 9):
        store.write(config(seed=4, mask_seed=mask_seed), outcome())
    assert sorted(ls.runs(tmp_path)["mask_seed"]) == [4, 9]


def test_one_measurement_with_two_options_has_columns_by_its_keys(store) -> None:
    store.write_measured(config(), "sharpness-ffffffff", {"value": {"before": 1, "steps": [1]}})
    frame = ls.runs(store.folder)
    assert frame["sharpness-0a1b2c3d_value_before"].notna().all()
    assert list(frame["sharpness-ffffffff_value_before"].dropna()) == [1]
    assert not [name for name in frame if name.startswith("sharpness_") or "steps" in name[9:]]


def test_conditions_choose_rows_by_text_number_flag_and_what_is_missing(tmp_path) -> None:
    store = filled(tmp_path)
    store.write(config(ratio=1 / 3, seed=7), outcome(diverged=True))
    store.write(config(ratio=None, count=12, seed=8), outcome())
    frame = ls.runs(tmp_path)

    def seeds(*words: str) -> list[int]:
        return sorted(chosen(frame, conditions(words))["seed"])

    assert seeds("method=structured") == [0, 1, 2]
    assert seeds("method=random,seed=1", "seed=2") == [1, 2]
    assert seeds("ratio=1e-3", "method=random") == [0, 1, 2]
    assert seeds("ratio=0.3333") == [7]
    assert seeds("ratio=0.334") == []
    assert seeds("count=12") == [8]
    assert seeds("ratio=none") == [8]
    assert seeds("diverged=true") == [7]
    assert seeds("options.granularity=row") == [0, 1, 2]


def test_an_unknown_column_or_address_is_answered_with_the_nearest(store) -> None:
    frame = ls.runs(store.folder)
    assert "did you mean test_accuracy?" in the_sentence(lambda: known(frame, "test_acuracy"))
    assert "column=value" in the_sentence(lambda: conditions(["method"]))
    assert "for ratio" in the_sentence(lambda: chosen(frame, {"ratio": ["much"]}))
    addresses = ["abcd0000", "abce0000", "ffff0000"]
    assert address_of("f", addresses) == "ffff0000"
    assert "of 2 (abcd0000, abce0000)" in the_sentence(lambda: address_of("abc", addresses))
    assert "did you mean ffff0000?" in the_sentence(lambda: address_of("ffff0001", addresses))
    assert "no run is finished" in the_sentence(lambda: address_of("a", []))


def test_a_frame_of_no_source_is_refused(tmp_path) -> None:
    assert "check the path" in the_sentence(lambda: ls.runs(tmp_path / "nowhere"))
    assert list(frame_of([])["seed"]) == []
