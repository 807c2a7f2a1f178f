"""The store of runs: rows whole or not there, damage found and set aside, one sweep at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest
from finished_runs import config, filled, outcome
from sentences import the_sentence

import landscape as ls
from landscape.errors import UserError
from landscape.folders import files


def result(store: ls.RunStore, one: ls.RunConfig) -> Path:
    return store.path(one) / "result.json"


@pytest.fixture
def store(tmp_path: Path) -> ls.RunStore:
    found = ls.RunStore(tmp_path / "runs")
    found.create()
    for seed in (0, 1):
        found.write(config(seed=seed), outcome())
    found.write_measured(config(), "trace-00000000", {"value": 2.0})
    return found


def test_a_row_is_what_was_written_with_what_was_measured_and_where_it_comes_from(store) -> None:
    row = store.row(config())
    assert row["address"] == config().address == store.path(config()).name
    assert row["config"] == config().as_dict()
    assert row["outcome"] == outcome()
    assert row["measured"] == {"trace-00000000": {"value": 2.0}}
    assert {"command", "versions", "date"} <= row["provenance"].keys()
    assert json.loads((store.path(config()) / "config.json").read_text()) == config().as_dict()


def test_the_hash_of_a_row_is_that_of_the_text_before_it(store) -> None:
    text = result(store, config()).read_text()
    body, _, rest = text.rpartition(',"sha256":"')
    assert rest == hashlib.sha256(body.encode()).hexdigest() + '"}\n'


def test_numbers_that_json_lacks_are_null_in_a_row(store) -> None:
    row = store.write(config(seed=5), outcome(distance=float("nan"), diverged=True))
    assert row["outcome"]["distance"] is None


def test_a_row_that_is_there_stays_whoever_writes_it_again(store) -> None:
    before = result(store, config()).read_bytes()
    row = store.write(config(), outcome("0000000000"))
    assert row["outcome"]["correct"] == "1110000000"
    assert result(store, config()).read_bytes() == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def alter(path: Path) -> None:
    text = path.read_text()
    path.write_text(text.replace("2.0", "3.0").replace("1.25", "1.26"))
    assert path.read_text() != text


def reformat(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1))


@pytest.mark.parametrize("harm", [cut, alter, reformat, lambda path: path.write_bytes(b"\xff\xfe")])
@pytest.mark.parametrize("place", ["result.json", "measured/trace-00000000.json"])
def test_a_damaged_run_is_no_run_is_left_out_with_a_word_and_is_set_aside_by_a_sweep(
    store, harm, place
) -> None:
    harm(store.path(config()) / place)
    assert config() not in store
    assert config(seed=1) in store
    assert place.rpartition("/")[2] in the_sentence(lambda: store.row(config()))
    with pytest.warns(UserWarning, match="a run is left out: .*damaged"):
        assert [row["config"]["seed"] for row in store.rows()] == [1]
    with pytest.warns(UserWarning, match="left out"):
        assert list(ls.runs(store.folder)["seed"]) == [1]
    (said,) = store.set_aside()
    aside = store.folder / "damaged" / f"{config().address}-0"
    assert said.endswith(f"its run was moved to {aside}")
    assert (aside / place).exists()
    assert not store.path(config()).exists()
    assert store.set_aside() == []
    store.write(config(), outcome())
    assert store.row(config())["measured"] == {}


def test_runs_that_are_damaged_twice_are_both_kept(store) -> None:
    for number in (0, 1):
        store.write(config(), outcome())
        cut(result(store, config()))
        assert len(store.set_aside()) == 1
        assert (store.folder / "damaged" / f"{config().address}-{number}").is_dir()


def test_a_measurement_of_a_run_that_is_not_finished_is_examined_too(store) -> None:
    one = config(seed=7)
    store.write_measured(one, "trace-00000000", {"value": 2.0})
    assert (store.unfinished(), store.set_aside()) == ([one.address], [])
    alter(store.path(one) / "measured" / "trace-00000000.json")
    assert one.address in store.set_aside()[0]
    assert store.unfinished() == []


@pytest.mark.parametrize("place", ["", "measured"])
def test_a_file_in_place_of_a_folder_is_set_aside(store, place) -> None:
    one, there = config(seed=5), store.addresses()
    path = store.path(one) / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("no folder")
    (said,) = store.set_aside()
    assert "got a file there" in said
    assert "damaged" in said
    assert store.unfinished() == store.set_aside() == []
    store.write(one, outcome())
    assert store.addresses() == sorted([one.address, *there])


def test_what_a_file_manager_leaves_among_the_runs_is_none(store) -> None:
    there = store.addresses()
    (store.folder / "runs" / ".DS_Store").write_bytes(b"x")
    (store.folder / "runs" / "my notes").mkdir()
    assert store.addresses() == there
    assert store.unfinished() == store.set_aside() == []


def test_a_run_in_the_folder_of_another_is_damaged(store) -> None:
    other = result(store, config(seed=2))
    other.parent.mkdir()
    other.write_bytes(result(store, config(seed=1)).read_bytes())
    assert config(seed=1).address in the_sentence(lambda: store.row(config(seed=2)))
    assert len(store.set_aside()) == 1
    assert config(seed=1) in store


def test_half_a_file_of_a_process_that_was_killed_is_no_measurement(store) -> None:
    (store.path(config()) / "measured" / ".trace-1.json.abcd1234").write_text("{")
    (store.path(config()) / "measured" / "trace-1.before").write_text("{}")
    assert list(store.row(config())["measured"]) == ["trace-00000000"]


def test_a_measurement_of_which_a_part_is_made_neither_damages_nor_sets_aside_a_run(store) -> None:
    for one in (config(), config(seed=9)):  # finished, and under way
        folder = store.begin(one).joinpath("measured")
        folder.mkdir(exist_ok=True)
        (folder / ".sharpness-1.before.json").write_text('{"sharpness": 1.0}')
    assert config() in store
    assert list(store.row(config())["measured"]) == ["trace-00000000"]
    assert store.set_aside() == []
    assert store.unfinished() == [config(seed=9).address]


def forged(store: ls.RunStore, one: ls.RunConfig, **changes: object) -> None:
    """Write a whole row whose configuration is another's."""
    row = json.loads(result(store, one).read_text())
    row["config"] |= changes
    body = json.dumps({k: v for k, v in row.items() if k != "sha256"}, separators=(",", ":"))[:-1]
    digest = hashlib.sha256(body.encode()).hexdigest()
    result(store, one).write_text(f'{body},"sha256":"{digest}"}}\n')


