"""Published rows: the same bytes for the same rows, an altered number found, rows that join."""

from __future__ import annotations

import gzip
import itertools
import json
import random

import pytest
from finished_runs import config, filled, outcome
from sentences import the_sentence

import landscape as ls
from landscape.sweep import join, open_rows, read_rows, write_rows


@pytest.fixture(params=["rows.jsonl", "rows.jsonl.gz"])
def published(request, tmp_path):
    store = filled(tmp_path / "store")
    return store, write_rows(tmp_path / request.param, store.rows())


def without_hash(row: dict) -> dict:
    return {k: v for k, v in row.items() if k != "sha256"}


def test_a_file_has_the_rows_of_its_store_by_address(published) -> None:
    store, path = published
    rows = read_rows(path)
    assert rows.addresses() == store.addresses() == sorted(rows.addresses())
    assert [without_hash(row) for row in rows.rows()] == list(map(without_hash, store.rows()))
    assert config(method="random") in rows
    assert config(method="random", seed=9) not in rows
    assert rows.row(config(seed=2))["outcome"] == store.row(config(seed=2))["outcome"]
    assert "got 6 others" in the_sentence(lambda: rows.row(config(seed=9)))


def test_the_same_rows_give_the_same_bytes_in_any_order_and_from_either_source(
    published, tmp_path
) -> None:
    store, path = published
    rows = list(store.rows())
    random.Random(0).shuffle(rows)
    rows = [dict(reversed(row.items())) for row in rows]
    again = tmp_path / "again" / path.name
    assert write_rows(again, rows).read_bytes() == path.read_bytes()
    assert write_rows(again, read_rows(path).rows()).read_bytes() == path.read_bytes()
    packed = path.suffix == ".gz"
    text = (gzip.decompress if packed else bytes)(path.read_bytes()).decode()
    assert not packed or path.read_bytes()[4:8] == bytes(4)  # where the time would be
    assert len(text.splitlines()) == 6
    assert all(json.loads(line)["sha256"] for line in text.splitlines())


def rewritten(path, change) -> None:
    packed = path.suffix == ".gz"
    data = path.read_bytes()
    lines = (gzip.decompress(data) if packed else data).decode().splitlines()
    data = "".join(f"{line}\n" for line in change(lines)).encode()
    path.write_bytes(gzip.compress(data) if packed else data)


def test_an_altered_number_is_found_with_its_line(published) -> None:
    _, path = published
    rewritten(path, lambda lines: [*lines[:2], lines[2].replace("1.25", "1.24"), *lines[3:]])
    assert "line 3 of" in (said := the_sentence(lambda: read_rows(path)))
    assert "altered" in said


def test_a_row_twice_is_refused_wherever_it_stands(published, tmp_path) -> None:
    store, path = published
    rewritten(path, lambda lines: [*lines, lines[0]])
    assert "two of" in the_sentence(lambda: read_rows(path))
    rows = [*store.rows(), *store.rows()]
    assert "two of" in the_sentence(lambda: write_rows(tmp_path / "new.jsonl", rows))
    assert not (tmp_path / "new.jsonl").exists()


PACKED = gzip.compress(b"no rows" * 99, mtime=0)
BAD = [
    b"\x1f\x8b\x08\x00", b"\xff\xff", b"{}\n", b"no rows\n", PACKED[:-9], PACKED[:10] + b"\xff" * 9,
]  # fmt: skip


