"""Files of one's own: the same rows whatever the format, the encoding or the marks."""

from __future__ import annotations

import bz2
import csv
import datetime
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import landscape as ls
from landscape.tasks.files.table import read_csv
from landscape.tasks.own.dealing import deal
from landscape.tasks.own.rows import read_own
from landscape.tasks.own.writing import json_lines, write_rows

ROWS = [
    {"text": 'She said "no",\nthen left', "label": "sad"},
    {"text": "schön; und gut", "label": "glad"},
    {"text": "two\twords", "label": "glad"},
]


def png(shade: int, *, dark: bool = False) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (2, 2), shade if dark else 200 + shade).save(stream, "PNG")
    return stream.getvalue()


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    kind = path.name.partition(".")[2]
    frame = pd.DataFrame(rows)
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(r) + "\r\n" for r in rows), encoding="utf-8")
    elif kind == "json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif kind == "csv.bz2":
        path.write_bytes(bz2.compress(frame.to_csv(index=False).encode()))
    else:
        with path.open("w", encoding="utf-8-sig", newline="") as stream:
            writer = csv.writer(stream, delimiter=";" if kind == "semicolons.csv" else ",")
            writer.writerows([rows[0], *(row.values() for row in rows)])
    return path


@pytest.mark.parametrize(
    "name", ["r.csv", "r.semicolons.csv", "r.csv.bz2", "r.jsonl", "r.json", "r.parquet"]
)
def test_every_format_holds_the_same_rows(name, tmp_path) -> None:
    found = read_own(written(tmp_path / name, ROWS))
    assert [dict(row.values) for row in found.rows] == ROWS
    assert found.columns == ("text", "label")


def test_a_frame_and_a_list_hold_the_rows_of_the_file(tmp_path) -> None:
    frame = pd.DataFrame([*ROWS, {"text": None, "label": float("nan")}])
    assert [dict(r.values) for r in read_own(frame).rows[:3]] == ROWS
    assert dict(read_own(frame).rows[3].values) == {"text": None, "label": None}
    assert read_own(ROWS).sha256 == read_own(pd.DataFrame(ROWS)).sha256
    assert read_own(ROWS).sha256 != read_own(ROWS[:2]).sha256


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_first_line_says_what_separates_the_values_of_a_csv(mark, tmp_path) -> None:
    path = tmp_path / "r.csv"
    path.write_text(f'a{mark}b\n"1,5"{mark}2;5\n'.replace("2;5", '"2;5"'), encoding="utf-8")
    assert list(read_csv(path)) == [(1, ["a", "b"]), (2, ["1,5", "2;5"])]


def test_a_field_of_a_hundred_thousand_words_is_read_and_the_csv_modules_limit_is_left_alone(
    tmp_path,
) -> None:
    path, passage = tmp_path / "r.csv", "word " * 100_000
    path.write_text(f"text,label\n{passage},a\n", encoding="utf-8")
    usual = csv.field_size_limit(5_000)
    assert list(read_csv(path))[1] == (2, [passage, "a"])
    assert csv.field_size_limit(usual) == 5_000


def test_rows_with_a_key_in_common_through_others_are_in_one_split() -> None:
    keys = [("a",), ("b",), ("a", "c"), ("c",), ("d",), ("b",)]
    for seed in range(20):
        found = deal(keys, {"test": 0.5}, seed, "six rows")
        where = {i: split for split, rows in found.items() for i in rows}
        assert len(where) == 6
        assert where[0] == where[2] == where[3]
        assert where[1] == where[5]
        assert len(found["test"]) <= 3


def test_shares_without_groups_are_exact_and_depend_on_the_seed_alone() -> None:
    keys = [(i,) for i in range(97)]
    shares = {"test": 0.1, "dev": 0.25}
    found = deal(keys, shares, 0, "rows")
    assert {split: len(rows) for split, rows in found.items()} == {
        "test": 10, "dev": 24, "train": 63
    }  # fmt: skip
    assert sorted(i for rows in found.values() for i in rows) == list(range(97))
    assert deal(keys, shares, 0, "rows") == found
    assert deal(keys, shares, 1, "rows") != found


def test_images_have_the_class_of_their_folder(tmp_path) -> None:
    pixels = {"cat/a.png": png(1), "dog/b.PNG": png(2), "dog/.hidden.png": b"3", "dog/n.txt": b"4"}
    for name, content in pixels.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    found = read_own(tmp_path)
    assert [dict(row.values) for row in found.rows] == [
        {"file": "cat/a.png", "label": "cat", "image": pixels["cat/a.png"]},
        {"file": "dog/b.PNG", "label": "dog", "image": pixels["dog/b.PNG"]},
    ]


def test_a_task_of_images_is_made_of_their_folders(tmp_path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(10):
            (tmp_path / name / f"{i}.png").write_bytes(png(i, dark=name == "cat"))
    task = ls.task_from(tmp_path, dev=0.2, test=0.2)
    assert (len(task.train), len(task.dev), len(task.test)) == (12, 4, 4)
    cats = {png(i, dark=True) for i in range(10)}
    assert [e.image in cats for e in task.train] == [e.label == 0 for e in task.train]
    assert task.train[0].classes == ("cat", "dog")


def test_rows_are_written_as_json_even_where_it_lacks_their_kind(tmp_path) -> None:
    rows = [
        {"on": datetime.datetime(2024, 5, 1, 9, 30), "at": float("nan"), "who": "Zoë"},
        {"n": 3},
    ]
    wanted = [{"on": "2024-05-01T09:30:00", "at": None, "who": "Zoë", "n": None},
              {"on": None, "at": None, "who": None, "n": 3}]  # fmt: skip
    for ending in ("jsonl", "json"):
        text = write_rows(tmp_path / f"p.{ending}", rows).read_text(encoding="utf-8")
        found = json.loads(text) if ending == "json" else [*map(json.loads, text.splitlines())]
        assert found == wanted
        assert "Zoë" in text
    assert json_lines([{"who": "Zoë"}], ascii=True) == '{"who": "Zo\\u00eb"}\n'