def test_an_address_that_holds_another_configuration_is_refused_by_name(store) -> None:
    forged(store, config(), lr=0.2)
    for ask in (lambda: store.row(config()), lambda: config() in store):
        assert "lr 0.2 instead of 0.1" in the_sentence(ask)
    said = the_sentence(lambda: store.write(config(), outcome()))
    assert "another configuration" in said
    (store.path(config(seed=1)) / "config.json").write_text('{"seed": 1, "ratio": 0.001, "lr": 1}')
    assert "lr 1 instead of 0.1" in the_sentence(lambda: store.begin(config(seed=1)))


def test_a_run_of_an_older_version_is_read_and_what_it_lacks_is_the_default(store) -> None:
    row = json.loads(result(store, config()).read_text())
    kept = {k: v for k, v in row["config"].items() if k not in ("schedule", "mask_seed")}
    row["config"] = kept
    body = json.dumps({k: v for k, v in row.items() if k != "sha256"}, separators=(",", ":"))[:-1]
    digest = hashlib.sha256(body.encode()).hexdigest()
    result(store, config()).write_text(f'{body},"sha256":"{digest}"}}\n')
    assert config() in store
    assert store.row(config())["config"] == config().as_dict()


def test_a_run_of_a_newer_version_is_refused_by_name_and_not_set_aside(store) -> None:
    forged(store, config(), precision="half")
    said = the_sentence(lambda: store.at(config().address))
    assert "got precision, as a newer version" in said
    with pytest.warns(UserWarning, match="precision"):
        assert len(list(store.rows())) == 1
    assert store.set_aside() == []


