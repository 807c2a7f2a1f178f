"""Problems in mathematics: each layout typed by hand, the one file's split, and bad rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from samples import jsonl_file, real_rows, rows_on_the_hub

import landscape as ls
from landscape.errors import UserError
from landscape.tasks import DATASETS, Completion
from landscape.tasks.files.row import Row
from landscape.tasks.metrics import METRICS

FRAME = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\nHow many?\n\n### Response:\n"
)
NAMES = ("gsm8k", "svamp", "multiarith", "addsub", "singleeq", "aqua")


def read(name: str, **columns: object) -> Completion:
    (example,) = DATASETS[name].prompts(Row(columns, "rows.json, row 1"))
    return example


@pytest.mark.parametrize("name", NAMES)
def test_a_problem_is_an_instruction_and_training_appends_its_solution(name) -> None:
    solution = "\nA: Ann has 7 - 3 = 4 mills. The answer is 4."
    example = read(name, instruction=" How many? ", input="", output=solution, answer="4.0")
    assert example == Completion(FRAME, ("4",), "Ann has 7 - 3 = 4 mills. The answer is 4.")
    dataset = DATASETS[name]
    assert (dataset.metric, dataset.generation.max_new_tokens) == ("final_answer", 256)
    assert dataset.generation.stop == ()


@pytest.mark.parametrize(
    ("columns", "answer", "written"),
    [
        (  # a solution that is wrong, or none, is not trained on
            {"instruction": "How many?", "output": "A: 3 + 4 = 8. The answer is 8.", "answer": 7},
            "7", "The answer is 7.",
        ),
        (
            {"instruction": "How many?", "output": "", "answer": "1,000.50"},
            "1000.5", "The answer is 1000.5.",
        ),
        (  # a mixture holds options too, and lists of answers
            {"instruction": "How many?", "output": "Half. The answer is (C).", "answer": ["C"]},
            "C", "Half. The answer is (C).",
        ),
        (
            {"question": "How many?", "answer": "Ann has 48/2 = <<48/2=24>>24.\nAll: $1,<<x>>080"
             "\n#### 1,080"},
            "1080", "Ann has 48/2 = 24.\nAll: $1,080\n#### 1080",
        ),
        ({"sQuestion": " How many? ", "lSolutions": [12.0], "iIndex": 3}, "12",
         "The answer is 12."),
        ({"Body": "How", "Question": " many? ", "Answer": 2.5, "Equation": "x"}, "2.5",
         "The answer is 2.5."),
    ],
)  # fmt: skip
def test_each_layout_gives_the_problem_its_answer_and_its_solution(
    columns, answer, written
) -> None:
    assert read("svamp", **columns) == Completion(FRAME, (answer,), written)


def test_aqua_lists_its_options_and_ends_with_the_letter_of_the_right_one() -> None:
    example = read(
        "aqua", question="How many? ", options=["A)3 mills", "B)$4", "C) none", "D)1/2", "E)5"],
        rationale="Seven less three.\nSo B", correct="B",
    )  # fmt: skip
    assert example.prompt == FRAME.replace(
        "How many?",
        "How many? Answer Choices: (A) 3 mills (B) $4 (C) none (D) 1/2 (E) 5",
    )
    assert example.answers == ("B",)
    assert example.written == "Seven less three.\nSo B\nThe answer is B."
    assert METRICS["final_answer"]([example.written], [example.answers]) == 1


def test_aquas_official_files_hold_an_object_a_line_whatever_their_name_says(tmp_path) -> None:
    rows = [
        {"question": f"Q{i}?", "options": ["A)1", "B)2"], "rationale": "", "correct": "AB"[i % 2]}
        for i in range(5)
    ]
    jsonl_file(tmp_path / "train.json", rows[:3])
    jsonl_file(tmp_path / "test.json", rows[3:])
    task = ls.load_task("aqua", source=tmp_path, num_train=2, num_dev=1)
    assert sorted((e.answers, e.written) for e in task.test) == [
        (("A",), "The answer is A."),
        (("B",), "The answer is B."),
    ]
    with (tmp_path / "train.json").open("a") as stream:
        stream.write('{"question": \n')
    with pytest.raises(UserError, match=r"a JSON object in train.json, line 4"):
        ls.load_task("aqua", source=tmp_path, num_train=2, num_dev=1)


def problems(path: Path, count: int, repeated: int = 0) -> Path:
    rows = [
        {"instruction": f"Problem {i}?", "input": "", "output": "", "answer": f"{i}.0"}
        for i in [*range(count), *range(repeated)]
    ]
    path.write_text(json.dumps(rows))
    return path


def test_one_file_is_dealt_to_three_parts_that_share_no_text(tmp_path) -> None:
    problems(tmp_path / "test.json", 40, repeated=5)
    sizes = {"num_train": 10, "num_dev": 5, "num_test": 12}
    task = ls.load_task("svamp", source=tmp_path, seed=3, **sizes)
    parts = [{e.prompt for e in task.split(name)} for name in ("train", "dev", "test")]
    assert [len(part) for part in parts] == [10, 5, 12]
    assert len(set.union(*parts)) == 27
    assert "parts of the one file" in task.source["split"]
    assert task.source["rows"]["train"] == 40
    again = ls.load_task("svamp", source=tmp_path, seed=3, **sizes)
    other = ls.load_task("svamp", source=tmp_path, seed=4, **sizes)
    assert again.test == task.test != other.test
    # test is all that is left where less is
    assert len(ls.load_task("svamp", source=tmp_path, **{**sizes, "num_test": 99}).test) == 25
    with pytest.raises(UserError, match="fewer than 40 training and dev examples"):
        ls.load_task("svamp", source=tmp_path, num_train=30, num_dev=10)


def test_without_a_folder_the_one_file_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"a folder with test.json of the official release"):
        ls.load_task("svamp")


@pytest.mark.parametrize("name", ["train.json", "math_10k.json"])
def test_a_training_file_beside_it_leaves_the_test_file_whole(name, tmp_path) -> None:
    problems(tmp_path / "test.json", 6)
    path = problems(tmp_path / name, 30)
    path.write_text(path.read_text().replace("Problem", "Other problem"))
    task = ls.load_task("multiarith", source=tmp_path, num_train=20, num_dev=10)
    assert len(task.test) == 6
    assert all("Other" in e.prompt for e in (*task.train, *task.dev))
    assert "split" not in task.source


def test_gsm8k_and_aqua_come_from_the_hub_with_their_test_splits(monkeypatch) -> None:
    rows = [{"question": f"Q{i}?", "answer": f"So {i}.\n#### {i}"} for i in range(3)]
    asked = rows_on_the_hub(monkeypatch, {"train": rows[:2], "test": rows[2:]})
    task = ls.load_task("gsm8k", num_train=1, num_dev=1)
    assert asked[0][:2] == ("openai/gsm8k", "main")
    assert task.test[0].answers == ("2",)
    assert DATASETS["aqua"].hub.repository == "deepmind/aqua_rat"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"instruction": "Q", "output": "", "answer": "four"}, "that is a number, or a letter"),
        ({"instruction": "Q", "output": "", "answer": []}, "that is a number, or a letter"),
        ({"instruction": " ", "output": "", "answer": "4"}, "that is not blank .* 'instruction'"),
        ({"instruction": "Q", "answer": "4"}, "a column 'output' in rows.json, row 1"),
        ({"question": "Q", "answer": "So it is 4."}, "ends with #### and a number in rows.json"),
        ({"question": "Q", "options": ["3", "4"], "rationale": "", "correct": "A"}, "options such"),
        ({"question": "Q", "options": [], "rationale": "", "correct": "A"}, "options such"),
        ({"text": "Q"}, "a column 'answer' in rows.json, row 1, got the columns text"),
    ],
)
def test_a_bad_problem_is_one_sentence_with_its_place(columns, said) -> None:
    with pytest.raises(UserError, match=said):
        read("gsm8k", **columns)


@pytest.mark.parametrize(
    ("name", "folder", "rows", "wrong"),
    [
        ("svamp", "SVAMP", 1000, 197), ("multiarith", "MultiArith", 580, 40),
        ("addsub", "AddSub", 395, 25), ("singleeq", "SingleEq", 508, 24),
    ],
)  # fmt: skip
def test_real_problems_are_each_once_and_their_solutions_end_right(
    name, folder, rows, wrong
) -> None:
    task = ls.load_task(name, source=real_rows("math", folder))
    assert task.source["rows"]["train"] == rows
    bare = 0
    for example in (*task.train, *task.dev, *task.test):
        assert METRICS["final_answer"]([example.written], [example.answers]) == 1
        bare += example.written == f"The answer is {example.answer}."
    assert bare <= wrong


def test_real_problems_of_gsm8k_end_with_their_number() -> None:
    task = ls.load_task("gsm8k", source=real_rows("gsm8k"))
    for example in (*task.train, *task.test):
        assert example.written.endswith(f"\n#### {example.answer}")
        assert "<<" not in example.written
        float(example.answer)
