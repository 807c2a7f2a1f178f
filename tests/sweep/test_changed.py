"""Inputs that changed between two sweeps on one store: refused by name, before any run."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from formula_runs import outcome
from samples import model_folder
from tiny_jobs import Tiny

import landscape as ls
from landscape.sweep import changed as module
from landscape.sweep.changed import refuse_changed
from landscape.sweep.executors import Job
from landscape.sweep.preparing import files_of
from landscape.sweep.rows import Row


def swept(tiny: Tiny, store: Path, executor: str = "local", **axes) -> None:
    shared = tiny.config().named()
    for name in axes:
        shared.pop(name, None)
    ls.run_grid(
        {"shared": shared, "axes": axes}, store, executor=executor, sources=tiny.places.sources,
        progress=False,
    )  # fmt: skip


def edit(tiny: Tiny, name: str) -> None:
    """Change a label of the task, in both of its files."""
    path = tiny.folder / "SST-2" / name
    lines = path.read_text(encoding="utf-8").splitlines()
    text, label = lines[1].rsplit("\t", 1)
    lines[1] = f"{text}\t{1 - int(label)}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def tiny(tmp_path) -> Tiny:
    return Tiny.at(tmp_path)


@pytest.mark.parametrize("executor", ["local", "packed"])
def test_a_task_whose_file_changed_is_refused_and_nothing_is_computed(
    executor, tiny, tmp_path
) -> None:
    store = tmp_path / "store"
    swept(tiny, store, lr=[1e-2, 1e-3], seed=[0])
    edit(tiny, "dev.tsv")
    expected = (
        r"expected the files of sst2 that 2 finished runs of the store \(\w+ first\) had, got "
        r"others: new runs would be mixed with old ones under the same names; put the old files "
        r"back, or name another store"
    )
    with pytest.raises(ls.UserError, match=expected):
        swept(tiny, store, executor, lr=[1e-2, 1e-3, 1e-4], seed=[0])
    assert len(list((store / "runs").glob("*"))) == 2
    edit(tiny, "dev.tsv")  # put back
    swept(tiny, store, executor, lr=[1e-2, 1e-3, 1e-4], seed=[0])
    assert len(list((store / "runs").glob("*/result.json"))) == 3


def test_a_file_counts_whichever_examples_a_seed_draws(tiny, tmp_path) -> None:
    swept(tiny, tmp_path / "store", seed=[0])
    edit(tiny, "dev.tsv")
    with pytest.raises(ls.UserError, match="that 1 finished run of the store "):
        swept(tiny, tmp_path / "store", seed=[1])


def test_finished_runs_are_read_whatever_lies_there_now(tiny, tmp_path) -> None:
    swept(tiny, tmp_path / "store", seed=[0])
    shutil.rmtree(tiny.folder / "opt")
    edit(tiny, "dev.tsv")
    swept(tiny, tmp_path / "store", seed=[0])


def test_a_model_folder_with_other_weights_is_refused_by_name(tiny, tmp_path) -> None:
    swept(tiny, tmp_path / "store", seed=[0])
    weights = tiny.folder / "opt" / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(ls.UserError, match=r"the model in .*opt as 1 finished run .* other files"):
        swept(tiny, tmp_path / "store", seed=[0, 1])


@pytest.mark.parametrize(("ran", "now"), [("a", "b"), ("a", "a"), ("a", None), (None, "b")])
def test_a_model_whose_revision_on_the_hub_moved_is_refused_where_both_are_known(
    tiny, tmp_path, monkeypatch, ran, now
) -> None:
    monkeypatch.setattr(module, "configuration_of", lambda name: SimpleNamespace(_commit_hash=now))
    store, job = ls.RunStore(tmp_path / "store"), Job(tiny.config().replace(model="org/model"))
    for seed, revision in ((7, ran), (8, now)):
        one = job.config.replace(seed=seed)
        store.write(one, outcome(one) | {"identity": {"revisions": revision}}, provenance={})
    if (ran, now) == ("a", "b"):
        with pytest.raises(ls.UserError, match=r"model org/model of the revision a .* 1 fini.* b:"):
            refuse_changed([job], store, tiny.places)
    else:
        refuse_changed([job], store, tiny.places)


def test_both_are_said_at_once_and_another_model_is_no_matter(tiny, tmp_path) -> None:
    swept(tiny, tmp_path / "store", seed=[0])
    swept(tiny, tmp_path / "store", model=[str(tiny.folder / "bert")], seed=[0])
    (tiny.folder / "bert" / "config.json").write_text("{}")
    store, job = ls.RunStore(tmp_path / "store"), tiny.job(seed=1)
    refuse_changed([job], store, tiny.places)
    (tiny.folder / "opt" / "vocab.json").write_text("{}")
    edit(tiny, "train.tsv")
    with pytest.raises(ls.UserError, match=r"other files; also expected the files"):
        refuse_changed([job], store, tiny.places)


def test_what_is_not_loaded_from_a_models_folder_does_not_count(tmp_path) -> None:
    folder = model_folder(tmp_path / "opt")
    before = files_of(str(folder))
    (folder / "README.md").write_text("A model.")
    (folder / "trainer_state.json").write_text("{}")
    (folder / "checkpoints").mkdir()
    (folder / "training_args.bin").write_bytes(b"0")
    assert files_of(str(folder)) == before
    hashes = {before}
    for name in ("pytorch_model.bin", "tokenizer.json", "config.json", "chat_template.jinja"):
        (folder / name).write_text("{ }")
        hashes.add(files_of(str(folder)))
    assert len(hashes) == 5
    assert files_of("minilm-l6") is None


def without(row: Row, *names: str) -> Row:
    outcome = row["outcome"]
    identity = {k: v for k, v in outcome["identity"].items() if k not in names}
    return outcome | {"identity": identity}


def test_rows_that_name_no_files_are_compared_by_their_examples(tiny, tmp_path) -> None:
    swept(tiny, tmp_path / "full", seed=[0])
    (row,) = ls.RunStore(tmp_path / "full").rows()
    config, jobs = tiny.config(seed=0), [tiny.job(seed=0, lr=0.5), tiny.job(seed=1)]
    store = ls.RunStore(tmp_path / "store")
    store.write(config, without(row, "task files", "model files"))
    refuse_changed(jobs, store, tiny.places)
    path = tiny.folder / "SST-2" / "train.tsv"
    path.write_text(path.read_text(encoding="utf-8").replace("fine", "good"), encoding="utf-8")
    with pytest.raises(ls.UserError, match="the files of sst2 that 1 finished run of the store"):
        refuse_changed(jobs, store, tiny.places)
    with pytest.raises(ls.UserError, match="the files of sst2"):
        refuse_changed(jobs[1:], store, tiny.places)  # the finished run's own drawing is made
    blank = ls.RunStore(tmp_path / "blank")
    blank.write(config, {k: v for k, v in row["outcome"].items() if k != "identity"})
    refuse_changed(jobs, blank, tiny.places)


def test_the_same_rows_in_files_of_other_names_are_no_change(tiny, tmp_path) -> None:
    """So of a hub's task, which says no files, and of one that lies in shards."""
    swept(tiny, tmp_path / "full", seed=[0])
    (row,) = ls.RunStore(tmp_path / "full").rows()
    told = {"train.parquet": "0", "dev.parquet": "1"}
    identity = row["outcome"]["identity"] | {"task files": told}
    store = ls.RunStore(tmp_path / "store")
    store.write(tiny.config(seed=0), row["outcome"] | {"identity": identity})
    refuse_changed([tiny.job(seed=1)], store, tiny.places)
    for name in ("dev.tsv", "train.tsv"):
        path = tiny.folder / "SST-2" / name
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join(lines[:6]) + "\n", encoding="utf-8")
    few = tiny.job(seed=1, num_train=2, num_dev=1, num_test=2)
    with pytest.raises(ls.UserError, match="the files of sst2"):
        refuse_changed([few], store, tiny.places)  # the finished run's examples are no longer there


def test_a_damaged_run_is_none_to_compare_with(tiny, tmp_path) -> None:
    swept(tiny, tmp_path / "store", seed=[0])
    (result,) = (tmp_path / "store").glob("runs/*/result.json")
    result.write_text("{")
    refuse_changed([tiny.job(seed=1)], ls.RunStore(tmp_path / "store"), tiny.places)