def test_a_store_of_a_newer_format_is_refused_by_name(store) -> None:
    (store.folder / "store.json").write_text('{"format": 2}')
    said = the_sentence(lambda: ls.RunStore(store.folder))
    assert "format 1" in said
    assert "got 2" in said


def test_a_folder_that_holds_something_else_is_no_store_and_stays(tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert "no store" in the_sentence(ls.RunStore(tmp_path).create)
    assert "the file" in the_sentence(lambda: ls.RunStore(tmp_path / "thesis.tex"))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_is_full_or_read_only_is_a_sentence_and_leaves_nothing_half_written(
    store, monkeypatch, number
) -> None:
    before = {p: p.read_bytes() for p in store.folder.rglob("*") if p.is_file()}

    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    where = (os, "replace") if number == errno.ENOSPC else (tempfile, "mkstemp")
    monkeypatch.setattr(*where, fails)
    acts = [
        lambda: store.write(config(seed=9), outcome()),
        lambda: store.write_measured(config(), "sharpness-1", {"value": 1}),
        lambda: store.begin(config(seed=8)),
        ls.RunStore(store.folder / "below").create,
    ]
    do = {errno.ENOSPC: "free some space", errno.EACCES: "one that you may use"}.get(
        number, "a folder that can be written"
    )
    for act in acts:
        said = the_sentence(act)
        assert os.strerror(number) in said
        assert do in said
    assert {p: p.read_bytes() for p in store.folder.rglob("*") if p.is_file()} == before
    assert len(list(store.rows())) == 2


def test_a_store_is_read_where_nothing_can_be_written(store, monkeypatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files.tempfile, "mkstemp", fails)
    monkeypatch.setattr(os, "replace", fails)
    assert len(ls.runs(store.folder)) == 2


def test_a_second_sweep_on_a_folder_is_refused_with_who_is_there_and_since_when(store) -> None:
    with store.locked():
        said = the_sentence(lambda: ls.RunStore(store.folder).locked().__enter__())
        assert f"process {os.getpid()} on " in said
        assert "since 20" in said
    with store.locked():
        assert len(list(store.rows())) == 2


_HOLDER = """
import sys, time
import landscape as ls
with ls.RunStore(sys.argv[1]).locked():
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_no_lock(store) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(store.folder)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    said = the_sentence(lambda: store.locked().__enter__())
    assert f"process {holder.pid} on " in said
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert str(holder.pid) in (store.folder / "store.lock").read_text()
    with store.locked():
        assert f'"process": {os.getpid()}' in (store.folder / "store.lock").read_text()


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(store, monkeypatch) -> None:
    """Else two processes would each hold a file of that name."""
    path, taken = store.folder / "store.lock", fcntl.flock

    def remove_first(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", taken)
        path.unlink()
        taken(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with store.locked(), pytest.raises(UserError, match="got one"):
        store.locked().__enter__()


def test_a_file_system_without_locks_is_refused(store, monkeypatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    assert "with locks" in the_sentence(lambda: store.locked().__enter__())


@pytest.mark.parametrize("key", ["../result", "a/b", ".hidden", ""])
def test_a_measurement_stays_in_its_folder(store, key) -> None:
    assert "key" in the_sentence(lambda: store.write_measured(config(), key, {"value": 1}))
    assert sorted(p.name for p in store.path(config()).iterdir()) == [
        "config.json", "measured", "result.json"
    ]  # fmt: skip


@pytest.mark.parametrize("address", ["../runs/x", "/etc", "", "..", "ABC"])
def test_an_address_is_no_path(store, address) -> None:
    assert "hexadecimal" in the_sentence(lambda: store.at(address))


def test_reading_warns_of_nothing_where_all_is_whole(tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(filled(tmp_path).rows())) == 6
