"""What another machine does with a job: computed in a folder of its own, returned as files."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_jobs import Tiny, lasting

from landscape.errors import UserError
from landscape.sweep.executors import Job, Places, cluster, remote
from landscape.sweep.executors import ray as on_ray
from landscape.sweep.executors.parcel import pack, unpack
from landscape.sweep.executors.remote import Reply, compute_order, order_of, versions
from landscape.sweep.measurements import Measurement, Point
from landscape.sweep.running import run_job
from landscape.sweep.store import RunStore
from landscape.training import pace


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny.at(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def threads() -> Any:
    """Give the tests after this one their threads back."""
    kept = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(kept)


def order(job: Job, tiny: Tiny, folder: Path) -> dict[str, Any]:
    """Return an order as it arrives: through JSON."""
    made = order_of(job, tiny.places, RunStore(folder / "store"), str(folder / "scratch"))
    return json.loads(json.dumps(made))


def quiet(step: int, total: int) -> None:
    """Hear of a step."""


def test_a_job_that_travels_has_the_row_of_one_that_stays(tiny: Tiny, tmp_path: Path) -> None:
    job = tiny.job({"trace": {"max_matvecs": 6, "examples": 4}}, targets=("*.q_proj",))
    steps: list[tuple[int, int]] = []
    reply = compute_order(order(job, tiny, tmp_path), {}, lambda *step: steps.append(step))
    unpack(reply.files, job.config, RunStore(tmp_path / "store"))
    stays = run_job(job, RunStore(tmp_path / "here"), tiny.places)
    assert lasting(RunStore(tmp_path / "store").row(job.config)) == lasting(stays)
    assert steps == [(0, 0), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert not [p for p in (tmp_path / "scratch").rglob("*") if job.config.address in str(p)]


def test_a_job_that_was_stopped_goes_on_in_the_same_folder(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "APART", 0.0)
    job = tiny.job(epochs=4)
    sent = order(job, tiny, tmp_path)

    def stop(step: int, total: int) -> None:
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_order(sent, {}, stop)
    steps: list[int] = []
    reply = compute_order(sent, {}, lambda step, total: steps.append(step))
    assert steps[:2] == [0, 8]
    unpack(reply.files, job.config, RunStore(tmp_path / "store"))
    stays = run_job(job, RunStore(tmp_path / "here"), tiny.places)
    assert lasting(RunStore(tmp_path / "store").row(job.config)) == lasting(stays)


def test_sweeps_of_two_stores_or_of_other_sources_share_no_folder(
    tiny: Tiny, tmp_path: Path
) -> None:
    job, one, two = tiny.job(), RunStore(tmp_path / "one"), RunStore(tmp_path / "two")
    other = Places({"sst2": str(tmp_path)})
    places = [(tiny.places, one), (tiny.places, two), (other, one)]
    assert len({order_of(job, p, store, None)["sweep"] for p, store in places}) == 3


def test_a_finished_run_that_is_sent_is_measured_and_not_trained(
    tiny: Tiny, tmp_path: Path
) -> None:
    store, job = RunStore(tmp_path / "store"), tiny.job({"trace": {"max_matvecs": 6}})
    run_job(Job(job.config), store, tiny.places)
    files, steps = pack(store.path(job.config)), list[int]()
    reply = compute_order(order(job, tiny, tmp_path), files, lambda step, _: steps.append(step))
    assert steps == [0]
    assert {name: reply.files[name] for name in files} == files
    assert len(reply.files.keys() - files.keys()) == 1


def test_a_users_mistake_comes_back_as_its_sentence(tiny: Tiny, tmp_path: Path) -> None:
    reply = compute_order(order(tiny.job(method="ramdom"), tiny, tmp_path), {}, quiet)
    assert reply.files == {}
    assert "ramdom" in reply.failed


def test_a_row_whose_measurement_fails_comes_back_with_the_sentence(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(point: Point) -> dict[str, Any]:
        raise UserError("expected a flat loss, got a steep one; look elsewhere")

    odd = SimpleNamespace(ODD=Measurement("fails", after=fail))
    monkeypatch.setitem(sys.modules, "odd", odd)
    reply = compute_order(order(tiny.job({"odd:ODD": {}}), tiny, tmp_path), {}, quiet)
    assert reply.failed == "expected a flat loss, got a steep one; look elsewhere"
    assert "result.json" in reply.files


def test_a_machine_with_other_versions_computes_nothing(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = order(tiny.job(), tiny, tmp_path)
    monkeypatch.setattr(remote, "versions", lambda: versions() | {"torch": "9.0"})
    reply = compute_order(sent, {}, quiet)
    assert reply.refused is not None
    assert not (tmp_path / "scratch").exists()
    monkeypatch.undo()
    said = on_ray._differing(Reply("node7", {}, refused=reply.refused))
    assert f"on node7, got torch 9.0 instead of {versions()['torch']}; install" in said


def test_versions_tell_two_sources_of_one_version_apart() -> None:
    assert versions()["landscape"].startswith("0.")
    assert versions()["torch"] == torch.__version__.partition("+")[0]
    assert len(versions()["landscape"].partition("(")[2]) == 9


def test_a_scratch_folder_that_others_can_write_is_refused(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = remote._scratch(None)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    sent = order(tiny.job(), tiny, tmp_path) | {"scratch": None}
    assert "expected a folder of this user's alone" in compute_order(sent, {}, quiet).failed
    folder.rmdir()
    folder.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    with pytest.raises(UserError, match="expected a folder of this user's alone"):
        remote._scratch(None)


def test_ray_that_is_not_installed_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"expected the optional package ray, .*pip install ray"):
        on_ray.ray()


@pytest.mark.parametrize(
    "address", ["127.0.0.9:1", "ray://127.0.0.9:1", "nowhere.invalid:6379", "127.0.0.9", "a:b", ""]
)
def test_an_address_where_nobody_listens_is_refused_at_once(address: str) -> None:
    with pytest.raises(UserError, match=rf"expected a Ray cluster at {address}, got: .*ray start"):
        cluster._reach(address)