@pytest.mark.parametrize("content", BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("name", ["bad.jsonl", "bad.jsonl.gz"])
def test_a_file_that_holds_no_rows_is_refused(tmp_path, content, name) -> None:
    (tmp_path / name).write_bytes(content)
    the_sentence(lambda: read_rows(tmp_path / name))


def test_what_is_neither_a_store_nor_a_file_is_no_source(tmp_path) -> None:
    assert "nothing there" in the_sentence(lambda: open_rows(tmp_path / "nowhere"))
    assert "no store" in the_sentence(lambda: open_rows(tmp_path))


def test_rows_of_elsewhere_join_a_store_and_are_the_same_there(published, tmp_path) -> None:
    store, path = published
    other = ls.RunStore(tmp_path / "other")
    found = join(other, read_rows(path).rows())
    assert (found.added, found.kept, found.measured, found.different) == (6, 0, 0, ())
    assert [without_hash(row) for row in other.rows()] == list(map(without_hash, store.rows()))
    again = join(other, store.rows())
    assert (again.added, again.kept, again.measured) == (0, 6, 0)


def test_a_row_that_is_here_with_another_outcome_stays_and_is_told(tmp_path) -> None:
    here, there = ls.RunStore(tmp_path / "a"), ls.RunStore(tmp_path / "b")
    here.write(config(), outcome(seconds=1.0))
    here.write(config(seed=1), outcome("0000000001"))
    for seed in (0, 1):
        there.write(config(seed=seed), outcome(seconds=9.0))
        there.write_measured(config(seed=seed), "trace-00000000", {"value": 1.0})
    found = join(here, there.rows())
    assert (found.added, found.kept, found.measured) == (0, 1, 1)
    assert found.different == (config(seed=1).address,)
    assert here.row(config())["measured"] == {"trace-00000000": {"value": 1.0}}
    assert here.row(config())["outcome"]["seconds"] == 1.0
    assert here.row(config(seed=1))["outcome"]["correct"] == "0000000001"
    assert here.row(config(seed=1))["measured"] == {}


def test_a_row_that_names_its_files_and_one_that_does_not_are_of_one_run(tmp_path) -> None:
    here, there = ls.RunStore(tmp_path / "a"), ls.RunStore(tmp_path / "b")
    identity = {"train rows": {"count": 3}}
    files = {"model files": "0", "task files": {"train.tsv": "1"}}
    for seed, own in enumerate((identity, identity | {"tokenizer contents": "2"})):
        here.write(config(seed=seed), outcome() | {"identity": identity})
        there.write(config(seed=seed), outcome() | {"identity": own | files})
    found = join(here, there.rows())
    assert (found.kept, found.different) == (1, (config(seed=1).address,))


def test_a_row_under_another_address_joins_nothing(tmp_path) -> None:
    store = filled(tmp_path / "store")
    (first, second) = itertools.islice(store.rows(), 2)
    path = write_rows(tmp_path / "rows.jsonl", [first | {"config": second["config"]}])
    assert first["address"] in the_sentence(lambda: read_rows(path))
    other = ls.RunStore(tmp_path / "other")
    the_sentence(lambda: join(other, [first | {"config": second["config"]}]))
    assert other.addresses() == []


TOLD = {"model files": "m", "revisions": "b", "task files": {"train.tsv": "t", "dev.tsv": "d"}}
DRAWN = {"train rows": {"hash": "1"}, "dev rows": {"hash": "2"}, "test rows": {"hash": "3"}}


def told(**values) -> dict:
    return outcome() | {"identity": DRAWN | TOLD | values}


@pytest.mark.parametrize(
    ("seed", "values", "said"),
    [
        (0, {}, ""), (1, {}, ""), (1, {"model files": None, "task files": None}, ""),
        (1, {"task files": {"a.parquet": "p"}, "train rows": {"hash": "9"}}, ""),
        (0, {"task files": None, "dev rows": None}, ""),
        (1, {"model files": "n"}, "other files of the model"),
        (1, {"model files": "m", "revisions": "c"}, ""),
        (1, {"model files": None, "revisions": "c"}, "other files of the model"),
        (1, {"task files": {"train.tsv": "t", "dev.tsv": "e"}}, "other examples of"),
        (1, {"model files": "n", "task files": {"train.tsv": "t", "dev.tsv": "e"}}, " and other "),
    ],
)  # fmt: skip
def test_rows_of_other_inputs_under_the_same_names_join_nothing(
    seed, values, said, tmp_path
) -> None:
    here, there = ls.RunStore(tmp_path / "a"), ls.RunStore(tmp_path / "b")
    here.write(config(), told())
    there.write(config(method="bitfit"), told())
    there.write(config(method="lora", seed=seed), told(**values))
    if not said:
        assert join(here, there.rows()).added == 2
        return
    refused = the_sentence(lambda: join(here, there.rows()))
    assert said in refused
    assert f" than {config().address}" in refused
    assert here.addresses() == [config().address]


def test_one_drawing_from_files_of_other_names_has_the_same_examples_or_is_refused(
    tmp_path,
) -> None:
    here, there = ls.RunStore(tmp_path / "a"), ls.RunStore(tmp_path / "b")
    here.write(config(), told())
    other = {"task files": {"a.parquet": "p"}}
    there.write(config(method="bitfit"), told(**other))
    assert join(here, there.rows()).added == 1
    there.write(config(method="lora"), told(**other, **{"dev rows": {"hash": "9"}}))
    assert "other examples of" in the_sentence(lambda: join(here, there.rows()))


def test_every_drawing_that_is_there_is_compared_with(tmp_path) -> None:
    here, unnamed = ls.RunStore(tmp_path / "a"), {"task files": None}
    for seed in (0, 1):  # a small task may give both the same examples
        here.write(config(seed=seed), told(**unnamed))
    silent = dict.fromkeys((*DRAWN, "task files"))
    methods = sorted(("bitfit", "full"), key=lambda method: config(method=method, seed=2).address)
    for method, values in zip(methods, (silent, unnamed), strict=True):
        here.write(config(method=method, seed=2), told(**values))
    for seed in (0, 1, 2):
        there = ls.RunStore(tmp_path / f"b{seed}")
        there.write(
            config(method="lora", seed=seed), told(**unnamed, **{"dev rows": {"hash": "9"}})
        )
        assert "other examples of" in the_sentence(lambda there=there: join(here, there.rows()))


def test_a_row_that_is_here_already_stays_whatever_it_came_from_elsewhere(tmp_path) -> None:
    here, there = ls.RunStore(tmp_path / "a"), ls.RunStore(tmp_path / "b")
    here.write(config(), told())
    there.write(config(), told(**{"model files": "n"}))
    assert join(here, there.rows()).kept == 1
    assert here.row(config())["outcome"]["identity"]["model files"] == "m"


def test_another_model_and_another_task_have_files_of_their_own(tmp_path) -> None:
    here = ls.RunStore(tmp_path / "a")
    here.write(config(), told())
    for number, (name, value, own) in enumerate(
        (
            ("model", "./opt", {"model files": "n"}),
            ("task", "sst2", {"task files": {"train.tsv": "e"}}),
            ("task", "mrpc", {"train rows": {"hash": "9"}, "task files": None}),
        )
    ):
        there = ls.RunStore(tmp_path / f"b{number}")
        there.write(config(**{name: value}), told(**own))
        assert join(here, there.rows()).added == 1


def test_rows_that_contradict_each_other_join_no_empty_store_either(tmp_path) -> None:
    there, here = ls.RunStore(tmp_path / "b"), ls.RunStore(tmp_path / "a")
    there.write(config(), told())
    there.write(config(seed=1), told(**{"model files": "n"}))
    assert "other files of the model" in the_sentence(lambda: join(here, there.rows()))
    assert here.addresses() == []
