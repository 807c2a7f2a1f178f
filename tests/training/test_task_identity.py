"""A run's folder belongs to one task: whatever a task of any kind asks makes another run of it."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
from headed import Headed

import landscape as ls
from landscape.errors import UserError
from landscape.tasks.files.pixels import netpbm

ARCHITECTURES = {"pairs": "bert", "classes": "bert", "numbers": "bert", "tags": "bert",
                 "images": "vit"}  # fmt: skip


def example(i: int) -> Any:
    return ls.Example(f"film {i} is", (" bad", " good", " fine"), i % 2)


def completion(i: int) -> Any:
    return ls.Completion(f"{i} and {i} are", (str(2 * i), f"{2 * i}.0"))


def task_of(form: str) -> ls.Task:
    if form in ARCHITECTURES:
        return Headed(form, ARCHITECTURES[form]).task()
    make = {"prompts": example, "completions": completion}[form]
    rows = tuple(make(i) for i in range(6))
    return ls.Task("toy", rows[:2], rows[2:4], rows[4:], "token_f1" if make is completion else
                   "accuracy")  # fmt: skip


def with_first(task: ls.Task, **change: Any) -> ls.Task:
    first, *others = task.train
    return dataclasses.replace(task, train=(dataclasses.replace(first, **change), *others))


def called_anew(task: ls.Task, **change: Any) -> ls.Task:
    """Change a field of all examples, as their classes are."""
    splits = {name: tuple(dataclasses.replace(e, **change) for e in task.split(name))
              for name in ("train", "dev", "test")}  # fmt: skip
    return dataclasses.replace(task, **splits)


GREY = np.zeros((4, 4), np.uint8)

#: a form of examples, a change of its task, and of what the sentence speaks
CHANGES: dict[str, tuple[str, Any, str]] = {
    "another right candidate": (
        "prompts", lambda t: with_first(t, also_right=(2,)), "train rows differ in their labels"),
    "another candidate": (
        "prompts", lambda t: with_first(t, candidates=(" bad", " good", " ok")),
        "train rows differ in their texts"),
    "the loss": (
        "prompts", lambda t: dataclasses.replace(t, loss="language modelling"),
        "loss .* there, 'language modelling' asked for"),
    "the metric": (
        "prompts", lambda t: dataclasses.replace(t, metric="macro_f1"),
        "metric .* there, 'macro_f1' asked for"),
    "an answer": (
        "completions", lambda t: with_first(t, answers=("0", "zero")),
        "train rows differ in their labels"),
    "what is written": (
        "completions", lambda t: with_first(t, written=" 0 it is\n"),
        "train rows differ in their labels"),
    "the new tokens": (
        "completions", lambda t: dataclasses.replace(t, generation=ls.Generation(3)),
        "generation .* there, .* asked for"),
    "the way to stop": (
        "completions",
        lambda t: dataclasses.replace(t, generation=ls.Generation(50, stop_by="token")),
        "generation .* there, .* asked for"),
    "the second text of a pair": (
        "pairs", lambda t: with_first(t, texts=(t.train[0].texts[0], "and not")),
        "train rows differ in their texts"),
    "the order of classes": (
        "classes", lambda t: called_anew(t, classes=t.train[0].classes[::-1]),
        "train rows differ in their labels"),
    "a number": (
        "numbers", lambda t: with_first(t, label=7.25), "train rows differ in their labels"),
    "a tag": (
        "tags", lambda t: with_first(t, tags=("O",) * len(t.train[0].tags)),
        "train rows differ in their labels"),
    "a word": (
        "tags", lambda t: with_first(t, words=("zoo", *t.train[0].words[1:])),
        "train rows differ in their texts"),
    "an image": (
        "images", lambda t: with_first(t, image=netpbm(GREY)), "train rows differ in their texts"),
}  # fmt: skip


def run(task: ls.Task, reader: Any, form: str, folder: Any) -> ls.Run:
    if form in ARCHITECTURES:
        model = Headed(form, ARCHITECTURES[form]).model()
    else:
        model = ls.tiny_model("llama")
    ls.attach(model, ls.random_mask(model, density=0.3, targets="auto"))
    return ls.finetune(
        model, reader, task, lr=1e-3, epochs=1, select_by="loss", test=False, folder=folder
    )


def reader_of(form: str) -> Any:
    return Headed(form, ARCHITECTURES[form]).reader() if form in ARCHITECTURES else (
        ls.tiny_tokenizer())  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_tasks_that_differ_in_one_field_do_not_share_a_folder(name: str, tmp_path) -> None:
    form, change, words = CHANGES[name]
    task, reader = task_of(form), reader_of(form)
    run(task, reader, form, tmp_path)
    with pytest.raises(UserError, match=words):
        run(change(task), reader, form, tmp_path)
    assert run(task, reader, form, tmp_path).stored


def test_image_processors_of_other_sizes_or_means_do_not_share_a_folder(tmp_path) -> None:
    task, reader = task_of("images"), reader_of("images")
    run(task, reader, "images", tmp_path)
    for name, value in {"image_mean": [0.1, 0.2, 0.3], "do_normalize": False}.items():
        other = copy.deepcopy(reader)
        setattr(other, name, value)
        with pytest.raises(UserError, match="tokenizer contents differ"):
            run(task, other, "images", tmp_path)
