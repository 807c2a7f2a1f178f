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


def test_paper_1_makes_a_batch_of_eight_of_smaller_ones_where_texts_are_long() -> None:
    for name, size in {"cb": 4, "multirc": 2, "record": 1, "drop": 1}.items():
        settings = ls.reference_settings(name)
        assert (settings["batch_size"], settings["accumulate"]) == (size, 8 // size)
        assert settings["loss_average"] == "batches"
    assert "accumulate" not in ls.reference_settings("copa")


def test_paper_1_trains_images_in_batches_of_128_with_a_cosine_after_200_steps() -> None:
    wanted = {"batch_size": 128, "weight_decay": 0.1, "lr_schedule": "cosine", "warmup": 200}
    assert ls.reference_settings("gtsrb") == wanted


def test_a_task_that_a_paper_does_not_use_is_refused() -> None:
    with pytest.raises(UserError, match="a task of Xu & Zhang 2024"):
        ls.reference_settings("cola")
    with pytest.raises(UserError, match=r"a task of Agarwal et al\. 2024"):
        ls.reference_settings("cb", "id3")


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


def test_both_halves_of_mnli_are_trained_alike_and_digits_of_no_paper_are_told_so() -> None:
    assert ls.reference_settings("mnli_mm", "id3") == ls.reference_settings("mnli", "id3")
    with pytest.raises(UserError, match="no paper uses it"):
        ls.reference_settings("mnist5k")
    with pytest.raises(UserError, match='give paper="id3"'):
        ls.reference_settings("cola")
