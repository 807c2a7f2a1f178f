"""Parcels: a run's files as bytes, which enter a store whole and checked, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_jobs import Tiny

from landscape.errors import UserError
from landscape.sweep.config import RunConfig
from landscape.sweep.executors.parcel import Parcel, clear, pack, unpack
from landscape.sweep.rows import Row
from landscape.sweep.running import run_job
from landscape.sweep.store import RunStore


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny.at(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def sent(tiny: Tiny) -> tuple[RunConfig, Parcel]:
    """Compute a run with a measurement, and pack it."""
    job, store = tiny.job({"trace": {"max_matvecs": 6, "examples": 4}}), RunStore(tiny.folder / "a")
    run_job(job, store, tiny.places)
    return job.config, pack(store.path(job.config))


def files(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder that hold anything, by path."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.stat().st_size
    }


def test_a_run_arrives_as_it_was_to_the_byte(tiny: Tiny, sent: Any, tmp_path: Path) -> None:
    config, parcel = sent
    unpack(parcel, config, RunStore(tmp_path))
    there, here = tiny.folder / "a" / "runs", tmp_path / "runs"
    assert files(here) == files(there)
    assert {p.name for p in tmp_path.iterdir()} == {"store.json", "runs"}


def test_checkpoints_locks_and_drafts_stay_where_they_are(tmp_path: Path) -> None:
    for name in ("training/checkpoint.safetensors", ".lock", "measured/.x.json.abcdefgh",
                 "measured/x-00000000.before", "picture.png", "result.json"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert list(pack(tmp_path)) == ["result.json"]


@pytest.mark.parametrize(
    "name",
    ["../result.json", "/etc/cron.json", "measured/../../x.json", "training/.lock", "run.sh",
     "a\\..\\b.json", "a/b/c/d/e/f.json", "x.json\n", ".hidden/x.json", ""],
)  # fmt: skip
def test_a_path_that_no_run_has_is_refused_before_anything_is_written(
    sent: Any, tmp_path: Path, name: str
) -> None:
    config, parcel = sent
    with pytest.raises(UserError, match="JSON and safetensors below its folder, got"):
        unpack({**parcel, name: b"{}"}, config, RunStore(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def altered(parcel: Parcel, name: str) -> bytes:
    """Return a file with a bit of its last quarter turned over."""
    content = bytearray(parcel[name])
    content[-len(content) // 4] ^= 1
    return bytes(content)


def test_a_file_that_was_altered_on_its_way_is_refused_and_nothing_kept(
    sent: Any, tmp_path: Path
) -> None:
    config, parcel = sent
    sealed = [n for n in parcel if n == "result.json" or n.startswith("measured/")]
    refused = "as it was written|not a whole|could not read one"  # by what the bit was of
    for name in (*sealed, "training/theta.safetensors"):
        with pytest.raises(UserError, match=refused):
            unpack({**parcel, name: altered(parcel, name)}, config, RunStore(tmp_path))
        with pytest.raises(UserError):
            unpack({**parcel, name: parcel[name][:-9]}, config, RunStore(tmp_path))
    assert list(files(tmp_path)) == ["store.json"]


def test_the_files_of_another_run_are_refused(sent: Any, tmp_path: Path) -> None:
    config, parcel = sent
    other = config.replace(seed=1)
    with pytest.raises(UserError, match="got another configuration there"):
        unpack(parcel, other, RunStore(tmp_path))
    own = json.dumps(other.as_dict()).encode()
    with pytest.raises(UserError, match=rf"expected the run {other.address} in"):
        unpack({**parcel, "config.json": own}, other, RunStore(tmp_path))
    with pytest.raises(UserError, match="expected a finished run"):
        unpack({n: c for n, c in parcel.items() if n != "result.json"}, config, RunStore(tmp_path))
    assert list(files(tmp_path)) == ["store.json"]


def test_a_finished_run_keeps_its_row_and_gains_a_measurement(
    tiny: Tiny, sent: Any, tmp_path: Path
) -> None:
    config, parcel = sent
    store = RunStore(tmp_path)
    run_job(tiny.job(), store, tiny.places)
    before = files(store.path(config))
    unpack(parcel, config, store)
    gained = files(store.path(config))
    assert {name: gained[name] for name in before} == before
    assert gained.keys() - before.keys() == {n for n in parcel if n.startswith("measured/")}


def test_a_row_that_is_refused_leaves_nothing(sent: Any, tmp_path: Path) -> None:
    config, parcel = sent
    asked = []

    def refuse(row: Row) -> None:
        asked.append(row["address"])
        raise UserError("expected another, got this; keep it")

    store = RunStore(tmp_path / "store")
    with pytest.raises(UserError, match="expected another"):
        unpack(parcel, config, store, refuse)
    assert store.addresses() == store.unfinished() == []
    unpack(parcel, config, store)
    unpack(parcel, config, store, refuse)  # its row is the store's own, measurements join it
    assert asked == [config.address]


def test_what_an_unfinished_run_has_left_makes_room(sent: Any, tmp_path: Path) -> None:
    config, parcel = sent
    store = RunStore(tmp_path)
    (store.begin(config) / "training").mkdir()
    (store.path(config) / "training" / "checkpoint.safetensors").write_bytes(b"half")
    unpack(parcel, config, store)
    assert files(store.path(config)).keys() == parcel.keys()
    assert config in store


def test_what_a_killed_process_has_left_half_unpacked_is_cleared(sent: Any, tmp_path: Path) -> None:
    config, parcel = sent
    store = RunStore(tmp_path)
    unpack(parcel, config, store)
    (tmp_path / ".arriving-abcdefgh" / "runs").mkdir(parents=True)
    clear(store)
    assert {p.name for p in tmp_path.iterdir()} == {"store.json", "runs"}
