"""Completions: what is trained on, what is cut, what is judged."""

from __future__ import annotations

import warnings

import pytest
import torch

import landscape as ls
from landscape.tasks import Completion
from landscape.tasks.evaluation import evaluate
from landscape.tasks.forms.completions import COMPLETIONS
from landscape.tasks.forms.form import Encoding
from landscape.training.baselines import full


@pytest.fixture(scope="module")
def tokenizer():
    return ls.tiny_tokenizer()


def answered(prompt: str, *answers: str, written: str = "") -> Completion:
    return Completion(prompt, answers, written)


def toy(examples, **more) -> ls.Task:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ls.Task("toy", examples, examples[:1], examples, metric="token_f1", **more)


def test_a_diverged_model_answers_nothing(tokenizer) -> None:
    model = ls.tiny_model("opt")
    with torch.no_grad():
        model.model.decoder.final_layer_norm.bias.fill_(float("nan"))
    result = evaluate(model, tokenizer, toy((answered("Who?", ""), answered("When?", "", "x"))))
    assert result["token_f1"] == 0
    assert result["loss"] != result["loss"]


def encoded(tokenizer, *examples, max_length: int = 100):
    return COMPLETIONS.encode(examples, tokenizer, Encoding(max_length))


def test_what_ends_with_no_newline_is_trained_to_end(tokenizer) -> None:
    end, newline = tokenizer.eos_token_id, tokenizer.encode("\n", add_special_tokens=False)[0]
    short, several = encoded(
        tokenizer, answered("Q", "Ann"), answered("Q", "4", written="one\ntwo")
    )
    assert short.candidates[0][-1] == newline
    assert tokenizer.decode(short.candidates[0]) == " Ann\n"
    assert several.candidates[0][-1] == end
    assert tokenizer.decode(several.candidates[0][:-1]) == "one\ntwo"
    endless = ls.tiny_tokenizer()
    endless.eos_token = None
    (bare,) = encoded(endless, answered("Q", "4", written="two"))
    assert endless.decode(bare.candidates[0]) == "two"


@pytest.mark.parametrize("written", ["answer\n", "answer"])
def test_a_row_that_is_too_long_leaves_room_for_its_answer_and_its_end(written, tokenizer) -> None:
    example = answered("p" * 50, "answer", written=written)
    (row,) = encoded(tokenizer, example, max_length=30)
    assert row.length == 30
    first = tokenizer.bos_token_id
    assert row.prompt[0] == first
    assert len(row.candidates[0]) == 7


def test_a_passage_of_a_hundred_thousand_tokens_is_read_to_its_end(tokenizer) -> None:
    question = "\nQuestion: Who?\nAnswer:"
    examples = (answered("Passage: " + "a " * 50_000 + question, "Ann"), answered("Q", "Bo"))
    model = ls.tiny_model("opt")
    result = evaluate(model, tokenizer, toy(examples), max_length=200)
    assert 0 <= result["token_f1"] <= 1
    (row, _) = encoded(tokenizer, *examples, max_length=200)
    assert row.length == 200
    assert tokenizer.decode(row.prompt[1:]).endswith(question)


def test_a_completion_is_trained_on_and_learned(tokenizer) -> None:
    """After training on one question its text is the answer."""
    model = ls.tiny_model("llama")
    examples = tuple(answered(f"film {i % 3} is", "good") for i in range(12))
    task = toy(examples)
    full(model)
    before = evaluate(model, tokenizer, task)["token_f1"]
    run = ls.finetune(model, tokenizer, task, lr=1e-2, epochs=8, batch_size=4, seed=0)
    assert before < 0.5 < run.metrics["test"]["token_f1"]
