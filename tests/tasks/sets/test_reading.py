"""SQuAD and DROP: prompts typed by hand, the official files and the hub's rows, and bad rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from samples import jsonl_file, parquet_file, real_rows, rows_on_the_hub

import landscape as ls
from landscape.errors import UserError
from landscape.tasks import DATASETS, Completion

SPANS = {"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": ["Ann", "Bo Lee"]}
NUMBER = {**SPANS, "number": "14", "spans": []}
DATE = {**SPANS, "date": {"day": "", "month": "May", "year": "1903"}, "spans": []}
NOTHING = {**SPANS, "spans": []}
TWO_KINDS = {**NUMBER, "spans": ["Ann"]}


def squad_files(folder: Path) -> Path:
    """Write a release of two articles: three questions, of which each file has all."""
    answers = [{"text": "in 1903", "answer_start": 4}, {"text": "1903", "answer_start": 7}]
    first = {
        "context": " It was in 1903.\nBo came.",
        "qas": [
            {"id": "a", "question": "  When was it? ", "answers": answers},
            {"id": "b", "question": "Who came?", "answers": answers[1:]},
        ],
    }
    second = {"context": "Mills grind.", "qas": [{**first["qas"][1], "question": "What grinds?"}]}
    data = [
        {"title": "The_Old_Mill", "paragraphs": [first]},
        {"title": "", "paragraphs": [second]},
    ]
    for name in ("train-v1.1.json", "dev-v1.1.json"):
        (folder / name).write_text(json.dumps({"data": data, "version": "1.1"}))
    return folder


def drop_files(folder: Path, train: Any, dev: Any) -> Path:
    """Write a release of one passage: each entry is the answers of a question."""
    for name, pairs in (("train", train), ("dev", dev)):
        asked = [{"question": f" {name} {i}? ", "query_id": "q", **p} for i, p in enumerate(pairs)]
        text = json.dumps({"nfl_1": {"passage": "Ann met Bo Lee. ", "qa_pairs": asked}})
        (folder / f"drop_dataset_{name}.json").write_text(text)
    return folder


def load(name: str, folder: Path, train: int = 1, dev: int = 1) -> ls.Task:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("landscape.tasks.task.Task._warn_of_shared", lambda task: None)
        return ls.load_task(name, source=folder, num_train=train, num_dev=dev)


def test_squad_asks_with_title_context_and_question_and_trains_on_the_first_answer(
    tmp_path,
) -> None:
    task = load("squad", squad_files(tmp_path))
    first = Completion(
        "Title: The_Old_Mill\nContext:  It was in 1903.\nBo came.\nQuestion: When was it?\nAnswer:",
        ("in 1903", "1903"),
        " in 1903\n",
    )
    second = Completion(
        "Title: The_Old_Mill\nContext:  It was in 1903.\nBo came.\nQuestion: Who came?\nAnswer:",
        ("1903",),
        " 1903\n",
    )
    third = Completion(
        "Title: \nContext: Mills grind.\nQuestion: What grinds?\nAnswer:", ("1903",), " 1903\n"
    )
    assert set(task.test) == {first, second, third}
    assert (task.metric, task.loss) == ("token_f1", "language modelling")
    assert (task.generation.max_new_tokens, task.generation.stop) == (50, ("\n",))


@pytest.mark.parametrize("layout", ["jsonl", "parquet", "hub"])
def test_squads_flat_rows_are_the_same_questions(layout, tmp_path, monkeypatch) -> None:
    rows = [
        {"id": str(i), "title": "A_B", "context": "C is D.", "question": f" C{i}? ",
         "answers": {"text": ["D", "is D"], "answer_start": [5, 2]}}
        for i in range(3)
    ]  # fmt: skip
    if layout == "hub":
        asked = rows_on_the_hub(monkeypatch, {"train": rows, "validation": rows[:1]})
        task = ls.load_task("squad", num_train=1, num_dev=1)
        assert asked[0][0] == "rajpurkar/squad"
    else:
        if layout == "jsonl":
            jsonl_file(tmp_path / "train.jsonl", rows)
            jsonl_file(tmp_path / "validation.jsonl", rows[:1])
        else:
            parquet_file(tmp_path / "train-00000-of-00001.parquet", rows)
            parquet_file(tmp_path / "validation-00000-of-00001.parquet", rows[:1])
        task = load("squad", tmp_path)
    prompt = "Title: A_B\nContext: C is D.\nQuestion: C0?\nAnswer:"
    assert task.test == (Completion(prompt, ("D", "is D"), " D\n"),)


def test_drop_answers_are_a_number_else_a_date_else_each_span_apart(tmp_path) -> None:
    dev = [
        {"answer": NOTHING, "validated_answers": [answer]} for answer in (SPANS, NUMBER, DATE)
    ] + [{"answer": NOTHING, "validated_answers": [NUMBER, SPANS]}]
    task = load("drop", drop_files(tmp_path, [{"answer": NUMBER}] * 2, dev))
    found = {e.prompt.split("Question: ")[1]: e.answers for e in task.test}
    assert found == {
        "dev 0?\nAnswer:": ("Ann", "Bo Lee"),
        "dev 1?\nAnswer:": ("14",),
        "dev 2?\nAnswer:": ("May 1903",),
        "dev 3?\nAnswer:": ("14", "Ann", "Bo Lee"),
    }
    assert task.train[0].prompt.startswith("Passage: Ann met Bo Lee. \nQuestion: train ")
    assert task.train[0].written == " 14\n"
    assert DATASETS["drop"].micro_batch == 1


def test_drop_trains_on_its_answer_and_tests_on_the_validated_ones(tmp_path) -> None:
    both = {"answer": NUMBER, "validated_answers": [DATE]}
    task = load("drop", drop_files(tmp_path, [both, both], [both, {"answer": NUMBER}]))
    assert {e.answers for e in (*task.train, *task.dev)} == {("14",)}
    # a file without validated answers, such as a contrast set, has the one
    assert {e.answers for e in task.test} == {("May 1903",), ("14",)}


def test_drop_leaves_out_questions_whose_answer_is_nothing_or_of_two_kinds(tmp_path) -> None:
    train = [{"answer": answer} for answer in (NUMBER, NOTHING, DATE, TWO_KINDS)]
    dev = [
        {"answer": NUMBER, "validated_answers": answers}
        for answers in ([NUMBER], [NUMBER, NOTHING], [])
    ]
    task = load("drop", drop_files(tmp_path, train, dev))
    assert {e.answer for e in (*task.train, *task.dev)} == {"14", "May 1903"}
    assert len(task.test) == 1
    assert task.source["left_out"] == {"drop_dataset_train.json": 2, "drop_dataset_dev.json": 2}


def test_drop_on_the_hub_has_its_answers_read_already(monkeypatch) -> None:
    rows = [
        {"section_id": "s", "query_id": str(i), "passage": "P.", "question": f"Q{i}?",
         "answers_spans": {"spans": ["a b", "c"], "types": ["span", "span"]}}
        for i in range(3)
    ]  # fmt: skip
    asked = rows_on_the_hub(monkeypatch, {"train": rows[:2], "validation": rows[2:]})
    task = ls.load_task("drop", num_train=1, num_dev=1)
    assert asked[0][0] == "ucinlp/drop"
    assert task.test == (Completion("Passage: P.\nQuestion: Q2?\nAnswer:", ("a b", "c"), " a b\n"),)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("data"), "a column 'data' in dev-v1.1.json, got the columns version"),
        (lambda d: d.update(data={}), "a list of objects in the column 'data' of dev-v1.1.json"),
        (
            lambda d: d["data"][1]["paragraphs"][0]["qas"][0].pop("question"),
            r"'question' in dev-v1.1.json, data\[1\], paragraphs\[0\], qas\[0\]",
        ),
        (
            lambda d: d["data"][0]["paragraphs"][0]["qas"][1].update(answers=[]),
            r"at least one answer in dev-v1.1.json, data\[0\], paragraphs\[0\], qas\[1\]",
        ),
        (
            lambda d: d["data"][0]["paragraphs"][0].update(context=" "),
            "a text that is not blank in the column 'context'",
        ),
        (
            lambda d: d["data"][0]["paragraphs"][0]["qas"][0].update(answers=[{"text": 3}]),
            r"a text in the column 'text' of .*qas\[0\], answers\[0\], got 3",
        ),
    ],
)
def test_a_bad_question_is_named_by_its_place_in_the_file(change, said, tmp_path) -> None:
    path = squad_files(tmp_path) / "dev-v1.1.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=said):
        load("squad", tmp_path)


def test_a_truncated_or_foreign_file_is_refused(tmp_path) -> None:
    path = squad_files(tmp_path) / "dev-v1.1.json"
    whole = path.read_text()
    path.write_text(whole[:-9])
    with pytest.raises(UserError, match=r"JSON in dev-v1.1.json, got what is none .*; fetch"):
        load("squad", tmp_path)
    path.write_text("[1]")
    with pytest.raises(UserError, match=r"an object in dev-v1.1.json, got list; check"):
        load("squad", tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"dev-v1.1.json or validation.jsonl"):
        load("squad", tmp_path)


def test_a_bad_passage_of_drop_is_named_by_its_place_in_the_file(tmp_path) -> None:
    drop_files(tmp_path, [{"answer": NUMBER}] * 2, [{"answer": {"number": "1"}}])
    with pytest.raises(UserError, match=r"'date' in .*dev.json, nfl_1, qa_pairs\[0\], answer, got"):
        load("drop", tmp_path)


def test_real_rows_of_squad_are_read_whole() -> None:
    task = ls.load_task("squad", source=real_rows("squad"))
    rows = real_rows("squad", "validation.jsonl").read_text("utf-8").splitlines()
    found = {e.prompt for e in task.test}
    assert len(task.test) == min(1000, len(rows))
    for row in map(json.loads, rows):
        question = row["question"].strip()
        end = f"Context: {row['context']}\nQuestion: {question}\nAnswer:"
        assert f"Title: {row['title']}\n{end}" in found
    assert (len(task.train), len(task.dev)) == (1000, 500)


def test_real_rows_of_drop_have_an_answer_each(tmp_path) -> None:
    shutil.copy(
        real_rows("drop", "drop_contrast_sets_test.json"), tmp_path / "drop_dataset_train.json"
    )
    shutil.copy(real_rows("drop", "drop_fixture.json"), tmp_path / "drop_dataset_dev.json")
    task = ls.load_task("drop", source=tmp_path, num_train=600, num_dev=100)
    assert all(answer.strip() for e in task.train for answer in e.answers)
    assert task.source["rows"]["train"] + task.source["left_out"]["drop_dataset_train.json"] == 947
