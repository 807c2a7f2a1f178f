"""GLUE and SuperGLUE on rows of the real files, in the folder that LANDSCAPE_TEST_DATA names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from samples import real_rows

from landscape.tasks import DATASETS, load_task
from landscape.tasks.files.rows import read_rows

REAL = [
    # rows or answers of the two files, and how many of each label the second has
    ("rte", "superglue/RTE", 2000, 277, {0: 146, 1: 131}),
    ("cb", "superglue/CB", 250, 56, {0: 23, 1: 28, 2: 5}),
    ("boolq", "superglue/BoolQ", 32, 1000, {0: 617, 1: 383}),
    ("wsc", "superglue/WSC", 554, 104, {0: 66, 1: 38}),
    ("wic", "superglue/WiC", 2000, 638, {0: 319, 1: 319}),
    ("multirc", "superglue/MultiRC", 1995, 991, None),
    ("copa", "superglue/COPA", 400, 100, {0: 55, 1: 45}),
    ("record", "superglue/ReCoRD", 32, 11, None),
    ("sst2", "glue/SST-2", 2000, 872, {0: 428, 1: 444}),
    ("cola", "glue/CoLA", 2000, 1000, None),
    ("mrpc", "glue/MRPC", 2000, 408, {0: 129, 1: 279}),
    ("stsb", "glue/STS-B", 2000, 1000, None),
    ("qnli", "glue/QNLI", None, 1000, None),
    ("rte", "glue/RTE", 2000, 277, {0: 146, 1: 131}),
]
SHARED = {"wsc": "6 of the 50 in dev are in train"}
"""What is said of the splits: WSC's own training rows repeat some."""


def rows_of(folder: str, file: str) -> list[Mapping[str, Any]]:
    return [row.values for row in read_rows(real_rows(*folder.split("/"), file))]


def examples_of(name: str, folder: str, file: str) -> list[Any]:
    found, path = DATASETS[name], real_rows(*folder.split("/"), file)
    read = found.heads if folder.startswith("glue") else found.prompts
    assert read is not None
    return [example for row in found.read(path) for example in read(row)]


@pytest.mark.parametrize(("name", "folder", "train", "validation", "labels"), REAL)
def test_real_rows_are_read_whole(
    name: str, folder: str, train: int | None, validation: int, labels: dict[int, int] | None
) -> None:
    files = ("train.tsv", "dev.tsv") if folder.startswith("glue") else ("train.jsonl", "val.jsonl")
    found = examples_of(name, folder, files[1])
    assert len(found) == validation
    assert labels in (None, Counter(example.label for example in found))
    assert train is None or len(examples_of(name, folder, files[0])) == train


@pytest.mark.parametrize(
    ("name", "folder", "sizes"),
    [
        ("cb", "superglue/CB", (200, 50, 56)),
        ("wsc", "superglue/WSC", (504, 50, 104)),
        ("copa", "superglue/COPA", (300, 100, 100)),
        ("rte", "superglue/RTE", (1000, 500, 277)),
        ("rte", "glue/RTE", (1000, 500, 277)),
        ("multirc", "superglue/MultiRC", (1000, 500, 991)),
        ("mrpc", "glue/MRPC", (1000, 500, 408)),
    ],
)
def test_real_rows_make_the_papers_splits_and_only_winograd_repeats_itself(
    name: str, folder: str, sizes: tuple[int, int, int], recwarn: pytest.WarningsRecorder
) -> None:
    task = load_task(name, source=real_rows(*folder.split("/")))
    assert (len(task.train), len(task.dev), len(task.test)) == sizes
    said = [str(warning.message) for warning in recwarn]
    assert len(said) == (name in SHARED)
    assert all(SHARED[name] in sentence for sentence in said)


def test_winograd_spans_are_repaired_in_as_many_real_rows_as_on_the_hub() -> None:
    repaired = 0
    for file in ("train.jsonl", "val.jsonl"):
        rows = rows_of("superglue/WSC", file)
        for row, example in zip(rows, examples_of("wsc", "superglue/WSC", file), strict=True):
            noun, pronoun = (row["target"][f"span{i}_text"] for i in (1, 2))
            question = f'does the pronoun "{pronoun.lower()}" refer to {noun}? Yes or No?'
            # the hub changes spans; a pronoun's change of case alone does not show in the prompt
            repaired += question not in example.prompt or pronoun not in row["text"]
    assert repaired == 96


def test_to_strip_every_column_would_change_every_real_prompt_of_multirc() -> None:
    changed = total = 0
    for file in ("train.jsonl", "val.jsonl"):
        for example in examples_of("multirc", "superglue/MultiRC", file):
            paragraph = example.prompt.partition("\nQuestion: ")[0]
            changed += paragraph != paragraph.strip()
            total += 1
    assert (changed, total) == (2986, 2986)


def test_real_titles_of_boolq_are_cut() -> None:
    rows = rows_of("superglue/BoolQ", "val.jsonl")
    found = examples_of("boolq", "superglue/BoolQ", "val.jsonl")
    for row, example in zip(rows, found, strict=True):
        title, text = row["passage"].split(" -- ", 1)
        asked = row["question"]
        assert example.prompt == f"{text.strip(' ')} {asked[0].upper()}{asked[1:]}?\n"
        assert title


def test_several_real_answers_of_record_are_right() -> None:
    found = examples_of("record", "superglue/ReCoRD", "train.jsonl")
    for row, example in zip(rows_of("superglue/ReCoRD", "train.jsonl"), found):
        (asked,) = row["qas"]
        texts = sorted({answer["text"] for answer in asked["answers"]})
        right = [example.candidates[i] for i in (example.label, *example.also_right)]
        assert right == [f" {asked['query'].replace('@placeholder', t)}".rstrip(" ") for t in texts]
    assert sum(len(example.also_right) > 0 for example in found) > 5


def test_both_releases_of_rte_have_the_same_rows_in_the_same_order() -> None:
    found = examples_of("rte", "glue/RTE", "dev.tsv")
    heads = DATASETS["rte"].heads
    assert heads is not None
    path = real_rows("superglue", "RTE", "val.jsonl")
    jsonl: list[Any] = [example for row in read_rows(path) for example in heads(row)]
    assert [e.label for e in found] == [e.label for e in jsonl]
    letters = ["".join(c for text in e.texts for c in text if c.isalpha()) for e in found]
    assert letters == ["".join(c for text in e.texts for c in text if c.isalpha()) for e in jsonl]
    # SuperGLUE's lost a few quotation marks
    assert sum(a.texts != b.texts for a, b in zip(found, jsonl)) == 6
