"""Selections that cannot be are refused in a sentence, and leave the model alone."""

from __future__ import annotations

import pytest
import torch
from samples import uneven_examples

import landscape as ls
from landscape.errors import UserError
from landscape.tasks.batches import make_batches


def text(size: int, examples: list[ls.Example] | None = None, loss="classification"):
    return make_batches(examples or uneven_examples(), ls.tiny_tokenizer(), size, loss=loss)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"score": "luck"}, "a score among magnitude"),
        ({"score": "gradient", "batches": None}, "expected the data of the score gradient"),
        ({"score": "id3"}, "eps and exp for the score id3, which has no default"),
        ({"score": "id3", "eps": 0.0, "exp": 1.0}, "eps above 0"),
        ({"score": "magnitude", "eps": 1.0}, "options of the score magnitude, none, got eps"),
        ({"score": "fisher", "information": "given"}, "'empirical' or 'true'"),
        ({"score": "fisher", "power": 3}, "power=1 or 2"),
        ({"score": "magnitude", "scope": "layer"}, "scope to be one of tensor, global"),
        ({"score": "magnitude", "granularity": "bits"}, "a granularity among"),
        ({"score": "magnitude", "granularity": "5:4"}, "1 <= n <= m"),
        ({"score": "magnitude", "granularity": "2:4"}, "no budget beside the pattern 2:4"),
        ({"score": "magnitude", "granularity": "columns", "targets": "*norm*"}, "expected matr"),
        ({"score": "magnitude", "granularity": "heads", "targets": "lm_head"}, "whole number"),
        (
            {"score": "magnitude", "granularity": "blocks", "block": (0, 4)},
            "height of block to be a whole number of at least 1",
        ),
        ({"score": "wanda", "targets": "*embed_tokens"}, "linear layers"),
        ({"score": "magnitude", "count": 0}, "at least 1"),
        ({"score": "magnitude", "targets": "*.nothing"}, "matches none"),
    ],
)
def test_mistakes_are_refused_with_a_sentence(change, sentence) -> None:
    model = ls.tiny_model("llama", vocab_size=len(ls.tiny_tokenizer()))
    with pytest.raises(UserError, match=sentence):
        ls.select_mask(model, **({"count": 9, "batches": text(3)} | change))


def test_scores_that_are_not_finite_are_refused_and_the_model_is_left_alone() -> None:
    model = ls.tiny_model("llama", vocab_size=len(ls.tiny_tokenizer()))
    names = {n: set(vars(m)) for n, m in model.named_modules()}

    def broken(model, batch):
        total, count = ls.task_loss(model, batch)
        return total * float("nan"), count

    with pytest.raises(UserError, match="expected finite scores"):
        ls.select_mask(model, score="gradient", batches=text(7), loss=broken, count=5)
    assert {n: set(vars(m)) for n, m in model.named_modules()} == names


def test_the_true_fisher_needs_labels_to_expect_over() -> None:
    model = ls.tiny_model("llama", vocab_size=len(ls.tiny_tokenizer()))
    batches = text(3, loss="language modelling")
    with pytest.raises(UserError, match="finite set of labels"):
        ls.select_mask(model, score="fisher", information="true", batches=batches, count=5)
    with pytest.raises(UserError, match="batches with 'labels', one an example"):
        ls.select_mask(model, score="fisher", batches=[{"input_ids": torch.ones(1, 2)}], count=5)


def test_an_attached_model_is_refused() -> None:
    model = ls.tiny_model("llama", vocab_size=len(ls.tiny_tokenizer()))
    ls.attach(model, ls.random_mask(model, density=0.1))
    with pytest.raises(UserError, match="detach"):
        ls.select_mask(model, score="gradient", batches=text(7), count=5)
