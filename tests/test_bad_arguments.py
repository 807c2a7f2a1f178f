"""One sentence for every argument of the library that cannot be."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sentences import row, the_sentence
from torch import nn

import landscape as ls

TOKENIZER = ls.tiny_tokenizer()
RIGHT = ls.Example("a film", (" terrible", " great"), 1)


def task() -> ls.Task:
    splits = [(ls.Example(f"film {i}", (" terrible", " great"), i % 2),) for i in range(3)]
    return ls.Task("toy", *splits)


def plain() -> nn.Module:
    return ls.tiny_model("opt", hidden_size=8, word_embed_proj_dim=8, ffn_dim=8)


def finetune(**arguments: object) -> Callable[[], object]:
    return lambda: ls.finetune(plain(), TOKENIZER, task(), **{"lr": 1e-3, **arguments})


def mask(**arguments: object) -> Callable[[], object]:
    return lambda: ls.random_mask(plain(), **arguments)


def adamw(**arguments: object) -> Callable[[], object]:
    return lambda: ls.AdamW([nn.Parameter(torch.zeros(3))], **{"lr": 1e-3, **arguments})


def example(**fields: object) -> Callable[[], object]:
    return lambda: ls.Example(
        **{"prompt": "a", "candidates": (" b", " c"), "label": 0, **fields}  # type: ignore[arg-type]
    )


def toy(**fields: object) -> Callable[[], object]:
    return lambda: ls.Task(
        **{"name": "toy", "train": (RIGHT,), "dev": (RIGHT,), "test": (RIGHT,), **fields}  # type: ignore[arg-type]
    )


ARGUMENTS = [
    row("rate below zero", finetune(lr=-1), "lr", "above 0", "got -1"),
    row("rate of nan", finetune(lr=math.nan), "lr", "got nan"),
    row("rate as a text", finetune(lr="0.1"), "lr", "the text '0.1'"),
    row("half an epoch", finetune(epochs=1.5), "epochs", "whole number", "got 1.5"),
    row("no epoch", finetune(epochs=0), "epochs", "at least 1", "got 0"),
    row("epochs as a boolean", finetune(epochs=True), "epochs", "got True"),
    row("batches of none", finetune(batch_size=0), "batch_size", "got 0"),
    row("seed below zero", finetune(seed=-1), "seed", "from 0 to 4,294,967,295", "got -1"),
    row("seed of 2^32", finetune(seed=2**32), "seed", "got 4294967296"),
    row("seed of half", finetune(seed=0.5), "seed", "got 0.5"),
    row("decay below zero", finetune(weight_decay=-0.1), "weight_decay", "got -0.1"),
    row("one beta", finetune(betas=0.9), "betas", "two numbers", "got 0.9"),
    row("beta of one", finetune(betas=(0.9, 1.0)), "betas", "below 1", "got 1.0"),
    row("eps below zero", finetune(eps=-1e-8), "eps", "got -1e-08"),
    row("clipping at minus one", finetune(max_gradient_norm=-1), "max_gradient_norm", "got -1"),
    row("clipping at zero", finetune(max_gradient_norm=0), "max_gradient_norm", "above 0"),
    row("clipping at nan", finetune(max_gradient_norm=math.nan), "max_gradient_norm", "got nan"),
    row("no checkpoint", finetune(checkpoint_every=0), "checkpoint_every", "got 0"),
    row("no evaluation", finetune(evaluations_per_epoch=0), "evaluations_per_epoch", "got 0"),
    row("test as a number", finetune(test=1), "test", "True or False", "got 1"),
    row("schedule as a text", finetune(schedule="static"), "schedule", "the text 'static'"),
    row("no model", lambda: ls.finetune(None, TOKENIZER, task(), lr=1), "model", "got None"),
    row("a wrapped model", lambda: ls.evaluate(nn.DataParallel(plain()), TOKENIZER, task()),
        "a DataParallel", "give its .module"),
    row("no task", lambda: ls.finetune(plain(), TOKENIZER, None, lr=1), "task", "got None"),
    row("ratio as a text", mask(ratio="0.1"), "ratio", "the text '0.1'"),
    row("ratio of nan", mask(ratio=math.nan), "ratio", "got nan"),
    row("count of a half", mask(count=2.5), "count", "whole number", "got 2.5"),
    row("density above one", mask(density=1.5), "density", "at most 1", "got 1.5"),
    row("no budget", mask(), "exactly one of ratio, density and count", "got none"),
    row("two budgets", mask(ratio=0.1, count=2), "exactly one", "got ratio and count"),
    row("mask of no weight", mask(ratio=1e-12), "at least one weight", "got none", "raise"),
    row("mask's seed", mask(count=2, seed=-1), "seed", "got -1"),
    row("sampling", mask(count=2, sampling="quantum"), "bernoulli, exact", "'quantum'"),
    row("targets as a number", mask(count=2, targets=3), "targets", "got 3"),
    row("no targets", mask(count=2, targets=[]), "targets", "at least one pattern"),
    row("moments' rate", adamw(lr=0), "lr", "above 0"),
    row("moments' betas", adamw(betas=(0.9, -0.1)), "betas", "got -0.1"),
    row("moments' eps", adamw(eps=math.nan), "eps", "got nan"),
    row("moments' decay", adamw(weight_decay="no"), "weight_decay", "the text 'no'"),
    row("no prompt", example(prompt=None), "prompt", "a text", "got None"),
    row("label as a boolean", example(label=True), "label", "got True"),
    row("label of a half", example(label=0.5), "label", "got 0.5"),
    row("label without candidate", example(label=2), "label from 0 to 1", "got 2"),
    row("candidates in one text", example(candidates=" ab"), "candidates", "the text ' ab'"),
    row("candidate of a number", example(candidates=(" a", 3)), "candidates", "got 3"),
    row("unknown loss", toy(loss="lm"), "loss", "classification, language modelling", "'lm'"),
    row("unknown metric", toy(metric="bleu"), "metric", "accuracy", "'bleu'"),
    row("no examples", toy(dev=()), "at least one example in the dev split", "got none"),
    row("rows for examples", toy(train=[{"text": "a"}]), "train", "Example", "got {'text': 'a'}"),
    row("unknown task", lambda: ls.load_task("imdb"), "rotten_tomatoes, sst2", "'imdb'"),
    row("empty split", lambda: ls.load_task("sst2", num_dev=0), "num_dev", "at least 1", "got 0"),
    row("seed of a split", lambda: ls.load_task("sst2", seed=-1), "seed", "got -1"),
    row("no label", lambda: ls.load_model("minilm-l6", num_labels=0), "labels", "at least 1"),
    row("half a label", lambda: ls.load_model("minilm-l6", num_labels=2.5), "labels", "got 2.5"),
    row("whole weights", lambda: ls.load_model("x", dtype=torch.int8), "dtype", "torch.int8"),
    row("no name", lambda: ls.load_model(None), "name", "a path", "got None"),
    row("no such folder", lambda: ls.load_model("./nowhere"), "a folder at ./nowhere", "check"),
]  # fmt: skip


@pytest.mark.parametrize("bad", ARGUMENTS)
@pytest.mark.filterwarnings("ignore:expected splits")
def test_a_wrong_argument_is_refused_with_what_was_expected_what_came_and_what_to_do(bad) -> None:
    said = the_sentence(bad.provoke)
    for words in bad.words:
        assert words in said


def test_numpys_numbers_are_numbers_and_a_runs_configuration_holds_plain_ones(tmp_path) -> None:
    model = plain()
    ls.attach(model, ls.random_mask(model, count=np.int64(5), seed=np.uint32(3), sampling="exact"))
    run = ls.finetune(
        model, TOKENIZER, task(), lr=np.float32(0.5), epochs=np.int64(1), batch_size=np.int32(1),
        seed=np.int64(7), folder=tmp_path / "run",
    )  # fmt: skip
    assert [type(run.config[key]) for key in ("lr", "epochs", "batch_size", "seed")] == [
        float, int, int, int
    ]  # fmt: skip
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 7
    assert type(ls.Example("a", (" b", " c"), np.int64(1)).label) is int


def test_examples_in_two_splits_are_named_with_their_number_and_few_are_not() -> None:
    many = tuple(ls.Example(f"film {i}", (" b", " c"), 0) for i in range(400))
    with pytest.warns(UserWarning, match="3 of the 200 in dev are in train"):
        ls.Task("toy", many[:103], many[100:300], many[300:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ls.Task("toy", many[:102], many[100:300], many[300:])


def test_a_pattern_that_matches_nothing_is_answered_with_one_that_matches() -> None:
    cases = [
        (plain(), "*.0"),
        (nn.Sequential(nn.Linear(2, 2)), "*.0"),
        (ls.tiny_model("bert"), "*.q_proj"),
    ]
    suggested = []
    for model, pattern in cases:
        said = the_sentence(lambda: ls.random_mask(model, count=1, targets=pattern))  # noqa: B023
        suggested.append(eval(said.rpartition("give targets=")[2]))
        assert ls.random_mask(model, count=1, targets=suggested[-1], sampling="exact").count == 1
    assert suggested == ["*.[qv]_proj", "0", ["*.query", "*.value"]]
