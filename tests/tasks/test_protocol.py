"""The settings of the papers' own code, typed by hand from their scripts."""

from __future__ import annotations

import pytest
from samples import tiny_task

import landscape as ls
from landscape.errors import UserError
from landscape.training.settings import Settings


def test_paper_1_trains_five_epochs_of_eight_examples_and_keeps_the_lowest_loss() -> None:
    wanted = {"epochs": 5, "batch_size": 8, "select_by": "loss"}
    assert ls.reference_settings("sst2") == wanted


def test_every_reference_setting_is_one_that_finetune_takes() -> None:
    for paper in ("random masking", "id3"):
        Settings.of({"lr": 1.0, **ls.reference_settings("sst2", paper)})
    model, tokenizer = ls.tiny_model("opt"), ls.tiny_tokenizer()
    ls.attach(model, ls.random_mask(model, count=9))
    settings = ls.reference_settings("sst2") | {"epochs": 1}
    run = ls.finetune(model, tokenizer, tiny_task(24), lr=1e-2, test=False, **settings)
    assert len(run.history) == 3


def test_paper_2_trains_sst2_seven_epochs_and_evaluates_every_500_steps() -> None:
    wanted = {
        "epochs": 7, "evaluate_every": 500, "max_length": 256, "batch_size": 16,
        "select_by": "metric",
    }  # fmt: skip
    assert ls.reference_settings("sst2", "id3") == wanted


def test_a_task_or_paper_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UserError, match="name to be one of sst2"):
        ls.reference_settings("imdb")
    with pytest.raises(UserError, match="paper to be one of random masking, id3"):
        ls.reference_settings("sst2", "lora")  # type: ignore[arg-type]
