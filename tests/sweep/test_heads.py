"""Heads of a sweep's models: fitted or drawn from their own seed, whatever ran before."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import model_folder
from tiny_jobs import Tiny

import landscape as ls
from landscape.sweep.config import RunConfig
from landscape.sweep.executors import Job, Places
from landscape.sweep.preparing import load_base
from landscape.sweep.running import run_job
from landscape.sweep.store import RunStore


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny.at(tmp_path_factory.mktemp("tiny"))


def test_a_fitted_head_is_that_of_fit_head_and_stays(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny.config("bert", seed=1)
    found = run_job(Job(config), RunStore(tmp_path), tiny.places)["outcome"]
    task = ls.load_task(
        "sst2", source=tiny.places.sources["sst2"], num_train=16, num_dev=6, num_test=8, seed=1
    )
    model, tokenizer = ls.load_model(config.model, num_labels=2)
    ls.fit_head(model, ls.make_batches(task.train, tokenizer, 32, sort=True))
    ls.attach(model, ls.random_mask(model, ratio=1e-2, targets="auto", seed=1))
    run = ls.finetune(model, tokenizer, task, lr=1e-2, epochs=1, batch_size=4, seed=1)
    assert found["test"] == run.metrics["test"]
    assert found["train_loss"] == [float(f"{h['loss']:.5g}") for h in run.history]


def test_a_fitted_head_is_that_of_its_own_seed_whatever_ran_before(tiny: Tiny) -> None:
    heads = [
        load_base(tiny.config("bert", seed=seed), tiny.places).model.get_parameter(
            "classifier.weight").detach().clone()
        for seed in (7, 8, 7)
    ]  # fmt: skip
    assert torch.equal(heads[0], heads[2])
    assert not torch.equal(heads[0], heads[1])


def test_a_drawn_head_is_that_of_its_seed_though_another_was_fitted_before(tiny: Tiny) -> None:
    drawn = [
        load_base(tiny.config("bert", head=head, seed=0), tiny.places).model.get_parameter(
            "classifier.weight").detach().clone()
        for head in ("random", "fitted", "random", "trained")
    ]  # fmt: skip
    assert torch.equal(drawn[0], drawn[2])
    assert torch.equal(drawn[0], drawn[3])
    assert not torch.equal(drawn[0], drawn[1])


def test_a_trained_head_is_trained_beside_the_mask_and_counted(tiny: Tiny, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    values: dict[str, Any] = {"model": "bert", "method": "random", "count": 40,
                              "options": {"sampling": "exact"}}  # fmt: skip
    fixed, trained = (
        run_job(tiny.job(head=head, **values), store, tiny.places)["outcome"]
        for head in ("random", "trained")
    )
    assert (fixed["count"], trained["count"]) == (40, 40 + 2 * 32 + 2)


def _digits(folder: Path) -> Path:
    """Write noisy images of two digits, told apart by their brightness, in MNIST's own format."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for split, count in (("train", 40), ("t10k", 12)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = (20 * labels[:, None, None] + draw.integers(0, 40, (count, 28, 28))).astype("u1")
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (folder / f"{split}-{name}-ubyte").write_bytes(head + array.tobytes())
    return folder


def test_images_are_classified_by_a_fitted_head(tmp_path: Path) -> None:
    places = Places({"mnist": str(_digits(tmp_path / "mnist"))})
    config = RunConfig(
        model=str(model_folder(tmp_path / "vit", "vit")), task="mnist", num_train=24, num_dev=10,
        num_test=12, epochs=1, ratio=1e-2, lr=1e-2,
    )  # fmt: skip
    row = run_job(Job(config, {"sharpness": {"examples": 2}}), RunStore(tmp_path / "s"), places)
    found = row["outcome"]
    assert found["correct"].count("1") / 12 == found["test"]["accuracy"] > 0.1
    assert 0 < found["ratio"] < 2e-2
    assert len(row["measured"]) == 1
